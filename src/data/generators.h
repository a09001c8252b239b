// Text and instructions that the project generates itself: for the quickstart, and wherever no data are at hand.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/row_formats.h"

namespace flyover::data {

/// Names for `generate:` in recipes.
std::vector<std::string> generator_names();

/// Document `index` of a generator: a pure function of (name, seed, index). Throws Error naming the known generators.
Document generate_document(std::string_view name, std::uint64_t seed, std::uint64_t index);

/// A question with the one right answer, for scoring by exact match.
struct Question {
  Conversation prompt;  ///< ends with the user's message
  std::string answer;
};

/// The kinds of tasks that a generator asks questions of; empty for plain text.
std::vector<std::string> task_names(std::string_view generator);

/// Question `index` of one task. Questions are drawn from combinations that generate_document never trains on.
Question generate_question(std::string_view generator, std::string_view task, std::uint64_t seed, std::uint64_t index);

}  // namespace flyover::data
