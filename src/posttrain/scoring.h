// The questions of a recipe, asked of a model.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "evaluate/scores.h"
#include "models/language_model.h"
#include "posttrain/starting_model.h"
#include "recipe/recipe.h"
#include "tensor/stream.h"

namespace flyover::posttrain {

/// Throws Error unless every task of the recipe's `evaluate` names a generator that asks questions.
void check_tasks(const recipe::Recipe& recipe);

/// Throws Error unless the questions of `evaluate` can be asked of the model: it has a chat template, which takes them.
/// `model` names it in messages.
void check_askable(const recipe::Recipe& recipe, const StartingModel& start, std::string_view model);

/// Scores the model on every task of the recipe's `evaluate`, with the recipe's seed. `start` has a chat template.
evaluate::Scores score_model(const recipe::Recipe& recipe, models::LanguageModel& model, tensor::Stream& stream,
                             const StartingModel& start);

/// What of score_model takes most memory, for a device without data: found once, done on any stream.
std::function<void(models::LanguageModel& model, tensor::Stream& stream)> scoring_rehearsal(
    const recipe::Recipe& recipe, const StartingModel& start);

/// Loads a model directory as the recipe says (device, precision, the last stage's chat template or else the model's
/// own) and scores it. Throws Error if there is no model, the recipe has no questions, or they cannot be asked of it.
evaluate::Scores score_directory(const recipe::Recipe& recipe, const std::filesystem::path& directory);

/// The table, then the first two samples of the last column.
std::string format_evaluation(const evaluate::NamedScores& scores);

}  // namespace flyover::posttrain
