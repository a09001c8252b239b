// How much memory and disk a run will take: one step of the real program on the device without data.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "devices/kernel_table.h"
#include "models/language_model.h"
#include "nn/batch.h"
#include "optim/make_optimizer.h"
#include "tensor/allocator.h"
#include "trainer/step.h"

namespace flyover::trainer {

/// What is planned for.
struct PlanRequest {
  const base::Json* config = nullptr;  ///< config.json of the model
  std::string config_source;
  models::StoredNames stored;  ///< as models::make_model
  tensor::DType dtype = tensor::DType::kBf16;
  StepOptions step;
  optim::OptimizerChoice optimizer;
  std::vector<optim::ParameterSettings> settings;  ///< per parameter; empty = the same for all
  std::vector<bool> frozen;                        ///< per parameter; empty = none
  bool fp4_experts = false;                        ///< models::round_experts_to_fp4
  nn::PackedTokens micro_batch;                    ///< the largest of the run
  nn::PackedTokens validation;                     ///< the largest of validation; without tokens = there is none
  /// Scores the model before and after training, or what of that takes most memory; empty = nothing does.
  std::function<void(models::LanguageModel& model, tensor::Stream& stream)> score;
  std::int64_t routed_tokens = 0;  ///< whose experts anticipatory routing keeps
  devices::KernelTable like;       ///< the device whose workspaces count
  int threads = 1;
};

/// The parts of a run that take memory of their own.
enum class Activity : std::uint8_t { kTraining, kValidation, kScoring };

struct MemoryPlan {
  tensor::MemoryStatistics memory;
  Activity largest = Activity::kTraining;  ///< whose peak is the run's
  double flops_per_token = 0;              ///< training, on this micro-batch
  std::int64_t parameters = 0;
  /// What the kernels of forward and backward pass count per token, recomputation included: by part of the model and by
  /// kernel, most first.
  std::vector<std::pair<std::string_view, double>> flops_by_part, flops_by_kernel;
  std::uint64_t checkpoint_bytes = 0;  ///< on disk, each
  std::uint64_t model_bytes = 0;       ///< on disk, the weights as they will be written
  double seconds = 0;                  ///< that the planning took
};

/// Runs two micro-batches and an update, then validation and scoring, on `meta`.
MemoryPlan plan_memory(const PlanRequest& request);

/// A table of the peaks by kind, for people.
std::string format_plan(const MemoryPlan& plan);

}  // namespace flyover::trainer
