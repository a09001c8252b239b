// Hyper-connections and the compressor in microseconds a token, one launch at a time, the best of each counts; beside
// each the fraction of the bandwidth of reading memory at which its operands pass, and of the f32 instruction peak.
//
//   hyper_connection_bench [threads] [repetitions] [instruction set] [width] [tokens]
#include <algorithm>
#include <cstdlib>
#include <limits>
#include <map>
#include <new>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <sys/mman.h>

#include "base/random.h"
#include "ceilings.h"
#include "devices/cpu/families.h"

namespace flyover::bench {
namespace {

using devices::cpu::InstructionSet;
using kernels::DType;
using kernels::View;

constexpr std::int64_t kStreams = 4;
constexpr std::int64_t kRows = kernels::hyper_connection_coefficients(kStreams);

struct Settings {
  int threads;
  int repetitions;
  InstructionSet set;
  std::int64_t width;
  std::int64_t tokens;
};

/// Memory as a device's tensors have it: on huge pages.
class Memory {
 public:
  ~Memory() {
    for (void* const block : blocks_) {
      ::operator delete(block, kAlignment);
    }
  }
  std::byte* allocate(std::size_t bytes) {
    blocks_.push_back(::operator new(bytes, kAlignment));
    static_cast<void>(::madvise(blocks_.back(), bytes, MADV_HUGEPAGE));
    std::fill_n(static_cast<std::byte*>(blocks_.back()), bytes, std::byte{0});
    return static_cast<std::byte*>(blocks_.back());
  }
  View random(DType dtype, const kernels::Dims& shape, double scale = 1.0) {
    const View view{allocate(static_cast<std::size_t>(shape.elements()) * kernels::size_of(dtype)), dtype, shape,
                    kernels::dense_strides(shape)};
    const base::Random random(blocks_.size(), base::RandomPurpose::kTest);
    for (std::int64_t i = 0; i < shape.elements(); ++i) {
      const auto value = static_cast<float>(scale * (random.uniform(static_cast<std::uint64_t>(i)) - 0.5));
      if (dtype == DType::kF32) {
        static_cast<float*>(view.data)[i] = value;
      } else {
        static_cast<kernels::Bf16*>(view.data)[i] = kernels::to_bf16(value);
      }
    }
    return view;
  }

 private:
  static constexpr std::align_val_t kAlignment{2 << 20};
  std::vector<void*> blocks_;
};

class Bench {
 public:
  explicit Bench(const Settings& settings) : settings_(settings) {
    devices::cpu::add_hyper_connection_kernels(table_, settings.set);
    devices::cpu::add_streams_kernels(table_, settings.set);
    devices::cpu::add_compressor_kernels(table_, settings.set);
  }

  template <typename Kernel>
  void time(const std::string& name, const Kernel& kernel) {
    kernel.check();
    const devices::KernelEntry& entry = table_[kernels::kernel_id<Kernel>];
    const std::size_t bytes = entry.workspace_bytes(&kernel, settings_.threads);
    if (bytes > workspace_.size()) {
      workspace_.resize(bytes + 64);
    }
    auto* const aligned =
        reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(workspace_.data()) + 63) / 64 * 64);
    const double begin = now(settings_.threads);
    entry(&kernel, {aligned, bytes, settings_.threads});
    Best& best = best_[name];
    best.seconds = std::min(best.seconds, now(settings_.threads) - begin);
    best.cost = kernel.cost();
  }
  void measure_ceilings() {
    bandwidth_ = std::max(bandwidth_, measure_read_bandwidth(settings_.threads));
    peak_ = std::max(peak_, measure_peak(settings_.set, DType::kF32, settings_.threads));
  }
  void print(const std::vector<std::string>& names, const std::string& title) const {
    double total = 0;
    for (const std::string& name : names) {
      const Best& best = best_.at(name);
      const double tokens = static_cast<double>(settings_.tokens);
      total += best.seconds / tokens;
      fmt::print("  {:44} {:7.3f} us a token  {:3.0f} % of bandwidth  {:3.0f} % of peak\n", name,
                 1e6 * best.seconds / tokens, 100 * static_cast<double>(best.cost.bytes) / best.seconds / bandwidth_,
                 100 * static_cast<double>(best.cost.flops) / best.seconds / peak_);
    }
    fmt::print("{:46} {:7.3f} us a token\n", title, 1e6 * total);
  }
  double bandwidth() const { return bandwidth_; }
  double peak() const { return peak_; }

 private:
  struct Best {
    double seconds = std::numeric_limits<double>::infinity();
    kernels::Cost cost;
  };
  Settings settings_;
  devices::KernelTable table_;
  std::vector<std::byte> workspace_ = std::vector<std::byte>(64);
  std::map<std::string, Best> best_;
  double bandwidth_ = 0, peak_ = 0;
};

void bench_site(const Settings& s, Bench& bench) {
  Memory memory;
  const std::int64_t total = kStreams * s.width;
  const auto bf16 = [&](std::int64_t columns) { return memory.random(DType::kBf16, {s.tokens, columns}); };
  const auto f32 = [&](const kernels::Dims& shape) { return memory.random(DType::kF32, shape); };
  const View x = bf16(total), expanded = bf16(total), dexpanded = bf16(total);
  const View y = bf16(s.width), f = bf16(s.width), dy = bf16(s.width), df = bf16(s.width);
  const View fn = memory.random(DType::kF32, {kRows, total}, 0.1), base = f32({kRows}), scale = f32({3});
  const View coefficients = f32({s.tokens, kRows}), product = f32({s.tokens, kRows + 1});
  const View dcoefficients = f32({s.tokens, kRows}), dz = f32({s.tokens, kRows}), dm = f32({s.tokens, kRows});
  const View dfn = f32({kRows, total}), dbase = f32({kRows}), dscale = f32({3});
  using kernels::HyperConnectionCoefficients;
  using kernels::HyperConnectionCoefficientsBackward;
  for (int i = 0; i < s.repetitions; ++i) {
    bench.time("coefficients + collapse", HyperConnectionCoefficients{x, fn, base, scale, coefficients, product, y,
                                                                      kStreams, 20, 1e-6f, 1e-6f, false});
    bench.time("collapse", kernels::StreamCollapse{x, coefficients, y});
    bench.time("expand", kernels::StreamExpand{x, f, coefficients, expanded});
    bench.time("expand backward", kernels::StreamExpandBackward{x, f, coefficients, dexpanded, df, dcoefficients});
    bench.time("coefficients backward",
               HyperConnectionCoefficientsBackward{x, fn, base, scale, product, dcoefficients, dexpanded, dz, dm, dy,
                                                   dexpanded, false, kStreams, 20, 1e-6f, false});
    bench.time("weight gradient",
               kernels::HyperConnectionWeightGradient{x, product, dz, dm, dfn, dbase, dscale, kStreams});
    bench.measure_ceilings();
  }
  fmt::print("{}, {} threads, width {}, {} tokens; reading {:.1f} GB/s, f32 {:.0f} GFLOP/s\n", name_of(s.set),
             s.threads, s.width, s.tokens, bench.bandwidth() / 1e9, bench.peak() / 1e9);
  bench.print({"coefficients + collapse", "expand", "expand backward", "coefficients backward", "weight gradient"},
              "a site");
}

void bench_compressor(const Settings& s, Bench& bench, std::int64_t window, std::int64_t roles, std::int64_t width) {
  Memory memory;
  const std::int64_t total = roles * width, entries = s.tokens / window;
  const auto f32 = [&](std::int64_t rows) { return memory.random(DType::kF32, {rows, total}); };
  const View values = f32(s.tokens), gates = f32(s.tokens), dvalues = f32(s.tokens), dgates = f32(s.tokens);
  const View bias = f32(window), dbias = f32(window), y = memory.random(DType::kBf16, {entries, width});
  std::vector<std::int32_t> table;
  for (std::int64_t e = 0; e < entries; ++e) {
    for (std::int64_t role = 0; role < roles; ++role) {
      for (std::int64_t i = 0; i < window; ++i) {
        const std::int64_t first = (e - (roles - 1 - role)) * window;
        table.push_back(first < 0 ? -1 : static_cast<std::int32_t>(first + i));
      }
    }
  }
  const kernels::ConstView rows{table.data(), DType::kI32, {entries, roles * window}, {roles * window, 1}};
  for (int i = 0; i < s.repetitions; ++i) {
    bench.time("forward", kernels::CompressForward{values, gates, bias, rows, y});
    bench.time("backward", kernels::CompressBackward{values, gates, bias, rows, y, dvalues, dgates});
    bench.time("position gradient", kernels::CompressPositionGradient{dgates, rows, dbias});
    bench.measure_ceilings();
  }
  bench.print({"forward", "backward", "position gradient"},
              fmt::format("compressor, window {} x {}, width {}", window, roles, width));
}

void run(const Settings& settings) {
  Bench site(settings);
  bench_site(settings, site);
  for (const auto& [window, roles, width] : {std::array<std::int64_t, 3>{4, 2, 512}, {128, 1, 512}, {4, 2, 128}}) {
    Bench compressor(settings);
    bench_compressor(settings, compressor, window, roles, width);
  }
}

}  // namespace
}  // namespace flyover::bench

int main(int count, char** arguments) {
  const std::vector<std::string> words(arguments + 1, arguments + count);
  const auto number = [&](std::size_t at, int otherwise) {
    return words.size() > at ? std::stoi(words[at]) : otherwise;
  };
  flyover::bench::run({number(0, 1), number(1, 20),
                       flyover::devices::cpu::choose_instruction_set(words.size() > 2 ? words[2] : ""), number(3, 512),
                       number(4, 4096)});
}
