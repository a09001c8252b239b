#include "evaluate/exact_match.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>
#include <utility>

#include <fmt/core.h>

#include "base/error.h"
#include "rollout/generator.h"

namespace flyover::evaluate {
namespace {

std::string trimmed(const std::string& text) {
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) {
    return "";
  }
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

std::string said_text(const rollout::Completion& completion, const tokenizer::Tokenizer& tokenizer) {
  const std::size_t stop = completion.finish == rollout::FinishReason::kStop ? 1 : 0;
  return trimmed(tokenizer.decode(std::span(completion.tokens).first(completion.tokens.size() - stop)));
}

/// The content of what was said, without reasoning; nothing where it is malformed.
std::optional<std::string> answer_in(const std::string& said, const data::ChatTemplate& chat_template,
                                     const data::Conversation& prompt) {
  try {
    const auto content = data::content_text(chat_template.parse_reply(said, prompt));
    return content ? std::optional(trimmed(*content)) : std::nullopt;
  } catch (const base::Error&) {
    return std::nullopt;  // a wrong answer, as many are while a model learns
  }
}

using Prompts = std::vector<std::vector<std::int32_t>>;

constexpr std::int64_t kSlots = 32;
constexpr std::int64_t kBatchTokens = 2048;

/// Calls `visit(question, prompt)` for every question, task after task.
template <typename Visit>
void for_each_question(const tokenizer::Tokenizer& tokenizer, const data::ChatTemplate& chat_template,
                       const ExactMatchOptions& options, const Visit& visit) {
  const std::vector<std::string> tasks = data::task_names(options.generator);
  base::require(!tasks.empty(), "evaluate: the generator \"{}\" asks no questions", options.generator);
  for (const std::string& task : tasks) {
    for (std::int64_t i = 0; i < options.count; ++i) {
      data::Question question =
          data::generate_question(options.generator, task, options.seed, static_cast<std::uint64_t>(i));
      auto prompt = tokenizer.encode(chat_template.render(question.prompt, true));
      visit(std::move(question), std::move(prompt));
    }
  }
}

/// With room for the longest prompt and its answer, or as much of it as the model has positions for.
rollout::Generator make_generator(models::LanguageModel& model, tensor::Stream& stream, const Prompts& prompts,
                                  std::int64_t max_new_tokens) {
  std::size_t longest = 0;
  for (const auto& prompt : prompts) {
    longest = std::max(longest, prompt.size());
  }
  const auto length = static_cast<std::int64_t>(longest);
  const std::int64_t positions = model.summary().max_position_embeddings;
  base::require(length < positions,
                "evaluate: a question has {} tokens and leaves no room for an answer: the model is made for {} "
                "(max_position_embeddings); take evaluate out, or give the model more positions",
                length, positions);
  return {model, stream, {kSlots, std::min(length + max_new_tokens, positions), kBatchTokens}};
}

}  // namespace

Scores score_exact_match(models::LanguageModel& model, tensor::Stream& stream, const tokenizer::Tokenizer& tokenizer,
                         const data::ChatTemplate& chat_template, const ExactMatchOptions& options) {
  const std::vector<std::string> tasks = data::task_names(options.generator);
  std::vector<data::Question> questions;
  Prompts prompts;
  for_each_question(tokenizer, chat_template, options, [&](data::Question question, std::vector<std::int32_t> prompt) {
    questions.push_back(std::move(question));
    prompts.push_back(std::move(prompt));
  });
  rollout::Generator generator = make_generator(model, stream, prompts, options.max_new_tokens);
  rollout::SamplingOptions sampling;
  sampling.temperature = 0.0f;
  sampling.max_new_tokens = options.max_new_tokens;
  sampling.stop_tokens = options.stop_tokens;
  const auto completions = generator.generate(prompts, sampling);
  Scores scores;
  for (std::size_t i = 0; i < questions.size(); ++i) {
    const auto index = static_cast<std::int64_t>(i) % options.count;
    const std::string& task = tasks[i / static_cast<std::size_t>(options.count)];
    const std::string said = said_text(completions[i], tokenizer);
    if (index == 0) {
      scores.tasks.push_back({task, 0, 0});
      scores.samples.push_back(
          {task, data::content_text(questions[i].prompt.messages.back()).value_or(""), questions[i].answer, said});
    }
    ++scores.tasks.back().asked;
    scores.tasks.back().right += answer_in(said, chat_template, questions[i].prompt) == questions[i].answer ? 1 : 0;
  }
  return scores;
}

std::vector<std::vector<std::int32_t>> longest_prompts(const tokenizer::Tokenizer& tokenizer,
                                                       const data::ChatTemplate& chat_template,
                                                       const ExactMatchOptions& options) {
  const auto longer = [](const auto& a, const auto& b) { return a.size() > b.size(); };
  std::multiset<std::vector<std::int32_t>, decltype(longer)> longest(longer);
  for_each_question(tokenizer, chat_template, options, [&](const data::Question&, std::vector<std::int32_t> prompt) {
    longest.insert(std::move(prompt));
    if (longest.size() > static_cast<std::size_t>(kSlots)) {
      longest.erase(std::prev(longest.end()));
    }
  });
  return {longest.begin(), longest.end()};
}

void rehearse_exact_match(models::LanguageModel& model, tensor::Stream& stream, const Prompts& prompts,
                          std::int64_t max_new_tokens) {
  rollout::Generator generator = make_generator(model, stream, prompts, max_new_tokens);
  std::size_t tokens = 0;
  for (const auto& prompt : prompts) {
    tokens += prompt.size();
  }
  rollout::SamplingOptions sampling;
  sampling.temperature = 0.0f;
  // One more step than the prompts take, in which all sequences go on at once.
  sampling.max_new_tokens = std::min(max_new_tokens, static_cast<std::int64_t>(tokens) / kBatchTokens + 2);
  generator.generate(prompts, sampling);
}

}  // namespace flyover::evaluate
