#include "posttrain/scoring.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "checkpoint/model_weights.h"
#include "data/generators.h"
#include "evaluate/exact_match.h"
#include "posttrain/preflight.h"

namespace flyover::posttrain {
namespace {

constexpr std::size_t kDialoguesShown = 2;
constexpr std::uint64_t kEvaluationSeed = 7'000'001;

/// The generators that ask questions.
std::vector<std::string> questioners() {
  std::vector<std::string> names = data::generator_names();
  std::erase_if(names, [](const std::string& name) { return data::task_names(name).empty(); });
  return names;
}

evaluate::ExactMatchOptions exact_match_options(const recipe::Recipe& recipe, const recipe::EvaluationTask& task,
                                                const StartingModel& start) {
  evaluate::ExactMatchOptions options;
  options.generator = task.generate;
  options.count = task.count;
  options.max_new_tokens = task.max_new_tokens;
  options.stop_tokens = start.stop_tokens;
  options.seed = recipe.seed + kEvaluationSeed;
  return options;
}

}  // namespace

void check_tasks(const recipe::Recipe& recipe) {
  const std::vector<std::string> known = data::generator_names();
  for (std::size_t i = 0; i < recipe.evaluate.size(); ++i) {
    const std::string& name = recipe.evaluate[i].generate;
    const std::string place = recipe.origin.at(fmt::format("evaluate[{}].generate", i));
    base::require(std::find(known.begin(), known.end(), name) != known.end(),
                  "{}: there is no generator \"{}\"{}; those that ask questions: {}", place, name,
                  base::suggestion(name, known), fmt::join(questioners(), ", "));
    base::require(!data::task_names(name).empty(), "{}: the generator \"{}\" asks no questions; those that do: {}",
                  place, name, fmt::join(questioners(), ", "));
  }
}

void check_askable(const recipe::Recipe& recipe, const StartingModel& start, std::string_view model) {
  base::require(recipe.evaluate.empty() || start.chat_template.has_value(),
                "{}: has no chat template, so the questions of evaluate cannot be asked: give the recipe's last stage "
                "a chat_template (for example chatml), or take evaluate out",
                model);
  for (const recipe::EvaluationTask& task : recipe.evaluate) {
    for (const std::string& name : data::task_names(task.generate)) {
      start.chat_template->render(data::generate_question(task.generate, name, recipe.seed, 0).prompt, true);
    }
  }
}

evaluate::Scores score_model(const recipe::Recipe& recipe, models::LanguageModel& model, tensor::Stream& stream,
                             const StartingModel& start) {
  evaluate::Scores all;
  for (const recipe::EvaluationTask& task : recipe.evaluate) {
    const evaluate::Scores scores = evaluate::score_exact_match(model, stream, start.tokenizer, *start.chat_template,
                                                                exact_match_options(recipe, task, start));
    all.tasks.insert(all.tasks.end(), scores.tasks.begin(), scores.tasks.end());
    all.samples.insert(all.samples.end(), scores.samples.begin(), scores.samples.end());
  }
  return all;
}

std::function<void(models::LanguageModel&, tensor::Stream&)> scoring_rehearsal(const recipe::Recipe& recipe,
                                                                               const StartingModel& start) {
  struct Task {
    std::vector<std::vector<std::int32_t>> prompts;
    std::int64_t max_new_tokens;
  };
  std::vector<Task> tasks;
  for (const recipe::EvaluationTask& task : recipe.evaluate) {
    tasks.push_back(
        {evaluate::longest_prompts(start.tokenizer, *start.chat_template, exact_match_options(recipe, task, start)),
         task.max_new_tokens});
  }
  return [tasks = std::move(tasks)](models::LanguageModel& model, tensor::Stream& stream) {
    for (const Task& task : tasks) {
      evaluate::rehearse_exact_match(model, stream, task.prompts, task.max_new_tokens);
    }
  };
}

evaluate::Scores score_directory(const recipe::Recipe& recipe, const std::filesystem::path& directory) {
  base::require(!recipe.evaluate.empty(), "evaluate: the recipe has no questions; add for example {}",
                "evaluate: [{generate: quickstart_instructions}]");
  check_tasks(recipe);
  const StartingModel start = open_model(directory, template_choice(recipe.stages.back()));
  check_askable(recipe, start, directory.string());
  const auto device = make_device(recipe);
  tensor::Allocator allocator(*device);
  tensor::Stream stream(*device, allocator);
  const auto model = make_model(start);
  checkpoint::load_weights(*start.directory, *model, stream, compute_type(recipe), autograd::ParameterUse::kInference,
                           start.stored_vocabulary);
  return score_model(recipe, *model, stream, start);
}

std::string format_evaluation(const evaluate::NamedScores& scores) {
  std::string text = "exact match on questions that no training example contains\n" + evaluate::format_scores(scores);
  const auto& samples = scores.back().second.samples;
  for (std::size_t i = 0; i < kDialoguesShown && i < samples.size(); ++i) {
    // From the far end: the last tasks are the ones that look most like a conversation.
    const evaluate::Dialogue& dialogue = samples[samples.size() - 1 - i];
    text += fmt::format("\nuser:      {}\nassistant: {}\n", dialogue.question, dialogue.said);
  }
  return text;
}

}  // namespace flyover::posttrain
