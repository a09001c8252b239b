#include "devices/cpu/hyper_connection_parts.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/hyper_connection_backward.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/hyper_connection_mixing.h"
#include "devices/cpu/hyper_connection_multiply.h"
#include "devices/cpu/streams_rows.h"
#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

using Kernel = kernels::HyperConnectionCoefficientsBackward;

/// fn as the products want it: for each stream and 64 columns of it [steps][64] words.
template <bool kPairs>
struct PackedRows {
  std::int64_t steps, streams, width, chunks;

  explicit PackedRows(const Kernel& kernel)
      : steps(blocks_of(kernel.fn.size(0), kPerWord<kPairs>)),
        streams(kernel.stream_count),
        width(kernel.fn.size(1) / kernel.stream_count),
        chunks(blocks_of(width, kProductColumns)) {}
  std::int64_t words() const { return streams * chunks * steps * kProductColumns; }
  std::int64_t tile(std::int64_t stream, std::int64_t chunk) const {
    return (stream * chunks + chunk) * steps * kProductColumns;
  }
};

template <typename T, bool kPairs>
void pack(const Kernel& kernel, const PackedRows<kPairs>& packed, int threads, float* words) {
  const auto fn = rows_of<const float>(kernel.fn);
  base::parallel_for(threads, packed.streams * packed.chunks, [&](std::int64_t item) HWY_ATTR {
    const std::int64_t chunk = item % packed.chunks,
                       first = item / packed.chunks * packed.width + chunk * kProductColumns;
    const std::int64_t columns = std::min(kProductColumns, packed.width - chunk * kProductColumns);
    for (std::int64_t step = 0; step < packed.steps; ++step) {
      const std::int64_t row = step * kPerWord<kPairs>;
      float* const to = words + (item * packed.steps + step) * kProductColumns;
      for_each_vector_or_pair<T>(columns, [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
        const auto weights = take_apart(fn[row] + first + i, lanes);
        if constexpr (kPairs) {
          // The last row may be without a second one: 0 times anything that is finite.
          const bool alone = row + 1 == fn.rows;
          const auto second = take_apart(fn[alone ? row : row + 1] + first + i, lanes);
          put(pair_words(weights, second), to + i);
        } else {
          put(weights, to + i);
        }
      });
    }
  });
}

/// Tokens that are passed over together: few enough for what belongs to them, and to the next block, which is fetched
/// during the work on one, to stay in the second-level cache.
constexpr std::int64_t kBlockTokens = 32;
/// Tokens that one item of a parallel loop handles, block by block.
constexpr std::int64_t kItemTokens = 8 * kBlockTokens;
/// Tokens whose streams' gradients are computed together.
constexpr std::int64_t kTileTokens = kProductRows;

/// Scratch of one thread, in floats.
struct Scratch {
  std::int64_t mixing;        ///< for the way back through Sinkhorn's steps
  std::int64_t coefficients;  ///< [kBlockTokens][rows]
  std::int64_t radial;        ///< [kBlockTokens]: the factor of x in dstreams
  std::int64_t factors;       ///< [kBlockTokens][steps]: dproduct as words of a product
  std::int64_t sums;          ///< [kTileTokens][streams][kProductColumns]

  explicit Scratch(const Site& site)
      : mixing(mixing_scratch(site)),
        coefficients(kBlockTokens * site.rows),
        radial(kBlockTokens),
        factors(kBlockTokens * site.rows),
        sums(kTileTokens * site.streams * kProductColumns) {}
  std::int64_t floats() const { return mixing + coefficients + radial + factors + sums; }
};

/// The work on one block of tokens.
template <int kStreams, typename T, bool kPairs>
struct Block {
  const Kernel& kernel;
  const Site& site;
  std::int64_t width;  ///< of one stream
  RowAccess<const T> x, dy, dexpanded;
  RowAccess<const float> product, dcoefficients;
  RowAccess<T> dstreams;
  RowAccess<float> dpreactivation, dproduct;
  PackedRows<kPairs> layout;
  const float* packed;
  float* mixing;
  RowAccess<float> coefficients;  ///< of the block's tokens
  float* radial;
  RowAccess<float> factors;  ///< of the block's tokens
  float* sums;
  std::int64_t begin, end;
  std::int64_t last;  ///< the tokens from `end` to here are next

  HWY_INLINE std::int64_t streams() const { return kStreams > 0 ? kStreams : site.streams; }

  /// stream_j . dy is added to what is in the lanes of the tokens from `token`.
  void add_collapse_gradient(std::int64_t token, std::int64_t tokens, TokenLanes& gradient) const {
    for (std::int64_t t = 0; t < tokens; ++t) {
      const T *const x_row = x[token + t], *const dy_row = dy[token + t];
      Vector sums[kStreamCapacity<kStreams>];
      for (std::int64_t j = 0; j < streams(); ++j) {
        sums[j] = hn::Zero(Tag());
      }
      for_each_vector_or_pair<T>(width, [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
        const auto dy_values = load(dy_row + i, lanes);
        for (std::int64_t j = 0; j < streams(); ++j) {
          sums[j] = add_products(load(x_row + j * width + i, lanes), dy_values, sums[j]);
        }
      });
      for (std::int64_t j = 0; j < streams(); ++j) {
        gradient.at[j][t] += sum_of_lanes(sums[j]);
      }
    }
  }

  /// Everything that is computed for a token rather than for its columns.
  void mix_tokens() const {
    TokenLanes lanes, mixed, gradient;
    for (std::int64_t token = begin; token < end; token += kLanes) {
      const std::int64_t tokens = std::min(kLanes, end - token);
      lanes.read(product[token], tokens, site.rows + 1);
      gradient.read(dcoefficients[token], tokens, site.rows);
      if (kernel.dy.has_value()) {
        add_collapse_gradient(token, tokens, gradient);
      }
      mix<kStreams>(site, lanes, mixing, mixed);
      mixed.write(coefficients[token - begin], tokens, site.rows);
      mix_back<kStreams>(site, lanes, mixing, gradient);
      gradient.write(dpreactivation[token], tokens, site.rows);
      const Vector r = lanes.row(site.rows);
      Vector along_product = hn::Zero(Tag());
      for (std::int64_t i = 0; i < site.rows; ++i) {
        const Vector du = hn::Mul(gradient.row(i), hn::Set(Tag(), site.scale[site.group_of(i)]));
        along_product = hn::MulAdd(du, lanes.row(i), along_product);
        gradient.set_row(i, hn::Mul(du, r));
      }
      gradient.write(dproduct[token], tokens, site.rows);
      const Vector cube = hn::Mul(hn::Mul(r, r), hn::Div(r, hn::Set(Tag(), static_cast<float>(x.width))));
      lanes.set_row(0, hn::Neg(hn::Mul(along_product, cube)));
      std::copy_n(lanes.at[0], tokens, radial + (token - begin));
      write_factors(gradient, token, tokens);
    }
  }

  /// dproduct of some tokens as words of a product.
  void write_factors(const TokenLanes& gradient, std::int64_t token, std::int64_t tokens) const {
    TokenLanes words;
    for (std::int64_t step = 0; step < layout.steps; ++step) {
      if constexpr (kPairs) {
        const bool alone = 2 * step + 1 == site.rows;
        const Vector second = alone ? hn::Zero(Tag()) : gradient.row(2 * step + 1);
        words.set_row(step, pair_words(gradient.row(2 * step), second));
      } else {
        words.set_row(step, gradient.row(step));
      }
    }
    words.write(factors[token - begin], tokens, layout.steps);
  }

  /// dstreams of one token at `columns` columns from `first` of every stream. `products` is fn' dproduct there.
  /// dexpanded is read before dstreams, which it may be, is written.
  HWY_INLINE void finish(std::int64_t token, std::int64_t first, std::int64_t columns, const float* products) const {
    const std::int64_t n = streams();
    const float* const mixed = coefficients[token - begin];
    const float along_x = radial[token - begin];
    const std::int64_t next = token + kBlockTokens < last ? kBlockTokens : 0;
    const std::int64_t ahead = next * x.stride, dy_ahead = next * dy.stride;
    const bool collapsed = kernel.dy.has_value(), expanded = kernel.dexpanded.has_value();
    const T* const x_row = x[token] + first;
    const T* const dy_row = collapsed ? dy[token] + first : nullptr;
    const T* const dexpanded_row = expanded ? dexpanded[token] + first : nullptr;
    T* const to = dstreams[token] + first;
    for_each_vector_or_pair<T>(columns, [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
      decltype(take(products, lanes)) total[kStreamCapacity<kStreams>];
      for (std::int64_t j = 0; j < n; ++j) {
        fetch(x_row + j * width + i, ahead);
        total[j] =
            add_scaled(along_x, load(x_row + j * width + i, lanes), take(products + j * kProductColumns + i, lanes));
      }
      if (collapsed) {
        fetch(dy_row + i, dy_ahead);
        const auto gradient = load(dy_row + i, lanes);
        for (std::int64_t j = 0; j < n; ++j) {
          total[j] = add_scaled(mixed[j], gradient, total[j]);
        }
      }
      if (expanded) {
        for (std::int64_t k = 0; k < n; ++k) {
          fetch(dexpanded_row + k * width + i, ahead);
          const auto gradient = load(dexpanded_row + k * width + i, lanes);
          for (std::int64_t j = 0; j < n; ++j) {
            total[j] = add_scaled(mixed[(2 + j) * n + k], gradient, total[j]);
          }
        }
      }
      for (std::int64_t j = 0; j < n; ++j) {
        const auto sum = [](Vector a, Vector b) FLYOVER_VECTOR_BODY { return hn::Add(a, b); };
        T* const place = to + j * width + i;
        if (!expanded) {  // otherwise it is dexpanded, most of the time
          fetch(place, ahead);
        }
        store(kernel.accumulate ? apply(sum, load(place, lanes), total[j]) : total[j], place, lanes);
      }
    });
  }

  void streams_gradient() const {
    const std::int64_t n = streams();
    for (std::int64_t token = begin; token < end; token += kTileTokens) {
      const std::int64_t tokens = std::min(kTileTokens, end - token);
      for (std::int64_t chunk = 0; chunk < layout.chunks; ++chunk) {
        for (std::int64_t j = 0; j < n; ++j) {
          multiply<kPairs>({reinterpret_cast<const std::uint32_t*>(factors[token - begin]), factors.stride, 1,
                            reinterpret_cast<const std::uint32_t*>(packed + layout.tile(j, chunk)),
                            sums + j * kProductColumns, n * kProductColumns, tokens, layout.steps, false});
        }
        const std::int64_t first = chunk * kProductColumns, columns = std::min(kProductColumns, width - first);
        for (std::int64_t t = 0; t < tokens; ++t) {
          finish(token + t, first, columns, sums + t * n * kProductColumns);
        }
      }
    }
  }
};

template <typename T, int kStreams, bool kPairs>
void backward(const Kernel& kernel, const LaunchContext& context) {
  const Site site = site_of(kernel);
  const Scratch sizes(site);
  const PackedRows<kPairs> layout(kernel);
  float* const packed = reinterpret_cast<float*>(context.workspace);
  pack<T>(kernel, layout, context.threads, packed);
  const std::int64_t tokens = kernel.streams.size(0);
  base::parallel_for(context.threads, blocks_of(tokens, kItemTokens), [&](std::int64_t number, int thread) {
    const std::int64_t begin = number * kItemTokens, last = std::min(tokens, begin + kItemTokens);
    float* const mixing = packed + layout.words() + thread * sizes.floats();
    float* const coefficients = mixing + sizes.mixing;
    float* const radial = coefficients + sizes.coefficients;
    float* const factors = radial + sizes.radial;
    Block<kStreams, T, kPairs> block{
        kernel,
        site,
        layout.width,
        rows_of<const T>(kernel.streams),
        kernel.dy.has_value() ? rows_of<const T>(*kernel.dy) : RowAccess<const T>(),
        kernel.dexpanded.has_value() ? rows_of<const T>(*kernel.dexpanded) : RowAccess<const T>(),
        rows_of<const float>(kernel.product),
        rows_of<const float>(kernel.dcoefficients),
        rows_of<T>(kernel.dstreams),
        rows_of<float>(kernel.dpreactivation),
        rows_of<float>(kernel.dproduct),
        layout,
        packed,
        mixing,
        {coefficients, kBlockTokens, site.rows, site.rows},
        radial,
        {factors, kBlockTokens, layout.steps, layout.steps},
        factors + sizes.factors,
        begin,
        begin,
        last};
    while (block.end < last) {
      block.begin = block.end;
      block.end = std::min(last, block.begin + kBlockTokens);
      block.mix_tokens();
      block.streams_gradient();
    }
  });
}

/// kPairs: streams of bf16 are multiplied in pairs, which rounds fn and dproduct to bf16.
template <bool kPairs>
void coefficients_backward(const Kernel& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.streams.dtype, [&]<typename T>(T) {
    with_stream_count(kernel.stream_count, [&]<int kStreams>(std::integral_constant<int, kStreams>) {
      backward<T, kStreams, kPairs && std::is_same_v<T, kernels::Bf16>>(kernel, context);
    });
  });
}

std::size_t backward_workspace(const Kernel& kernel, int threads) {
  const std::int64_t packed = PackedRows<false>(kernel).words();  // never fewer than in pairs
  return static_cast<std::size_t>(packed + threads * Scratch(site_of(kernel)).floats()) * sizeof(float);
}

void add_kernels(KernelTable& table, bool pairs) {
  table.set<Kernel>(pairs ? coefficients_backward<true> : coefficients_backward<false>, backward_workspace);
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_hyper_connection_backward_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table, false)
                               : N_AVX3::add_kernels(table, set == InstructionSet::kAvx512Bf16);
}

}  // namespace flyover::devices::cpu
#endif
