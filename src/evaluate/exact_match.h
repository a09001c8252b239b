// Scoring a model by exact match on generated questions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/chat_template.h"
#include "data/generators.h"
#include "models/language_model.h"
#include "tokenizer/tokenizer.h"

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

struct ExactMatchOptions {
  std::string generator;
  std::int64_t count = 100;  ///< questions per task
  std::int64_t max_new_tokens = 64;
  std::vector<std::int32_t> stop_tokens;
  std::uint64_t seed = 0;
};

/// Asks questions that no generated training example contains and compares the greedy answer, up to the stop token and
/// without reasoning and outer white space, with the right one.
Scores score_exact_match(models::LanguageModel& model, tensor::Stream& stream, const tokenizer::Tokenizer& tokenizer,
                         const data::ChatTemplate& chat_template, const ExactMatchOptions& options);

/// A table with a row for each task and a column for each of the named scores, for people.
std::string format_scores(const std::vector<std::pair<std::string, Scores>>& columns);

}  // namespace flyover::evaluate
