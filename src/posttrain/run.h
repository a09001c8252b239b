// A recipe from beginning to end: checks, then all stages in order.
#pragma once

#include <cstdio>

#include "recipe/recipe.h"

namespace flyover::posttrain {

enum class RunOutcome : std::uint8_t {
  kCompleted,
  kInterrupted  ///< by SIGINT or SIGTERM; saved, and continued by a resumed run
};

struct RunOptions {
  bool resume = false;
  std::FILE* output = stdout;  ///< what a person reads
};

/// Runs all stages. Everything that can be checked is checked first: recipe, model directory, all data of all stages,
/// memory, disk. Throws Error with nothing written if a check fails.
RunOutcome run_recipe(const recipe::Recipe& recipe, const RunOptions& options);

}  // namespace flyover::posttrain
