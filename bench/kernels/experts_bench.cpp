// Kernels of mixture of experts: grouped products against the machine's instruction peak and, where groups are tiny,
// against the bandwidth of reading memory; router, sorting and gathering against that bandwidth too. Measured
// alternately in the same run, the best of each counts.
//
//   experts_bench [threads] [repetitions] [only lines whose name contains this] [instruction set]
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <sys/mman.h>

#include "base/random.h"
#include "base/threads.h"
#include "ceilings.h"
#include "devices/cpu/families.h"

namespace flyover::bench {
namespace {

using devices::cpu::InstructionSet;
using kernels::DType;
using kernels::View;

struct Settings {
  int threads;
  int repetitions;
  std::string filter;
  InstructionSet set;
};

/// Memory as a device's tensors have it: aligned, on huge pages.
template <typename T>
struct Aligned {
  using value_type = T;
  T* allocate(std::size_t count) {
    void* const memory = ::operator new(count * sizeof(T), kAlignment);
    static_cast<void>(::madvise(memory, count * sizeof(T), MADV_HUGEPAGE));
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, std::size_t) { ::operator delete(memory, kAlignment); }
  static constexpr std::align_val_t kAlignment{2 << 20};
  bool operator==(const Aligned&) const = default;
};

/// A dense tensor; floating ones hold small numbers.
class Tensor {
 public:
  Tensor(DType dtype, const kernels::Dims& shape)
      : bytes_(static_cast<std::size_t>(shape.elements()) * kernels::size_of(dtype)),
        view_{bytes_.data(), dtype, shape, kernels::dense_strides(shape)} {
    for (std::int64_t i = 0; i < shape.elements(); ++i) {
      const float value = static_cast<float>(i * 7 % 13 - 6) / 16.0f;
      if (dtype == DType::kF32) {
        static_cast<float*>(view_.data)[i] = value;
      } else if (dtype == DType::kBf16) {
        static_cast<kernels::Bf16*>(view_.data)[i] = kernels::to_bf16(value);
      }
    }
  }
  std::int32_t* integers() { return static_cast<std::int32_t*>(view_.data); }
  float* floats() { return static_cast<float*>(view_.data); }
  const View& view() const { return view_; }
  operator View() const { return view_; }                // NOLINT(google-explicit-constructor)
  operator kernels::ConstView() const { return view_; }  // NOLINT(google-explicit-constructor)

 private:
  std::vector<std::byte, Aligned<std::byte>> bytes_;
  View view_;
};

/// Prints how fast the kernel is: in operations, and where `by_bytes` also in bytes.
template <typename Kernel>
void measure(const std::string& name, const Kernel& kernel, const Settings& settings, DType dtype, bool by_bytes) {
  if (name.find(settings.filter) == std::string::npos) {
    return;
  }
  kernel.check();
  devices::KernelTable table;
  add_mlp_kernels(table, settings.set);
  add_router_kernels(table, settings.set);
  add_experts_kernels(table, settings.set);
  const devices::KernelEntry& entry = table[kernels::kernel_id<Kernel>];
  std::vector<std::byte, Aligned<std::byte>> workspace(entry.workspace_bytes(&kernel, settings.threads));
  double seconds = 1e9, peak = 0, bandwidth = 0;
  for (int repetition = 0; repetition < settings.repetitions; ++repetition) {
    peak = std::max(peak, measure_peak(settings.set, dtype, settings.threads));
    if (by_bytes) {
      bandwidth = std::max(bandwidth, measure_read_bandwidth(settings.threads));
    }
    const double begin = now(settings.threads);
    entry(&kernel, {workspace.data(), workspace.size(), settings.threads});
    seconds = std::min(seconds, now(settings.threads) - begin);
  }
  const kernels::Cost cost = kernel.cost();
  const double flops = static_cast<double>(cost.flops) / seconds, bytes = static_cast<double>(cost.bytes) / seconds;
  fmt::print("{:40} {:8.3f} ms {:8.1f} GF/s = {:3.0f} % of {:6.1f}", name, seconds * 1e3, flops * 1e-9,
             100 * flops / peak, peak * 1e-9);
  if (by_bytes) {
    fmt::print(" {:6.1f} GB/s = {:3.0f} % of {:5.1f}", bytes * 1e-9, 100 * bytes / bandwidth, bandwidth * 1e-9);
  }
  fmt::print(" | workspace {:.1f} MB\n", static_cast<double>(workspace.size()) * 1e-6);
  std::fflush(stdout);
}

/// How many rows the groups have.
struct Groups {
  std::string name;
  std::vector<std::int64_t> sizes;
};

std::vector<Groups> all_groups() {
  constexpr std::int64_t kRows = 24576;
  std::vector<Groups> all = {{"even", std::vector<std::int64_t>(32, kRows / 32)},
                             {"ragged", {}},
                             {"one", {}},
                             {"tiny", std::vector<std::int64_t>(384, 4)},
                             {"decode", std::vector<std::int64_t>(6, 1)}};
  const base::Random random(1, base::RandomPurpose::kTest);
  std::int64_t left = kRows;
  for (std::uint64_t group = 0; group < 31; ++group) {
    all[1].sizes.push_back(
        std::min<std::int64_t>(left, static_cast<std::int64_t>(random.below(group, 2 * kRows / 32))));
    left -= all[1].sizes.back();
  }
  all[1].sizes.push_back(left);
  all[2].sizes.assign(32, 0);
  all[2].sizes[5] = kRows;
  return all;
}

void products(const Groups& groups, std::int64_t in, std::int64_t out, DType dtype, const Settings& settings) {
  const auto count = static_cast<std::int64_t>(groups.sizes.size());
  Tensor offsets(DType::kI32, {count + 1});
  std::int64_t rows = 0;
  for (std::int64_t group = 0; group < count; ++group) {
    offsets.integers()[group] = static_cast<std::int32_t>(rows);
    rows += groups.sizes[static_cast<std::size_t>(group)];
  }
  offsets.integers()[count] = static_cast<std::int32_t>(rows);
  const Tensor x(dtype, {rows, in}), y(dtype, {rows, out}), weights(dtype, {count, out, in}),
      gradient(DType::kF32, {count, out, in});
  View transposed = weights;
  std::swap(transposed.shape[1], transposed.shape[2]);
  std::swap(transposed.strides[1], transposed.strides[2]);
  const std::string shape = fmt::format("{}/{}/{}x{}x{}", groups.name, kernels::name_of(dtype), rows, out, in);
  const bool by_bytes = rows <= 8 * count;
  measure("forward/" + shape, kernels::GroupedMatMul{x, weights, offsets, y, false}, settings, dtype, by_bytes);
  measure("input_gradient/" + shape, kernels::GroupedMatMul{y, transposed, offsets, x, false}, settings, dtype,
          by_bytes);
  measure("weight_gradient/" + shape, kernels::GroupedWeightGradient{y, x, offsets, gradient}, settings, dtype,
          by_bytes);
}

void the_rest(const Settings& settings) {
  constexpr std::int64_t kTokens = 4096, kExperts = 384, kChoices = 6, kPairs = kTokens * kChoices, kWidth = 512;
  const base::Random random(2, base::RandomPurpose::kTest);
  Tensor logits(DType::kF32, {kTokens, kExperts});
  for (std::int64_t i = 0; i < kTokens * kExperts; ++i) {
    logits.floats()[i] = static_cast<float>(random.normal(static_cast<std::uint64_t>(i)));
  }
  Tensor experts(DType::kI32, {kTokens, kChoices}), sequences(DType::kI32, {1, 4});
  const Tensor bias(DType::kF32, {kExperts}), weights(DType::kF32, {kTokens, kChoices}),
      dlogits(DType::kF32, {kTokens, kExperts}), loss(DType::kF32, {1}), one(DType::kF32, {1});
  sequences.integers()[0] = 0;
  sequences.integers()[1] = kTokens;
  const kernels::RouterScore scores[] = {kernels::RouterScore::kSoftmax, kernels::RouterScore::kSigmoid,
                                         kernels::RouterScore::kSqrtSoftplus};
  for (const kernels::RouterScore score : scores) {
    const kernels::RouterRule rule{score, 1, 1, true, 1.0f};
    const std::string name = fmt::format("score{}", static_cast<int>(score));
    measure("router_forward/" + name, kernels::RouterForward{logits, bias.view(), std::nullopt, experts, weights, rule},
            settings, DType::kF32, true);
    measure("router_backward/" + name, kernels::RouterBackward{logits, experts, weights, dlogits, rule}, settings,
            DType::kF32, true);
    measure("router_balance/" + name,
            kernels::RouterBalance{logits, experts, sequences, one, loss, dlogits, score, 0.1f}, settings, DType::kF32,
            true);
  }
  const Tensor offsets(DType::kI32, {kExperts + 1}), pair_of_row(DType::kI32, {kPairs}),
      token_of_row(DType::kI32, {kPairs}), row_of_pair(DType::kI32, {kTokens, kChoices});
  measure("expert_sort", kernels::ExpertSort{experts, offsets, pair_of_row, token_of_row, row_of_pair, std::nullopt},
          settings, DType::kF32, true);
  const Tensor rows(DType::kBf16, {kPairs, kWidth}), y(DType::kBf16, {kTokens, kWidth});
  measure("gather_sum", kernels::GatherSum{rows, row_of_pair, y, false}, settings, DType::kF32, true);
  const Tensor gate_up(DType::kBf16, {kPairs, 512}), gated(DType::kBf16, {kPairs, 256}),
      row_weights(DType::kF32, {kPairs}), drow_weights(DType::kF32, {kPairs});
  measure("swiglu_forward/plain", kernels::SwiGluForward{gate_up, gated}, settings, DType::kF32, true);
  measure("swiglu_forward/weighted", kernels::SwiGluForward{gate_up, gated, row_weights.view(), 10.0f}, settings,
          DType::kF32, true);
  const Tensor dgate_up(DType::kBf16, {kPairs, 512});
  measure("swiglu_backward/plain", kernels::SwiGluBackward{gate_up, gated, dgate_up}, settings, DType::kF32, true);
  measure("swiglu_backward/weighted",
          kernels::SwiGluBackward{gate_up, gated, dgate_up, row_weights.view(), drow_weights.view(), 10.0f}, settings,
          DType::kF32, true);
}

}  // namespace
}  // namespace flyover::bench

int main(int count, char** values) {
  using namespace flyover;
  const bench::Settings settings{count > 1 ? std::atoi(values[1]) : base::available_cores(),
                                 count > 2 ? std::atoi(values[2]) : 20, count > 3 ? values[3] : "",
                                 devices::cpu::choose_instruction_set(count > 4 ? values[4] : "")};
  for (const kernels::DType dtype : {kernels::DType::kBf16, kernels::DType::kF32}) {
    for (const bench::Groups& groups : bench::all_groups()) {
      bench::products(groups, 512, 512, dtype, settings);
      bench::products(groups, 256, 512, dtype, settings);
    }
  }
  bench::the_rest(settings);
  return 0;
}
