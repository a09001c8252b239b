// Training speed of a model shape on generated tokens, as a fraction of the machine's ceilings measured in the same
// run.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "autograd/tape.h"
#include "devices/device.h"
#include "models/language_model.h"
#include "optim/make_optimizer.h"
#include "tensor/stream.h"
#include "trainer/step.h"

namespace flyover::trainer {

/// What to measure.
struct TrainBenchmark {
  std::int64_t sequence_length = 512;
  std::int64_t step_tokens = 4096;
  std::int64_t micro_batch_tokens = 2048;
  std::int64_t steps = 3;  ///< timed; the fastest counts. One more runs before.
  tensor::DType dtype = tensor::DType::kBf16;
  autograd::RecomputePolicy recompute = autograd::RecomputePolicy::kNone;
  AuxiliaryOptions auxiliary = {};
  optim::OptimizerKind optimizer = optim::OptimizerKind::kAdamW;
};

/// Where a step's time went: a kernel's share or that of a part of the model (tensor::Part).
struct TimeShare {
  std::string name;
  std::int64_t launches = 0;
  double seconds = 0;
  double flops_per_second = 0;
  double bytes_per_second = 0;
};

struct TrainBenchmarkResult {
  double seconds_per_step = 0;  ///< the fastest
  double tokens_per_second = 0;
  double mfu = 0;              ///< LanguageModel::training_flops against the ceiling of the type
  devices::Ceilings ceilings;  ///< the best of measurements before and after
  tensor::MemoryStatistics memory;
  double bytes_per_parameter = 0;         ///< allocator peak over parameters
  std::vector<TimeShare> kernels, parts;  ///< of the fastest step, largest first
};

/// Trains the model (random weights, clipping) for a few steps.
TrainBenchmarkResult run_train_benchmark(models::LanguageModel& model, tensor::Stream& stream,
                                         const TrainBenchmark& benchmark);

}  // namespace flyover::trainer
