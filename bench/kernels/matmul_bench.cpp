// MatMul against the machine's instruction peak and memory bandwidth, and against oneDNN where it is installed, for the
// products of a Llama of 135M parameters and of a small DeepSeek-V4. All are measured alternately in the same run, the
// best of each counts. With several threads start it with OMP_WAIT_POLICY=passive, or oneDNN's threads, which wait by
// spinning, take time from what is measured next.
//
//   matmul_bench [threads] [repetitions] [only shapes whose name contains this] [instruction set]
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "base/error.h"
#include "base/threads.h"
#include "clock.h"
#include "devices/cpu/ceilings.h"
#include "devices/cpu/families.h"
#include "matmul_onednn.h"

namespace flyover::bench {
namespace {

using devices::cpu::InstructionSet;
using kernels::DType;

/// 256 MB, which no cache holds.
constexpr std::size_t kMemoryWords = std::size_t{32} << 20;

enum class Kind { kForward, kInputGradient, kWeightGradient };

struct Shape {
  Kind kind;
  std::int64_t rows, columns, depth;
  bool f32_result = false;
};

struct Settings {
  InstructionSet set;
  int threads;
  int repetitions;
  std::string filter;
};

std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const std::int64_t tokens : {512, 2048, 4096}) {
    for (const auto& [in, out] : {std::pair(576, 960), {576, 576}, {576, 3072}, {1536, 576}}) {
      all.push_back({Kind::kForward, tokens, out, in});
      all.push_back({Kind::kInputGradient, tokens, in, out});
      all.push_back({Kind::kWeightGradient, out, in, tokens});
    }
  }
  for (const auto& [in, out] : {std::pair(512, 512), {256, 512}, {512, 128}, {512, 64}}) {
    all.push_back({Kind::kForward, 8192, out, in});
    all.push_back({Kind::kInputGradient, 8192, in, out});
    all.push_back({Kind::kWeightGradient, out, in, 8192});
  }
  all.push_back({Kind::kForward, 256, 49152, 576, true});
  all.push_back({Kind::kInputGradient, 256, 576, 49152});
  all.push_back({Kind::kWeightGradient, 49152, 576, 256});
  all.push_back({Kind::kForward, 4096, 8192, 512, true});
  all.push_back({Kind::kInputGradient, 4096, 512, 8192});
  all.push_back({Kind::kWeightGradient, 8192, 512, 4096});
  for (const std::int64_t rows : {1, 2, 4, 8}) {
    all.push_back({Kind::kForward, rows, 49152, 576, true});
    all.push_back({Kind::kForward, rows, 3072, 576});
  }
  return all;
}

/// Memory of an operand, filled with small numbers; the strides are those of a dense matrix, or of its transpose.
struct Operand {
  std::vector<std::uint8_t> bytes;
  kernels::View view;

  Operand(std::int64_t rows, std::int64_t columns, DType dtype, bool transposed)
      : bytes(static_cast<std::size_t>(rows * columns) * kernels::size_of(dtype) + 64) {
    const auto misaligned = reinterpret_cast<std::uintptr_t>(bytes.data()) % 64;
    std::uint8_t* begin = bytes.data() + (64 - misaligned) % 64;
    for (std::int64_t i = 0; i < rows * columns; ++i) {
      const float value = static_cast<float>(i * 7 % 13 - 6) / 16.0f;
      const kernels::Bf16 rounded = kernels::to_bf16(value);
      const std::size_t width = kernels::size_of(dtype);
      std::memcpy(begin + static_cast<std::size_t>(i) * width,
                  dtype == DType::kF32 ? static_cast<const void*>(&value) : &rounded, width);
    }
    view = {begin, dtype, {rows, columns}, transposed ? kernels::Dims{1, rows} : kernels::Dims{columns, 1}};
  }
};

template <typename Function>
double seconds_of(int threads, Function&& function) {
  const double begin = now(threads);
  function();
  return now(threads) - begin;
}

std::string name_of(const Shape& shape, DType dtype) {
  const char* kind = shape.kind == Kind::kForward         ? "forward"
                     : shape.kind == Kind::kInputGradient ? "input_gradient"
                                                          : "weight_gradient";
  return fmt::format("{}/{}/{}x{}x{}", kind, kernels::name_of(dtype), shape.rows, shape.columns, shape.depth);
}

void run(const Shape& shape, DType dtype, const Settings& settings) {
  const std::string name = name_of(shape, dtype);
  if (name.find(settings.filter) == std::string::npos) {
    return;
  }
  const bool accumulate = shape.kind == Kind::kWeightGradient;
  const DType result = accumulate || shape.f32_result ? DType::kF32 : dtype;
  const Operand a(shape.rows, shape.depth, dtype, shape.kind == Kind::kWeightGradient);
  Operand c(shape.rows, shape.columns, result, false);
  // Decoding reads each weight once: as many copies of b as do not fit the caches.
  const Operand b(shape.columns, shape.depth, dtype, shape.kind != Kind::kForward);
  const bool memory_bound = shape.rows <= 8;
  std::vector<std::unique_ptr<Operand>> more;
  if (memory_bound) {
    const std::int64_t copies = std::clamp<std::int64_t>((96 << 20) / static_cast<std::int64_t>(b.bytes.size()), 1, 64);
    for (std::int64_t i = 0; i < copies; ++i) {
      more.push_back(std::make_unique<Operand>(b));
      more.back()->view.data =
          more.back()->bytes.data() + (64 - reinterpret_cast<std::uintptr_t>(more.back()->bytes.data()) % 64) % 64;
    }
  }
  std::vector<kernels::MatMul> products = {{a.view, b.view, c.view, accumulate}};
  if (memory_bound) {
    products.clear();
    for (const auto& copy : more) {
      products.push_back({a.view, copy->view, c.view, accumulate});
    }
  }
  devices::KernelTable table;
  add_matmul_kernels(table, settings.set);
  const devices::KernelEntry& entry = table[kernels::kernel_id<kernels::MatMul>];
  const std::size_t workspace_bytes = entry.workspace_bytes(products.data(), settings.threads);
  const std::unique_ptr<std::byte, void (*)(void*)> workspace(
      static_cast<std::byte*>(std::aligned_alloc(64, workspace_bytes + 64)), std::free);
  std::vector<std::function<void()>> peers;
  for (const kernels::MatMul& product : products) {
    peers.push_back(onednn_product(product, settings.threads));
  }
  const std::vector<std::uint64_t> memory(memory_bound ? kMemoryWords : 0, 1);
  double ours = 1e9;
  double theirs = 1e9;
  double peak = 0;
  double bandwidth = 0;
  for (int repetition = 0; repetition < settings.repetitions; ++repetition) {
    peak = std::max(peak, devices::cpu::measure_peak(settings.set, dtype, settings.threads));
    if (memory_bound) {
      bandwidth = std::max(bandwidth, devices::cpu::measure_read_bandwidth(memory, settings.threads));
    }
    ours = std::min(ours, seconds_of(settings.threads, [&] {
                      for (const kernels::MatMul& product : products) {
                        entry(&product, {workspace.get(), workspace_bytes, settings.threads});
                      }
                    }));
    if (peers[0]) {
      theirs = std::min(theirs, seconds_of(settings.threads, [&] {
                          for (const auto& peer : peers) {
                            peer();
                          }
                        }));
    }
  }
  const auto count = static_cast<double>(products.size());
  const kernels::Cost cost = products[0].cost();
  const double operations = static_cast<double>(cost.flops) * count;
  const double bytes = static_cast<double>(cost.bytes) * count;
  if (memory_bound) {
    fmt::print("{:45} {:7.1f} GB/s = {:4.0f} % of {:5.1f} | oneDNN {:7.1f} GB/s | workspace {:.1f} MB\n", name,
               bytes / ours * 1e-9, 100 * bytes / ours / bandwidth, bandwidth * 1e-9, bytes / theirs * 1e-9,
               static_cast<double>(workspace_bytes) * 1e-6);
  } else {
    fmt::print("{:45} {:7.1f} GF/s = {:4.0f} % of {:6.1f} | oneDNN {:7.1f} GF/s = {:4.0f} % | workspace {:.1f} MB\n",
               name, operations / ours * 1e-9, 100 * operations / ours / peak, peak * 1e-9, operations / theirs * 1e-9,
               100 * operations / theirs / peak, static_cast<double>(workspace_bytes) * 1e-6);
  }
  std::fflush(stdout);
}

}  // namespace
}  // namespace flyover::bench

int main(int count, char** values) {
  using namespace flyover;
  bench::Settings settings{devices::cpu::choose_instruction_set(count > 4 ? values[4] : ""),
                           count > 1 ? std::atoi(values[1]) : base::available_cores(),
                           count > 2 ? std::atoi(values[2]) : 20, count > 3 ? values[3] : ""};
  for (const kernels::DType dtype : {kernels::DType::kF32, kernels::DType::kBf16}) {
    for (const bench::Shape& shape : bench::shapes()) {
      bench::run(shape, dtype, settings);
    }
  }
  return 0;
}
