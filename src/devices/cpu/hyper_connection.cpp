#include <cmath>
#include <cstring>

#include "devices/cpu/families.h"
#include "devices/cpu/hyper_connection_parts.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/hyper_connection.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/hyper_connection_mixing.h"
#include "devices/cpu/streams_rows.h"
#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

/// Tokens that are passed over together: a multiple of every vector's lanes and of every tile's tokens, few enough for
/// their streams to stay in the second-level cache between two passes.
constexpr std::int64_t kBlockTokens = 48;
/// Tokens that one item of a parallel loop handles, block by block.
constexpr std::int64_t kItemTokens = 2 * kBlockTokens;

/// A tile of dot products, whose sums stay in registers: 24 of 32, or 12 of 16.
constexpr int kTileRows = 4;
constexpr int kTileTokens = HWY_TARGET == HWY_AVX3 ? 6 : 3;

/// to[t * (rows + 1) + i] = row i of fn . token t. Every sum is one vector, filled in the order of the columns; its
/// lanes are added at the end. The row `next` of the streams is fetched meanwhile.
template <int kTokens, typename T>
HWY_INLINE void dot_tile(const RowAccess<const float>& fn, std::int64_t row, const RowAccess<const T>& x,
                         std::int64_t token, const T* next, float* to) {
  const float* rows[kTileRows];
  for (int i = 0; i < kTileRows; ++i) {
    rows[i] = fn[std::min(row + i, fn.rows - 1)];
  }
  Vector sums[kTileRows][kTokens];
  for (auto& of_row : sums) {
    for (Vector& sum : of_row) {
      sum = hn::Zero(Tag());
    }
  }
  for_each_vector(x.width, [&](std::int64_t k, auto lanes) FLYOVER_VECTOR_BODY {
    fetch(next, k);
    Vector values[kTokens];
#pragma GCC unroll 6
    for (int t = 0; t < kTokens; ++t) {
      values[t] = load(x[token + t] + k, lanes);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kTileRows; ++i) {
      const Vector weight = load(rows[i] + k, lanes);
#pragma GCC unroll 6
      for (int t = 0; t < kTokens; ++t) {
        sums[i][t] = hn::MulAdd(weight, values[t], sums[i][t]);
      }
    }
  });
  const auto count = static_cast<std::size_t>(std::min<std::int64_t>(kTileRows, fn.rows - row)) * sizeof(float);
  for (int t = 0; t < kTokens; ++t) {
    float totals[kTileRows];
    sums_of_lanes({sums[0][t], sums[1][t], sums[2][t], sums[3][t]}, totals);
    std::memcpy(to + t * (fn.rows + 1) + row, totals, count);
  }
}

/// fn x, then r, of kTokens tokens. Those that follow are fetched meanwhile.
template <int kTokens, typename T>
void product_of_tokens(const RowAccess<const T>& x, const RowAccess<const float>& fn, std::int64_t token, float epsilon,
                       float* to) {
  for (std::int64_t t = 0; t < kTokens; ++t) {
    const T* const from = x[token + t];
    const float squares =
        sum_of(fold_vectors(x.width, hn::Zero(Tag()), [&](Vector sum, std::int64_t k, auto lanes) FLYOVER_VECTOR_BODY {
          const Vector value = load(from + k, lanes);
          return hn::MulAdd(value, value, sum);
        }));
    to[t * (fn.rows + 1) + fn.rows] = 1.0f / std::sqrt(squares / static_cast<float>(x.width) + epsilon);
  }
  for (std::int64_t row = 0; row < fn.rows; row += kTileRows) {
    const std::int64_t next = std::min(token + kTokens + row / kTileRows % kTokens, x.rows - 1);
    dot_tile<kTokens>(fn, row, x, token, x[next], to);
  }
}

/// fn x, then r, of the tokens [begin, end).
template <typename T>
void products(const kernels::HyperConnectionCoefficients& kernel, std::int64_t begin, std::int64_t end) {
  const auto x = rows_of<const T>(kernel.streams);
  const auto fn = rows_of<const float>(kernel.fn);
  const auto product = rows_of<float>(kernel.product);
  std::int64_t token = begin;
  for (; token + kTileTokens <= end; token += kTileTokens) {
    product_of_tokens<kTileTokens>(x, fn, token, kernel.norm_epsilon, product[token]);
  }
  for (; token < end; ++token) {
    product_of_tokens<1>(x, fn, token, kernel.norm_epsilon, product[token]);
  }
}

template <int kStreams>
void mix_tokens(const kernels::HyperConnectionCoefficients& kernel, std::int64_t begin, std::int64_t end) {
  const Site site = site_of(kernel);
  const auto product = rows_of<const float>(kernel.product);
  const auto coefficients = rows_of<float>(kernel.coefficients);
  TokenLanes lanes, mixed;
  for (std::int64_t token = begin; token < end; token += kLanes) {
    const std::int64_t tokens = std::min(kLanes, end - token);
    lanes.read(product[token], tokens, site.rows + 1);
    mix<kStreams>(site, lanes, nullptr, mixed);
    mixed.write(coefficients[token], tokens, site.rows);
  }
}

template <typename T, int kStreams>
void collapse_tokens(const kernels::HyperConnectionCoefficients& kernel, std::int64_t begin, std::int64_t end) {
  const auto x = rows_of<const T>(kernel.streams);
  const auto y = rows_of<T>(*kernel.y);
  const auto pre = rows_of<const float>(kernel.coefficients);
  for (std::int64_t t = begin; t < end; ++t) {
    collapse_row<kStreams>(x[t], pre[t], kernel.stream_count, y.width, y[t]);
  }
}

void coefficients(const kernels::HyperConnectionCoefficients& kernel, const LaunchContext& context) {
  const std::int64_t tokens = kernel.streams.size(0);
  with_element_type(kernel.kName, kernel.streams.dtype, [&]<typename T>(T) {
    with_stream_count(kernel.stream_count, [&]<int kStreams>(std::integral_constant<int, kStreams>) {
      base::parallel_for(context.threads, blocks_of(tokens, kItemTokens), [&](std::int64_t item) {
        const std::int64_t last = std::min(tokens, (item + 1) * kItemTokens);
        for (std::int64_t begin = item * kItemTokens; begin < last; begin += kBlockTokens) {
          const std::int64_t end = std::min(last, begin + kBlockTokens);
          products<T>(kernel, begin, end);
          mix_tokens<kStreams>(kernel, begin, end);
          if (kernel.y.has_value()) {
            collapse_tokens<T, kStreams>(kernel, begin, end);
          }
        }
      });
    });
  });
}

void add_kernels(KernelTable& table) {
  table.set<kernels::HyperConnectionCoefficients>(coefficients);
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_hyper_connection_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table) : N_AVX3::add_kernels(table);
  add_hyper_connection_backward_kernels(table, set);
  add_hyper_connection_weight_kernels(table, set);
}

}  // namespace flyover::devices::cpu
#endif
