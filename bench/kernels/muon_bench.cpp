// A step of Muon on the experts of a mixture model, against the machine's instruction peak measured in the same run;
// the best of several steps counts, and where its time goes.
//
//   muon_bench [threads] [repetitions] [layers] [megabytes of temporaries]
#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "ceilings.h"
#include "devices/cpu/device.h"
#include "optim/muon.h"

namespace flyover::bench {
namespace {

using autograd::ParameterRole;

/// 32 experts of width 256 over a hidden size of 512, as the checkpoint's halves cut them.
void add_experts(autograd::ParameterSet& parameters, std::int64_t layer) {
  const std::string up = fmt::format("layers.{}.gate_up", layer), down = fmt::format("layers.{}.down", layer);
  autograd::ParameterSpec gate_up{up, {32, 512, 512}, ParameterRole::kMatrix, {{up, {32, 512, 512}, 0}}};
  gate_up.matrix_rows = {256, 256};
  parameters.add(gate_up);
  parameters.add({down, {32, 512, 256}, ParameterRole::kMatrix, {{down, {32, 512, 256}, 0}}});
}

template <typename Kernel>
void print_share(const tensor::Stream& stream, double seconds, int repetitions) {
  const auto& statistics = stream.statistics(kernels::kernel_id<Kernel>);
  const double each = statistics.seconds / repetitions;
  fmt::print("  {:20} {:8.2f} ms = {:4.1f} %, {:7.1f} GF/s, {:6.1f} GB/s\n", Kernel::kName, each * 1e3,
             100 * each / seconds, static_cast<double>(statistics.cost.flops) / statistics.seconds * 1e-9,
             static_cast<double>(statistics.cost.bytes) / statistics.seconds * 1e-9);
}

void run(int threads, int repetitions, std::int64_t layers, std::uint64_t megabytes) {
  const auto set = devices::cpu::available_instruction_sets().back();
  const auto device = devices::cpu::make_device(threads, set);
  tensor::Allocator allocator(*device);
  tensor::Stream stream(*device, allocator);
  autograd::ParameterSet parameters;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    add_experts(parameters, layer);
  }
  parameters.allocate(stream, tensor::DType::kBf16, autograd::ParameterUse::kTraining);
  for (const autograd::Parameter& parameter : parameters.all()) {
    std::vector<float> values(static_cast<std::size_t>(parameter.spec.shape.elements()));
    std::uint32_t state = 1;
    for (float& value : values) {
      state = state * 1664525u + 1013904223u;
      value = static_cast<float>(state >> 8) * 0x1p-24f - 0.5f;
    }
    stream.write(parameter.gradient, std::as_bytes(std::span(values)));
    stream.write(parameter.master, std::as_bytes(std::span(values)));
  }
  optim::MuonOptimizer::Options options;
  options.temporary_bytes = megabytes << 20;
  optim::MuonOptimizer optimizer(stream, parameters, std::vector<optim::ParameterSettings>(parameters.all().size()),
                                 options);
  const std::vector<float> one = {1.0f};
  const tensor::Tensor scale = stream.upload(std::span<const float>(one), {1});
  optimizer.step(1, 1.0, scale);
  stream.reset_statistics();
  stream.set_timing(true);
  double best = 1e9, total = 0, peak = 0;
  for (int i = 0; i < repetitions; ++i) {
    peak = std::max(peak, measure_peak(set, kernels::DType::kBf16, threads));
    const double begin = now(threads);
    optimizer.step(2 + i, 1.0, scale);
    const double seconds = now(threads) - begin;
    best = std::min(best, seconds);
    total += seconds;
  }
  // Ten steps of two products with the matrix and one of its Gram matrix with itself.
  const double flops = 10.0 * (4.0 * 256 * 256 * 512 + 2.0 * 256 * 256 * 256) * 96.0 * static_cast<double>(layers);
  fmt::print("step: {:.1f} ms, {:.1f} GF/s = {:.0f} % of {:.1f}\n", best * 1e3, flops / best * 1e-9,
             100 * flops / best / peak, peak * 1e-9);
  const double mean = total / repetitions;
  print_share<kernels::MuonMomentum>(stream, mean, repetitions);
  print_share<kernels::NormaliseMatrices>(stream, mean, repetitions);
  print_share<kernels::GramMatrices>(stream, mean, repetitions);
  print_share<kernels::GroupedMatMul>(stream, mean, repetitions);
  print_share<kernels::LinearCombination>(stream, mean, repetitions);
  print_share<kernels::Scale>(stream, mean, repetitions);
  print_share<kernels::MuonUpdate>(stream, mean, repetitions);
}

}  // namespace
}  // namespace flyover::bench

int main(int count, char** arguments) {
  const auto argument = [&](int index, int otherwise) {
    return count > index ? std::atoi(arguments[index]) : otherwise;
  };
  flyover::bench::run(std::max(1, argument(1, 2)), std::max(1, argument(2, 5)), std::max(1, argument(3, 8)),
                      static_cast<std::uint64_t>(std::max(0, argument(4, 64))));
  return 0;
}
