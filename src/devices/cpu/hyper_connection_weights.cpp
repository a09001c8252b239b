#include "devices/cpu/hyper_connection_parts.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/hyper_connection_weights.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/hyper_connection_multiply.h"
#include "devices/cpu/vector_math.h"
#include "kernels/hyper_connection.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

using Kernel = kernels::HyperConnectionWeightGradient;

/// Tokens are summed in registers in blocks, blocks in memory in spans, spans in the end.
constexpr std::int64_t kBlockTokens = 128;
constexpr std::int64_t kSpanTokens = 16 * kBlockTokens;
/// Columns that one item of the parallel loop handles: long enough pieces of rows for the memory.
constexpr std::int64_t kStripColumns = 8 * kProductColumns;
/// Where the sums of the spans are: [spans] of dfn [rows, stride], dbase [rows] and what adds up to dscale [rows].
struct Layout {
  std::int64_t rows, columns, stride, spans;

  explicit Layout(const Kernel& kernel)
      : rows(kernel.dfn.size(0)),
        columns(kernel.dfn.size(1)),
        stride(blocks_of(columns, kProductColumns) * kProductColumns),
        spans(blocks_of(kernel.streams.size(0), kSpanTokens)) {}
  std::int64_t span_floats() const { return rows * (stride + 2); }
};

/// dproduct in pairs of tokens: [tokens / 2][rows] words.
void pack_factors(const RowAccess<const float>& factors, int threads, float* words) {
  const RowAccess<float> to{words, blocks_of(factors.rows, 2), factors.width, factors.width};
  for_each_row(threads, to.rows, 2 * to.width, [&](std::int64_t pair) HWY_ATTR {
    const bool alone = 2 * pair + 1 == factors.rows;
    for_each_vector(factors.width, [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
      const Vector second = alone ? hn::Zero(Tag()) : load(factors[2 * pair + 1] + i, lanes);
      store(pair_words(load(factors[2 * pair] + i, lanes), second), to[pair] + i, lanes);
    });
  });
}

/// One strip of columns over one span of tokens.
template <bool kPairs, typename T>
struct Strip {
  RowAccess<const T> x;
  RowAccess<const float> factors;
  std::int64_t last_token;
  std::int64_t first_column, columns;

  /// So many columns of so many tokens as [steps][kProductColumns] words.
  HWY_INLINE void pack(std::int64_t token, std::int64_t tokens, std::int64_t column, std::int64_t count,
                       float* words) const {
    const std::int64_t part = (column - first_column) / kProductColumns;
    for (std::int64_t t = 0; t < tokens; t += kPerWord<kPairs>) {
      const T* const first = x[token + t] + column;
      const T* const second = t + 1 < tokens ? x[token + t + 1] + column : first;  // times 0 where there is none
      fetch_next_block(token, part * kBlockTokens + t);
      for_each_vector_or_pair<T>(count, [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
        if constexpr (kPairs) {
          put(pair_words_of_bf16(load(first + i, lanes), load(second + i, lanes)), words + i);
        } else {
          put(load(first + i, lanes), words + i);
        }
      });
      words += kProductColumns;
    }
  }

  /// Spreads the memory of the next block over the work on this one, in pieces of kProductColumns columns.
  HWY_INLINE void fetch_next_block(std::int64_t token, std::int64_t piece) const {
    constexpr std::int64_t kPieces = kStripColumns / kProductColumns;
    for (std::int64_t p = piece; p < piece + kPerWord<kPairs>; ++p) {
      const T* const from = x[std::min(token + kBlockTokens + p / kPieces, x.rows - 1)] + first_column;
      for (std::int64_t i = 0; i < kProductColumns; i += 64 / static_cast<std::int64_t>(sizeof(T))) {
        fetch(from + p % kPieces * kProductColumns, i);
      }
    }
  }

  void add(std::int64_t first_token, float* sums, std::int64_t stride) const {
    alignas(64) float words[kBlockTokens * kProductColumns];
    std::fill_n(words, kBlockTokens * kProductColumns, 0.0f);
    for (std::int64_t token = first_token; token < last_token; token += kBlockTokens) {
      const std::int64_t tokens = std::min(kBlockTokens, last_token - token);
      for (std::int64_t c = 0; c < columns; c += kProductColumns) {
        pack(token, tokens, first_column + c, std::min(kProductColumns, columns - c), words);
        multiply<kPairs>({reinterpret_cast<const std::uint32_t*>(factors[token / kPerWord<kPairs>]), 1, factors.width,
                          reinterpret_cast<const std::uint32_t*>(words), sums + first_column + c, stride, factors.width,
                          blocks_of(tokens, kPerWord<kPairs>), token > first_token});
      }
    }
  }
};

/// The sums of dbase and dscale over one span of tokens.
void add_rows(const Kernel& kernel, std::int64_t first_token, float* base, float* scale) {
  const auto product = rows_of<const float>(kernel.product), gradient = rows_of<const float>(kernel.dpreactivation);
  const std::int64_t rows = gradient.width, last_token = std::min(product.rows, first_token + kSpanTokens);
  std::fill_n(base, rows, 0.0f);
  std::fill_n(scale, rows, 0.0f);
  for (std::int64_t token = first_token; token < last_token; token += kBlockTokens) {
    const std::int64_t end = std::min(last_token, token + kBlockTokens);
    for_each_vector(rows, [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
      Vector base_sum = hn::Zero(Tag()), scale_sum = hn::Zero(Tag());
      for (std::int64_t t = token; t < end; ++t) {
        const Vector dz = load(gradient[t] + i, lanes);
        const Vector u = hn::Mul(hn::Set(Tag(), product[t][rows]), load(product[t] + i, lanes));
        base_sum = hn::Add(base_sum, dz);
        scale_sum = hn::MulAdd(dz, u, scale_sum);
      }
      store(hn::Add(load(base + i, lanes), base_sum), base + i, lanes);
      store(hn::Add(load(scale + i, lanes), scale_sum), scale + i, lanes);
    });
  }
}

/// to += the sums of all spans, in order, which lie as products of streams of type T do.
template <typename T>
void add_products_of_spans(const float* sums, const Layout& layout, float* to) {
  for (std::int64_t first = 0; first < layout.columns; first += kProductColumns) {
    for_each_vector_or_pair<T>(
        std::min(kProductColumns, layout.columns - first), [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
          const auto sum = [](Vector a, Vector b) FLYOVER_VECTOR_BODY { return hn::Add(a, b); };
          auto total = take(sums + first + i, lanes);
          for (std::int64_t span = 1; span < layout.spans; ++span) {
            total = apply(sum, total, take(sums + span * layout.span_floats() + first + i, lanes));
          }
          total = apply(sum, take_apart(to + first + i, lanes), total);
          put_together(total, to + first + i, lanes);
        });
  }
}

/// to += the sums of all spans, in order.
void add_spans(const float* sums, const Layout& layout, std::int64_t count, float* to) {
  for_each_vector(count, [&](std::int64_t c, auto lanes) FLYOVER_VECTOR_BODY {
    Vector total = hn::Zero(Tag());
    for (std::int64_t span = 0; span < layout.spans; ++span) {
      total = hn::Add(total, load(sums + span * layout.span_floats() + c, lanes));
    }
    store(hn::Add(load(to + c, lanes), total), to + c, lanes);
  });
}

void add_scale(const float* sums, const Layout& layout, const Kernel& kernel) {
  const auto dscale = rows_of<float>(kernel.dscale);
  float totals[3] = {};
  for (std::int64_t span = 0; span < layout.spans; ++span) {
    for (std::int64_t i = 0; i < layout.rows; ++i) {
      totals[std::min<std::int64_t>(i / kernel.stream_count, 2)] += sums[span * layout.span_floats() + i];
    }
  }
  for (std::int64_t i = 0; i < dscale.width; ++i) {
    dscale.data[i] += totals[i];
  }
}

template <typename T, bool kPairs>
void weight_gradient(const Kernel& kernel, const LaunchContext& context) {
  const Layout layout(kernel);
  const auto x = rows_of<const T>(kernel.streams);
  const auto dfn = rows_of<float>(kernel.dfn);
  auto factors = rows_of<const float>(kernel.dproduct);
  float* const sums = reinterpret_cast<float*>(context.workspace);
  float* const base_sums = sums + layout.rows * layout.stride;
  float* const scale_sums = base_sums + layout.rows;
  if constexpr (kPairs) {
    float* const words = sums + layout.spans * layout.span_floats();
    pack_factors(factors, context.threads, words);
    factors = {words, blocks_of(factors.rows, 2), factors.width, factors.width};
  }
  if (x.rows == 0) {
    return;
  }
  const std::int64_t strips = blocks_of(layout.columns, kStripColumns);
  base::parallel_for(context.threads, layout.spans * (strips + 1), [&](std::int64_t item) {
    const std::int64_t span = item / (strips + 1), strip = item % (strips + 1), offset = span * layout.span_floats();
    if (strip < strips) {
      const std::int64_t column = strip * kStripColumns;
      const Strip<kPairs, T> part{x, factors, std::min(x.rows, (span + 1) * kSpanTokens), column,
                                  std::min(kStripColumns, x.width - column)};
      part.add(span * kSpanTokens, sums + offset, layout.stride);
    } else {
      add_rows(kernel, span * kSpanTokens, base_sums + offset, scale_sums + offset);
    }
  });
  base::parallel_for(context.threads, layout.rows,
                     [&](std::int64_t i) { add_products_of_spans<T>(sums + i * layout.stride, layout, dfn[i]); });
  add_spans(base_sums, layout, layout.rows, static_cast<float*>(kernel.dbase.data));
  add_scale(scale_sums, layout, kernel);
}

/// kPairs: streams of bf16 are multiplied in pairs, which rounds dproduct to bf16.
template <bool kPairs>
void any_weight_gradient(const Kernel& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.streams.dtype, [&]<typename T>(T) {
    weight_gradient<T, kPairs && std::is_same_v<T, kernels::Bf16>>(kernel, context);
  });
}

std::size_t weight_gradient_workspace(const Kernel& kernel, int) {
  const Layout layout(kernel);
  const std::int64_t words = blocks_of(kernel.streams.size(0), 2) * layout.rows;
  return static_cast<std::size_t>(layout.spans * layout.span_floats() + words) * sizeof(float);
}

void add_kernels(KernelTable& table, bool pairs) {
  table.set<Kernel>(pairs ? any_weight_gradient<true> : any_weight_gradient<false>, weight_gradient_workspace);
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_hyper_connection_weight_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table, false)
                               : N_AVX3::add_kernels(table, set == InstructionSet::kAvx512Bf16);
}

}  // namespace flyover::devices::cpu
#endif
