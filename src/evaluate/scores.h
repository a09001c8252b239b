// What an evaluation found, for people and for files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

namespace flyover::evaluate {

/// The result of one kind of task.
struct TaskScore {
  std::string task;
  std::int64_t right = 0;
  std::int64_t asked = 0;
  double accuracy() const { return asked == 0 ? 0.0 : static_cast<double>(right) / static_cast<double>(asked); }
};

/// A question with what the model said.
struct Dialogue {
  std::string task;
  std::string question;
  std::string expected;
  std::string said;
};

struct Scores {
  std::vector<TaskScore> tasks;
  std::vector<Dialogue> samples;  ///< the first question of each task
};

/// Scores under the name of what was scored ("raw", "trained"), in the order in which they are shown.
using NamedScores = std::vector<std::pair<std::string, Scores>>;

/// A table with a row for each task and a column for each of the named scores, for people.
std::string format_scores(const NamedScores& columns);

/// A list with an object for each of the named scores: name, tasks (task, right, asked) and samples (task, question,
/// expected, said).
base::Json scores_json(const NamedScores& columns);

/// Reads what scores_json made. Throws Error naming the file.
NamedScores read_scores(const std::filesystem::path& file);

}  // namespace flyover::evaluate
