// Everything that is found out before training starts: a stage's model, data, order of batches, memory.
#pragma once

#include <memory>
#include <vector>

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

tensor::DType compute_type(const recipe::Recipe& recipe);

/// The device that the recipe names.
std::unique_ptr<devices::Device> make_device(const recipe::Recipe& recipe);

/// Prepares every stage in order and fills in the micro-batches that the recipe leaves open. Throws Error.
std::vector<PreparedStage> prepare_stages(recipe::Recipe& recipe);

trainer::StepOptions step_options(const recipe::Stage& stage);
optim::Schedule make_schedule(const recipe::Schedule& schedule, std::int64_t total_steps);

/// What the optimizer does with each parameter, and which are frozen. Throws Error for a pattern that matches nothing.
struct ParameterDecisions {
  std::vector<optim::ParameterSettings> settings;
  std::vector<bool> frozen;
};
ParameterDecisions decide_parameters(const autograd::ParameterSet& parameters, const recipe::Optimizer& optimizer);

}  // namespace flyover::posttrain
