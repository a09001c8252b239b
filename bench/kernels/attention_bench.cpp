// Attention against the machine's instruction peak, measured alternately in the same run, the best of each counts. Only
// the causal (query, key) pairs that are needed count as work: 4 flops a pair and element of the head forward, 10
// backward. Decoding is held against the bandwidth of reading memory.
//
//   attention_bench [threads] [repetitions] [instruction set]
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <sys/mman.h>

#include "base/random.h"
#include "clock.h"
#include "devices/cpu/ceilings.h"
#include "devices/cpu/families.h"

namespace flyover::bench {
namespace {

using devices::cpu::InstructionSet;
using kernels::DType;

/// 256 MB, which no cache holds.
constexpr std::size_t kMemoryWords = std::size_t{32} << 20;

struct Settings {
  int threads;
  int repetitions;
  InstructionSet set;
};

struct Shape {
  std::int64_t documents, queries, keys, heads, kv_heads, head_dim;
  DType dtype;
};

struct Best {
  double forward = 0, backward = 0, both = 0, ceiling = 0;
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
using Bytes = std::vector<std::byte, Aligned<std::byte>>;

/// Operands of a launch: q, k, v in one buffer where queries are keys, else k and v in a cache.
class Operands {
 public:
  explicit Operands(const Shape& shape) : shape_(shape), width_(shape.heads + 2 * shape.kv_heads) {
    const std::int64_t rows = shape.documents * shape.keys;
    inputs_ = buffer(shape.documents * shape.queries * width_ * shape.head_dim);
    if (shape.queries != shape.keys) {
      cache_ = buffer(rows * 2 * shape.kv_heads * shape.head_dim);
    }
    gradients_ = inputs_;
    dy_ = buffer(rows * shape.heads * shape.head_dim);
    y_ = dy_;
    log_sum_exp_.resize(static_cast<std::size_t>(rows * shape.heads));
    for (std::int64_t i = 0; i < shape.documents; ++i) {
      for (const std::int64_t value : {i * shape.queries, shape.queries, i * shape.keys, shape.keys}) {
        sequences_.push_back(static_cast<std::int32_t>(value));
      }
    }
  }

  kernels::AttentionForward forward() {
    return {heads(inputs_, width_, 0, shape_.heads, shape_.queries),
            keys(shape_.queries == shape_.keys ? inputs_ : cache_, 0),
            keys(shape_.queries == shape_.keys ? inputs_ : cache_, shape_.kv_heads),
            sequences(),
            heads(y_, shape_.heads, 0, shape_.heads, shape_.queries),
            log_sum_exp(),
            scale(),
            0};
  }

  kernels::AttentionBackward backward() {
    const kernels::AttentionForward f = forward();
    return {f.q,
            f.k,
            f.v,
            f.y,
            f.log_sum_exp,
            heads(dy_, shape_.heads, 0, shape_.heads, shape_.queries),
            sequences(),
            heads(gradients_, width_, 0, shape_.heads, shape_.queries),
            keys(gradients_, 0),
            keys(gradients_, shape_.kv_heads),
            scale(),
            0};
  }

 private:
  Bytes buffer(std::int64_t elements) const {
    const base::Random random(1, base::RandomPurpose::kTest);
    Bytes bytes(static_cast<std::size_t>(elements) * kernels::size_of(shape_.dtype));
    for (std::int64_t i = 0; i < elements; ++i) {
      const auto value = static_cast<float>(random.normal(static_cast<std::uint64_t>(i)));
      if (shape_.dtype == DType::kF32) {
        reinterpret_cast<float*>(bytes.data())[i] = value;
      } else {
        reinterpret_cast<kernels::Bf16*>(bytes.data())[i] = kernels::to_bf16(value);
      }
    }
    return bytes;
  }
  kernels::View heads(Bytes& buffer, std::int64_t width, std::int64_t first, std::int64_t count,
                      std::int64_t rows) const {
    return {buffer.data() + static_cast<std::size_t>(first * shape_.head_dim) * kernels::size_of(shape_.dtype),
            shape_.dtype,
            {shape_.documents * rows, count, shape_.head_dim},
            {width * shape_.head_dim, shape_.head_dim, 1}};
  }
  kernels::View keys(Bytes& buffer, std::int64_t first) const {
    if (shape_.queries == shape_.keys) {
      return heads(buffer, width_, shape_.heads + first, shape_.kv_heads, shape_.keys);
    }
    return heads(buffer, 2 * shape_.kv_heads, first, shape_.kv_heads, shape_.keys);
  }
  kernels::ConstView sequences() const { return {sequences_.data(), DType::kI32, {shape_.documents, 4}, {4, 1}}; }
  kernels::View log_sum_exp() {
    return {log_sum_exp_.data(), DType::kF32, {shape_.documents * shape_.queries, shape_.heads}, {shape_.heads, 1}};
  }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }

  Shape shape_;
  std::int64_t width_;
  Bytes inputs_, cache_, gradients_, y_, dy_;
  std::vector<float> log_sum_exp_;
  std::vector<std::int32_t> sequences_;
};

/// Seconds of one launch.
template <typename Kernel>
double measure(const Settings& settings, const Kernel& kernel) {
  kernel.check();
  devices::KernelTable table;
  devices::cpu::add_attention_kernels(table, settings.set);
  const devices::KernelEntry& entry = table[kernels::kernel_id<Kernel>];
  static Bytes memory;
  const std::size_t bytes = entry.workspace_bytes(&kernel, settings.threads);
  memory.resize(std::max(memory.size(), bytes));
  const double begin = now(settings.threads);
  entry(&kernel, {memory.data(), bytes, settings.threads});
  return now(settings.threads) - begin;
}

void bench_training(const Settings& settings, const Shape& shape) {
  Operands operands(shape);
  const double pairs = static_cast<double>(shape.documents * shape.heads * shape.head_dim) *
                       static_cast<double>(shape.keys * (shape.keys + 1) / 2);
  Best best;
  for (int i = 0; i < settings.repetitions; ++i) {
    const double forward = measure(settings, operands.forward()), backward = measure(settings, operands.backward());
    best.forward = std::max(best.forward, 4 * pairs / forward);
    best.backward = std::max(best.backward, 10 * pairs / backward);
    best.both = std::max(best.both, 14 * pairs / (forward + backward));
    best.ceiling = std::max(best.ceiling, devices::cpu::measure_peak(settings.set, shape.dtype, settings.threads));
  }
  fmt::print(
      "{:4} {:2} x {:5}  heads {:2}/{} x {:3}  peak {:6.0f} GFLOP/s  forward {:4.1f} %  backward {:4.1f} %  "
      "both {:4.1f} %\n",
      kernels::name_of(shape.dtype), shape.documents, shape.keys, shape.heads, shape.kv_heads, shape.head_dim,
      best.ceiling / 1e9, 100 * best.forward / best.ceiling, 100 * best.backward / best.ceiling,
      100 * best.both / best.ceiling);
}

void bench_decode(const Settings& settings, const Shape& shape) {
  Operands operands(shape);
  const double bytes = static_cast<double>(shape.documents * shape.keys * shape.kv_heads * shape.head_dim) * 2 *
                       static_cast<double>(kernels::size_of(shape.dtype));
  const std::vector<std::uint64_t> memory(kMemoryWords, 1);
  Best best;
  for (int i = 0; i < settings.repetitions; ++i) {
    best.forward = std::max(best.forward, bytes / measure(settings, operands.forward()));
    best.ceiling = std::max(best.ceiling, devices::cpu::measure_read_bandwidth(memory, settings.threads));
  }
  fmt::print("{:4} decode {:2} x {:5} keys  heads {:2}/{} x {:3}  reading {:5.1f} GB/s  {:5.1f} %\n",
             kernels::name_of(shape.dtype), shape.documents, shape.keys, shape.heads, shape.kv_heads, shape.head_dim,
             best.ceiling / 1e9, 100 * best.forward / best.ceiling);
}

void run(const Settings& settings) {
  fmt::print("{}, {} threads\n", devices::cpu::name_of(settings.set), settings.threads);
  for (const DType dtype : {DType::kBf16, DType::kF32}) {
    bench_training(settings, {8, 512, 512, 9, 3, 64, dtype});
    bench_training(settings, {64, 64, 64, 9, 3, 64, dtype});
    bench_training(settings, {1, 4096, 4096, 9, 3, 64, dtype});
    bench_training(settings, {8, 512, 512, 4, 4, 64, dtype});
    bench_training(settings, {8, 512, 512, 8, 2, 80, dtype});
    bench_training(settings, {8, 512, 512, 8, 2, 96, dtype});
    bench_training(settings, {8, 512, 512, 8, 2, 128, dtype});
    bench_decode(settings, {8, 1, 16384, 9, 3, 64, dtype});
    bench_decode(settings, {8, 1, 16384, 8, 2, 128, dtype});
  }
}

}  // namespace
}  // namespace flyover::bench

int main(int count, char** arguments) {
  const std::vector<std::string> words(arguments + 1, arguments + count);
  flyover::bench::run({words.size() > 0 ? std::stoi(words[0]) : 1, words.size() > 1 ? std::stoi(words[1]) : 20,
                       flyover::devices::cpu::choose_instruction_set(words.size() > 2 ? words[2] : "")});
}
