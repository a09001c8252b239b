// How much memory and disk a run will take: one step of the real program on the device without data.
#pragma once

#include <cstdint>
#include <memory>
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
  std::vector<bool> frozen;      ///< per parameter; empty = none
  bool fp4_experts = false;      ///< models::round_experts_to_fp4
  nn::PackedTokens micro_batch;  ///< the largest of the run
  devices::KernelTable like;     ///< the device whose workspaces count
  int threads = 1;
};

struct MemoryPlan {
  tensor::MemoryStatistics memory;
  double flops_per_token = 0;  ///< training, on this micro-batch
  std::int64_t parameters = 0;
  /// What the kernels of forward and backward pass count per token, recomputation included: by part of the model and by
  /// kernel, most first.
  std::vector<std::pair<std::string_view, double>> flops_by_part, flops_by_kernel;
  std::uint64_t checkpoint_bytes = 0;  ///< on disk, each
  std::uint64_t model_bytes = 0;       ///< on disk, the weights as they will be written
  double seconds = 0;                  ///< that the planning took
};

/// Runs two micro-batches and an update on `meta`.
MemoryPlan plan_memory(const PlanRequest& request);

/// A table of the peaks by kind, for people.
std::string format_plan(const MemoryPlan& plan);

/// Bytes of memory that this machine has free for new pages, and all that it has.
struct HostMemory {
  std::uint64_t available = 0;
  std::uint64_t total = 0;
};
HostMemory host_memory();

}  // namespace flyover::trainer
