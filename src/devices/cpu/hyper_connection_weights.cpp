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
constexpr std::int64_t kSpanTokens = 32 * kBlockTokens;
/// Where the sums of the spans are: [spans] of dfn [rows, columns], dbase [rows] and what adds up to dscale [rows].
struct Layout {
  std::int64_t rows, columns, spans;

  explicit Layout(const Kernel& kernel)
      : rows(kernel.dfn.size(0)), columns(kernel.dfn.size(1)), spans(blocks_of(kernel.streams.size(0), kSpanTokens)) {}
  std::int64_t span_floats() const { return rows * (columns + 2); }
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

/// `columns` columns of `tokens` tokens as [steps][kProductColumns] words.
template <bool kPairs, typename T>
HWY_INLINE void pack_block(const RowAccess<const T>& x, std::int64_t token, std::int64_t tokens, std::int64_t column,
                           std::int64_t columns, float* words) {
  for (std::int64_t t = 0; t < tokens; t += kPerWord<kPairs>) {
    const T* const first = x[token + t] + column;
    const T* const second = t + 1 < tokens ? x[token + t + 1] + column : first;  // times 0 where there is none
    for_each_vector_or_pair<T>(columns, [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
      if constexpr (kPairs) {
        put(pair_words_of_bf16(load(first + i, lanes), load(second + i, lanes)), words + i);
      } else {
        put(load(first + i, lanes), words + i);
      }
    });
    words += kProductColumns;
  }
}

/// One strip of columns over one span of tokens.
template <bool kPairs, typename T>
void add_strip(const RowAccess<const T>& x, const RowAccess<const float>& factors, std::int64_t first_token,
               std::int64_t column, float* sums) {
  alignas(64) float words[kBlockTokens * kProductColumns];
  alignas(64) float strip[kMaximumRows * kProductColumns];
  const std::int64_t columns = std::min(kProductColumns, x.width - column);
  const std::int64_t last_token = std::min(x.rows, first_token + kSpanTokens);
  std::fill_n(words, kBlockTokens * kProductColumns, 0.0f);
  std::fill_n(strip, factors.width * kProductColumns, 0.0f);
  for (std::int64_t token = first_token; token < last_token; token += kBlockTokens) {
    const std::int64_t tokens = std::min(kBlockTokens, last_token - token);
    pack_block<kPairs>(x, token, tokens, column, columns, words);
    multiply<kPairs>({reinterpret_cast<const std::uint32_t*>(factors[token / kPerWord<kPairs>]), 1, factors.width,
                      reinterpret_cast<const std::uint32_t*>(words), strip, kProductColumns, factors.width,
                      blocks_of(tokens, kPerWord<kPairs>), true});
  }
  for (std::int64_t i = 0; i < factors.width; ++i) {
    const float* const from = strip + i * kProductColumns;
    float* const to = sums + i * x.width + column;
    for_each_vector_or_pair<T>(columns, [&](std::int64_t c, auto lanes) FLYOVER_VECTOR_BODY {
      put_together(take(from + c, lanes), to + c, lanes);
    });
  }
}

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
  float* const base_sums = sums + layout.rows * layout.columns;
  float* const scale_sums = base_sums + layout.rows;
  if constexpr (kPairs) {
    float* const words = sums + layout.spans * layout.span_floats();
    pack_factors(factors, context.threads, words);
    factors = {words, blocks_of(factors.rows, 2), factors.width, factors.width};
  }
  const std::int64_t strips = blocks_of(layout.columns, kProductColumns);
  base::parallel_for(context.threads, layout.spans * (strips + 1), [&](std::int64_t item) {
    const std::int64_t span = item / (strips + 1), strip = item % (strips + 1), offset = span * layout.span_floats();
    if (strip < strips) {
      add_strip<kPairs>(x, factors, span * kSpanTokens, strip * kProductColumns, sums + offset);
    } else {
      add_rows(kernel, span * kSpanTokens, base_sums + offset, scale_sums + offset);
    }
  });
  base::parallel_for(context.threads, layout.rows,
                     [&](std::int64_t i) { add_spans(sums + i * layout.columns, layout, layout.columns, dfn[i]); });
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
