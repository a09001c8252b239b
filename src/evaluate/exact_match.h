// Scoring a model by exact match on generated questions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/chat_template.h"
#include "data/generators.h"
#include "evaluate/scores.h"
#include "models/language_model.h"
#include "tokenizer/tokenizer.h"

namespace flyover::evaluate {

struct ExactMatchOptions {
  std::string generator;
  std::int64_t count = 100;  ///< questions per task
  std::int64_t max_new_tokens = 64;
  std::vector<std::int32_t> stop_tokens;
  std::uint64_t seed = 0;
};

/// Asks questions that no generated training example contains and compares the greedy answer, up to the stop token and
/// without reasoning and outer white space, with the right one. Answers end where the model's positions do. Throws
/// Error for a question that leaves no position for an answer.
Scores score_exact_match(models::LanguageModel& model, tensor::Stream& stream, const tokenizer::Tokenizer& tokenizer,
                         const data::ChatTemplate& chat_template, const ExactMatchOptions& options);

/// The longest prompts that score_exact_match enters, as many as it works on at once.
std::vector<std::vector<std::int32_t>> longest_prompts(const tokenizer::Tokenizer& tokenizer,
                                                       const data::ChatTemplate& chat_template,
                                                       const ExactMatchOptions& options);

/// Enters these prompts with the cache of score_exact_match, and generates until all are in it: on a device without
/// data, the memory that scoring takes at most. Throws Error as that does.
void rehearse_exact_match(models::LanguageModel& model, tensor::Stream& stream,
                          const std::vector<std::vector<std::int32_t>>& prompts, std::int64_t max_new_tokens);

}  // namespace flyover::evaluate
