#include "trainer/benchmark.h"

#include <algorithm>

#include "base/clock.h"
#include "base/random.h"
#include "checkpoint/model_weights.h"
#include "optim/optimizer.h"
#include "trainer/step.h"

namespace flyover::trainer {
namespace {

/// Documents of equal length, every token but the last a target, cut into micro-batches.
std::vector<nn::PackedTokens> random_micro_batches(const TrainBenchmark& benchmark, std::int64_t vocabulary,
                                                   std::uint64_t step) {
  const base::Random random(0, base::RandomPurpose::kGeneratedData, step);
  const std::int64_t documents = std::max<std::int64_t>(benchmark.step_tokens / benchmark.sequence_length, 1);
  const auto weight = 1.0f / static_cast<float>(documents * (benchmark.sequence_length - 1));
  std::vector<nn::PackedTokens> result;
  std::uint64_t position = 0;
  for (std::int64_t document = 0; document < documents; ++document) {
    if (result.empty() || static_cast<std::int64_t>(result.back().tokens.size()) + benchmark.sequence_length >
                              benchmark.micro_batch_tokens) {
      result.emplace_back();
    }
    nn::PackedTokens& packed = result.back();
    packed.document_lengths.push_back(benchmark.sequence_length);
    for (std::int64_t i = 0; i < benchmark.sequence_length; ++i) {
      const auto token = static_cast<std::int32_t>(random.below(position++, static_cast<std::uint64_t>(vocabulary)));
      if (i > 0) {
        packed.targets.push_back(token);
        packed.weights.push_back(weight);
      }
      packed.tokens.push_back(token);
    }
    packed.targets.push_back(kernels::kIgnoredTarget);
    packed.weights.push_back(0.0f);
  }
  return result;
}

/// The shares of `count` things, each an `Id` with a name, largest first.
template <typename Id>
std::vector<TimeShare> time_shares(const tensor::Stream& stream, std::size_t count,
                                   const std::function<std::string_view(Id)>& name) {
  std::vector<TimeShare> shares;
  for (std::size_t i = 0; i < count; ++i) {
    const auto id = static_cast<Id>(i);
    const tensor::KernelStatistics statistics = stream.statistics(id);
    if (statistics.launches > 0 && statistics.seconds > 0) {
      shares.push_back({std::string(name(id)), statistics.launches, statistics.seconds,
                        static_cast<double>(statistics.cost.flops) / statistics.seconds,
                        static_cast<double>(statistics.cost.bytes) / statistics.seconds});
    }
  }
  std::ranges::sort(shares, [](const TimeShare& a, const TimeShare& b) { return a.seconds > b.seconds; });
  return shares;
}

devices::Ceilings larger(const devices::Ceilings& a, const devices::Ceilings& b) {
  return {std::max(a.f32_flops, b.f32_flops), std::max(a.bf16_flops, b.bf16_flops),
          std::max(a.bytes_per_second, b.bytes_per_second)};
}

}  // namespace

TrainBenchmarkResult run_train_benchmark(models::LanguageModel& model, tensor::Stream& stream,
                                         const TrainBenchmark& benchmark) {
  TrainBenchmarkResult result;
  result.ceilings = stream.device().ceilings();
  for (autograd::Parameter& parameter : model.parameters().all()) {
    parameter.trainable = is_reached(parameter.spec, benchmark.auxiliary);
  }
  checkpoint::initialise_weights(model, stream, 0, benchmark.dtype, autograd::ParameterUse::kTraining);
  const auto optimizer = optim::make_optimizer(
      stream, model.parameters(), std::vector<optim::ParameterSettings>(model.parameters().all().size(), {1e-4, 0.1}),
      {benchmark.optimizer, {}});
  StepOptions options{benchmark.recompute, 1.0};
  options.auxiliary = benchmark.auxiliary;
  stream.set_timing(true);
  for (std::int64_t step = 0; step <= benchmark.steps; ++step) {
    const auto batches =
        random_micro_batches(benchmark, model.summary().vocabulary_size, static_cast<std::uint64_t>(step));
    stream.reset_statistics();
    const double begin = base::monotonic_seconds();
    const Gradients gradients = compute_gradients(model, stream, batches, options);
    optimizer->step(step + 1, 1.0, gradients.coefficient);
    if (benchmark.auxiliary.bias_update_speed > 0) {
      update_balance(model, stream, gradients.expert_load, benchmark.auxiliary.bias_update_speed);
    }
    stream.synchronize();
    const double seconds = base::monotonic_seconds() - begin;
    if (step > 0 && (result.seconds_per_step == 0 || seconds < result.seconds_per_step)) {
      result.seconds_per_step = seconds;
      result.kernels = time_shares<kernels::KernelId>(
          stream, kernels::kKernelCount, [](kernels::KernelId id) { return kernels::kernel_info(id).name; });
      result.parts =
          time_shares<tensor::Part>(stream, tensor::kParts, [](tensor::Part part) { return tensor::name_of(part); });
    }
  }
  stream.set_timing(false);
  result.ceilings = larger(result.ceilings, stream.device().ceilings());
  const std::int64_t documents = std::max<std::int64_t>(benchmark.step_tokens / benchmark.sequence_length, 1);
  const std::int64_t tokens = documents * benchmark.sequence_length;
  const std::vector<std::int64_t> lengths(static_cast<std::size_t>(documents), benchmark.sequence_length);
  const double flops = model.training_flops(lengths);
  const double ceiling =
      benchmark.dtype == tensor::DType::kBf16 ? result.ceilings.bf16_flops : result.ceilings.f32_flops;
  result.tokens_per_second = static_cast<double>(tokens) / result.seconds_per_step;
  result.mfu = ceiling > 0 ? flops / result.seconds_per_step / ceiling : 0;
  result.memory = stream.allocator().statistics();
  result.bytes_per_parameter =
      static_cast<double>(result.memory.peak) / static_cast<double>(model.parameters().elements());
  return result;
}

}  // namespace flyover::trainer
