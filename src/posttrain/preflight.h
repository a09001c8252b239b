// Everything that is found out before training starts: a stage's model, data, order of batches, memory.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "checkpoint/model_output.h"
#include "data/batches.h"
#include "devices/device.h"
#include "models/language_model.h"
#include "optim/optimizer.h"
#include "posttrain/stage_data.h"
#include "posttrain/starting_model.h"
#include "recipe/recipe.h"
#include "trainer/memory_plan.h"
#include "trainer/trainer.h"

namespace flyover::posttrain {

/// A stage that is ready to run.
struct PreparedStage {
  StartingModel start;
  StageData data;
  std::unique_ptr<data::BatchPlan> plan;
  trainer::MemoryPlan memory;
};

/// What is written beside the weights: tokenizer, template, generation settings. It is compared with `start`, which
/// must outlive it, once it is written.
checkpoint::ModelOutput model_output(const StartingModel& start);

tensor::DType compute_type(const recipe::Recipe& recipe);

/// Whether this machine has the instruction set that the recipe names, if it names one.
bool has_instruction_set(const recipe::Recipe& recipe);

/// The device that the recipe names.
std::unique_ptr<devices::Device> make_device(const recipe::Recipe& recipe);

/// Bytes of disk that the run will take at most: of each stage, kept and half-written checkpoints, the model and the
/// best model.
std::uint64_t required_disk(const recipe::Recipe& recipe, const std::vector<PreparedStage>& prepared);

/// Prepares every stage in order and fills in what the recipe leaves open: the CPU's instruction set, micro-batches.
/// Throws Error.
std::vector<PreparedStage> prepare_stages(recipe::Recipe& recipe);

/// The model of a stage, as the recipe wants it trained.
std::unique_ptr<models::LanguageModel> make_stage_model(const StartingModel& start, const recipe::Stage& stage);

/// Changes of the configuration that the stage asks for. Throws Error for a family that has no use for them.
void adapt_config(StartingModel& start, const recipe::Stage& stage);

TemplateChoice template_choice(const recipe::Stage& stage);
trainer::StepOptions step_options(const recipe::Stage& stage);
optim::OptimizerChoice optimizer_choice(const recipe::Optimizer& optimizer);
optim::Schedule make_schedule(const recipe::Schedule& schedule, std::int64_t total_steps);

}  // namespace flyover::posttrain
