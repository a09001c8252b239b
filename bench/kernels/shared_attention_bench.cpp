// The shared attention and the indexer against the machine's instruction peak, measured alternately in the same run,
// the best of each counts. Only the (query, key) pairs that are seen count as work: 4 flops a pair, head and element
// forward, 10 backward; 2 a pair for the indexer's scores and targets, 6 for its loss.
//
//   shared_attention_bench [threads] [repetitions] [instruction set]
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "base/random.h"
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
  InstructionSet set;
};

struct Shape {
  std::int64_t documents, tokens, heads, head_dim, ratio;
  std::int64_t limit;  ///< chosen entries of a query; 0: no lists
  DType dtype;
};

constexpr std::int64_t kWindow = 128;

/// Dense tensors that live as long as this does.
class Tensors {
 public:
  View make(DType dtype, const kernels::Dims& shape) {
    auto& block = blocks_.emplace_back(static_cast<std::size_t>(shape.elements()) * kernels::size_of(dtype) + 64);
    void* data = block.data();
    std::size_t space = block.size();
    return {std::align(64, block.size() - 64, data, space), dtype, shape, kernels::dense_strides(shape)};
  }
  View random(DType dtype, const kernels::Dims& shape) {
    // Numbers that repeat after a prime count: a fill that takes no longer than what is measured.
    static const std::vector<float> numbers = [] {
      const base::Random random(1, base::RandomPurpose::kTest);
      std::vector<float> values(65521);
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<float>(random.normal(i));
      }
      return values;
    }();
    const View view = make(dtype, shape);
    const auto elements = static_cast<std::size_t>(view.elements());
    for (std::size_t i = 0, from = 997 * blocks_.size(); i < elements; ++i, ++from) {
      const float value = numbers[from % numbers.size()];
      if (dtype == DType::kF32) {
        static_cast<float*>(view.data)[i] = value;
      } else {
        static_cast<kernels::Bf16*>(view.data)[i] = kernels::to_bf16(value);
      }
    }
    return view;
  }

 private:
  std::vector<std::vector<std::byte>> blocks_;
};

/// Seconds of one launch.
template <typename Kernel>
double measure(const Settings& settings, const Kernel& kernel) {
  kernel.check();
  devices::KernelTable table;
  devices::cpu::add_shared_attention_kernels(table, settings.set);
  devices::cpu::add_indexer_kernels(table, settings.set);
  const devices::KernelEntry& entry = table[kernels::kernel_id<Kernel>];
  static std::vector<std::byte> memory;
  const std::size_t bytes = entry.workspace_bytes(&kernel, settings.threads);
  memory.resize(std::max(memory.size(), bytes + 64));
  void* workspace = memory.data();
  std::size_t space = memory.size();
  std::align(64, bytes, workspace, space);
  const double begin = now(settings.threads);
  entry(&kernel, {static_cast<std::byte*>(workspace), bytes, settings.threads});
  return now(settings.threads) - begin;
}

/// The best share of the ceiling of a kernel's runs.
struct Best {
  double flops;
  double seconds = 1e30;
  void add(double measured) { seconds = std::min(seconds, measured); }
  double rate() const { return flops / seconds / 1e9; }
};

struct Operands {
  Tensors tensors;
  View sequences, selected;
  double token_pairs = 0, entry_pairs = 0;

  explicit Operands(const Shape& shape) {
    const std::int64_t entries = shape.ratio > 0 ? shape.tokens / shape.ratio : 0;
    sequences = tensors.make(DType::kI32, {shape.documents, kernels::kSharedColumns});
    selected = tensors.make(DType::kI32, {shape.documents * shape.tokens, std::max<std::int64_t>(1, shape.limit)});
    auto* table = static_cast<std::int32_t*>(sequences.data);
    auto* list = static_cast<std::int32_t*>(selected.data);
    const base::Random random(7, base::RandomPurpose::kTest);
    for (std::int64_t document = 0; document < shape.documents; ++document) {
      const std::int64_t token = document * shape.tokens;
      for (const std::int64_t value : {token, shape.tokens, token, shape.tokens, document * entries}) {
        *table++ = static_cast<std::int32_t>(value);
      }
      for (std::int64_t position = 0; position < shape.tokens; ++position) {
        const std::int64_t visible = shape.ratio > 0 ? (position + 1) / shape.ratio : 0;
        std::int64_t place = 0;
        for (std::int64_t entry = 0; entry < visible && place < shape.limit; ++entry) {
          // Each of the visible entries with the same chance, as many as there is room for.
          const auto key = static_cast<std::uint64_t>((token + position) * entries + entry);
          const auto left = static_cast<std::uint64_t>(visible - entry);
          if (random.below(key, left) < static_cast<std::uint64_t>(shape.limit - place)) {
            list[place++] = static_cast<std::int32_t>(entry);
          }
        }
        std::fill(list + place, list + selected.size(1), -1);
        list += selected.size(1);
        token_pairs += static_cast<double>(std::min(position + 1, kWindow));
        entry_pairs += static_cast<double>(shape.limit > 0 ? place : visible);
      }
    }
  }
};

void bench_attention(const Settings& settings, const Shape& shape) {
  Operands operands(shape);
  Tensors& tensors = operands.tensors;
  const std::int64_t tokens = shape.documents * shape.tokens;
  const std::int64_t entries = shape.ratio > 0 ? tokens / shape.ratio : 0;
  const auto statistics = [&](const kernels::Dims& dims) { return tensors.random(DType::kF32, dims); };
  const auto rows = [&](std::int64_t count) { return tensors.random(shape.dtype, {count, shape.head_dim}); };
  const auto heads = [&] { return tensors.random(shape.dtype, {tokens, shape.heads, shape.head_dim}); };
  const auto q = heads(), keys = rows(tokens), compressed = rows(entries), y = heads(), dy = heads(), dq = heads(),
             dkeys = rows(tokens), dentries = rows(entries), log_sum_exp = statistics({tokens, shape.heads}),
             sink = statistics({shape.heads}), dsink = statistics({shape.heads});
  kernels::SharedAttentionForward forward{q,
                                          keys,
                                          std::nullopt,
                                          std::nullopt,
                                          sink,
                                          operands.sequences,
                                          y,
                                          log_sum_exp,
                                          {kWindow, shape.ratio, 0},
                                          1.0f / std::sqrt(static_cast<float>(shape.head_dim)),
                                          0};
  kernels::SharedAttentionBackward backward{q,
                                            keys,
                                            std::nullopt,
                                            std::nullopt,
                                            sink,
                                            y,
                                            log_sum_exp,
                                            dy,
                                            operands.sequences,
                                            dq,
                                            dkeys,
                                            std::nullopt,
                                            dsink,
                                            {kWindow, shape.ratio, 0},
                                            forward.scale,
                                            0};
  if (shape.ratio > 0) {
    forward.entries = backward.entries = compressed;
    backward.dentries = dentries;
  }
  if (shape.limit > 0) {
    forward.selected = backward.selected = operands.selected;
  }
  const double work = (operands.token_pairs + operands.entry_pairs) * static_cast<double>(shape.heads * shape.head_dim);
  Best forth{4 * work}, back{10 * work};
  double ceiling = 0;
  for (int i = 0; i < settings.repetitions; ++i) {
    forth.add(measure(settings, forward));
    back.add(measure(settings, backward));
    ceiling = std::max(ceiling, measure_peak(settings.set, shape.dtype, settings.threads) / 1e9);
  }
  const double both = (forth.flops + back.flops) / (forth.seconds + back.seconds) / 1e9;
  fmt::print(
      "{:4} {:3} x {:5}  heads {:3} x {:3}  ratio {:3}  limit {:4}  peak {:5.0f}  forward {:4.0f} {:4.1f} %  backward "
      "{:4.0f} {:4.1f} %  both {:4.1f} %\n",
      kernels::name_of(shape.dtype), shape.documents, shape.tokens, shape.heads, shape.head_dim, shape.ratio,
      shape.limit, ceiling, forth.rate(), 100 * forth.rate() / ceiling, back.rate(), 100 * back.rate() / ceiling,
      100 * both / ceiling);
}

/// The indexer of `shape`; its targets come from an attention of the same heads.
void bench_indexer(const Settings& settings, const Shape& shape) {
  Operands operands(shape);
  Tensors& tensors = operands.tensors;
  const std::int64_t tokens = shape.documents * shape.tokens, entries = tokens / shape.ratio;
  const auto statistics = [&](const kernels::Dims& dims) { return tensors.random(DType::kF32, dims); };
  const auto q = tensors.random(shape.dtype, {tokens, shape.heads, shape.head_dim}),
             k = tensors.random(shape.dtype, {entries, shape.head_dim}), weights = statistics({tokens, shape.heads}),
             scores = statistics({tokens, shape.limit}), target = statistics({tokens, shape.limit}),
             log_sum_exp = statistics({tokens, shape.heads}), token_weights = statistics({tokens}),
             loss = statistics({1}), dq = tensors.random(shape.dtype, {tokens, shape.heads, shape.head_dim}),
             dk = tensors.random(shape.dtype, {entries, shape.head_dim}), dweights = statistics({tokens, shape.heads});
  const View selected = tensors.make(DType::kI32, {tokens, shape.limit});
  const double visible = static_cast<double>(shape.documents * shape.tokens) * static_cast<double>(shape.tokens) /
                         static_cast<double>(2 * shape.ratio);
  const double products = static_cast<double>(shape.heads * shape.head_dim);
  Best select{2 * visible * products}, aim{2 * operands.entry_pairs * products},
      learn{6 * operands.entry_pairs * products};
  double ceiling = 0;
  for (int i = 0; i < settings.repetitions; ++i) {
    select.add(
        measure(settings, kernels::IndexerSelect{q, k, weights, operands.sequences, selected, scores, shape.ratio, 0}));
    aim.add(measure(settings, kernels::IndexerTarget{q, k, log_sum_exp, operands.selected, operands.sequences, target,
                                                     0.01f, shape.ratio}));
    learn.add(measure(settings, kernels::IndexerLoss{q, k, weights, operands.selected, scores, target, token_weights,
                                                     operands.sequences, loss, dq, dk, dweights, 1.0f, shape.ratio}));
    ceiling = std::max(ceiling, measure_peak(settings.set, shape.dtype, settings.threads) / 1e9);
  }
  fmt::print(
      "{:4} {:3} x {:5}  heads {:3} x {:3}  ratio {:3}  limit {:4}  peak {:5.0f}  select {:4.0f} {:4.1f} % {:5.1f} ms  "
      "target {:4.0f} {:4.1f} % {:5.1f} ms  loss {:4.0f} {:4.1f} % {:5.1f} ms\n",
      kernels::name_of(shape.dtype), shape.documents, shape.tokens, shape.heads, shape.head_dim, shape.ratio,
      shape.limit, ceiling, select.rate(), 100 * select.rate() / ceiling, 1e3 * select.seconds, aim.rate(),
      100 * aim.rate() / ceiling, 1e3 * aim.seconds, learn.rate(), 100 * learn.rate() / ceiling, 1e3 * learn.seconds);
}

void run(const Settings& settings) {
  fmt::print("{}, {} threads; rates in GFLOP/s\n", devices::cpu::name_of(settings.set), settings.threads);
  for (const DType dtype : {DType::kBf16, DType::kF32}) {
    bench_attention(settings, {32, 1024, 8, 64, 0, 0, dtype});
    bench_attention(settings, {32, 1024, 8, 64, 4, 0, dtype});
    bench_attention(settings, {32, 1024, 8, 64, 4, 256, dtype});
    bench_attention(settings, {32, 1024, 8, 64, 4, 64, dtype});
    bench_attention(settings, {32, 1024, 8, 64, 128, 0, dtype});
    bench_attention(settings, {2, 1024, 64, 512, 0, 0, dtype});
    bench_attention(settings, {2, 1024, 64, 512, 4, 64, dtype});
    bench_attention(settings, {1, 8192, 8, 64, 4, 256, dtype});
    bench_indexer(settings, {32, 1024, 4, 32, 4, 256, dtype});
    bench_indexer(settings, {32, 1024, 4, 32, 4, 64, dtype});
    bench_indexer(settings, {2, 4096, 64, 128, 4, 512, dtype});
  }
}

}  // namespace
}  // namespace flyover::bench

int main(int argc, char** argv) {
  using namespace flyover;
  const bench::Settings settings{argc > 1 ? std::atoi(argv[1]) : 2, argc > 2 ? std::atoi(argv[2]) : 10,
                                 devices::cpu::choose_instruction_set(argc > 3 ? argv[3] : "")};
  bench::run(settings);
}
