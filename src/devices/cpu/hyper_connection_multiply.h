// The small matrix product of the hyper-connection kernels in f32, and how its operands are packed. Like vector_math.h
// compiled once for each instruction set; include after it and every general header.

#if defined(FLYOVER_DEVICES_CPU_HYPER_CONNECTION_MULTIPLY) == defined(HWY_TARGET_TOGGLE)
#ifdef FLYOVER_DEVICES_CPU_HYPER_CONNECTION_MULTIPLY
#undef FLYOVER_DEVICES_CPU_HYPER_CONNECTION_MULTIPLY
#else
#define FLYOVER_DEVICES_CPU_HYPER_CONNECTION_MULTIPLY
#endif

#include <cstdint>
#include <type_traits>

#include "devices/cpu/hyper_connection_product.h"
#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

using hyper_connection::kProductColumns;
using hyper_connection::Product;

inline constexpr int kProductRows = 6;
/// Vectors of columns whose sums stay in registers together: 24 sums of 32 registers, or 12 of 16.
inline constexpr int kProductVectors = HWY_TARGET == HWY_AVX3 ? 4 : 2;

/// Rows [row, row + kCount), columns [column, column + kProductVectors * kLanes).
template <int kCount>
void multiply_tile(const Product& product, std::int64_t row, std::int64_t column) {
  float* const c = product.c + row * product.c_row + column;
  Vector sums[kCount][kProductVectors];
#pragma GCC unroll 6
  for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kProductVectors; ++v) {
      sums[i][v] = hn::Zero(Tag());
    }
  }
  const float* a = reinterpret_cast<const float*>(product.a) + row * product.a_row;
  const float* b = reinterpret_cast<const float*>(product.b) + column;
  for (std::int64_t step = 0; step < product.steps; ++step) {
    Vector values[kProductVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kProductVectors; ++v) {
      values[v] = load(b + v * kLanes, AllLanes{});
    }
#pragma GCC unroll 6
    for (int i = 0; i < kCount; ++i) {
      const Vector factor = hn::Set(Tag(), a[i * product.a_row]);
#pragma GCC unroll 4
      for (int v = 0; v < kProductVectors; ++v) {
        sums[i][v] = hn::MulAdd(factor, values[v], sums[i][v]);
      }
    }
    a += product.a_step;
    b += kProductColumns;
  }
#pragma GCC unroll 6
  for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kProductVectors; ++v) {
      float* const to = c + i * product.c_row + v * kLanes;
      store(product.add ? hn::Add(load(to, AllLanes{}), sums[i][v]) : sums[i][v], to, AllLanes{});
    }
  }
}

inline void multiply_f32(const Product& product) {
  using Tile = void (*)(const Product&, std::int64_t, std::int64_t);
  constexpr Tile kRest[kProductRows] = {nullptr,          multiply_tile<1>, multiply_tile<2>,
                                        multiply_tile<3>, multiply_tile<4>, multiply_tile<5>};
  for (std::int64_t column = 0; column < kProductColumns; column += kProductVectors * kLanes) {
    std::int64_t row = 0;
    for (; row + kProductRows <= product.rows; row += kProductRows) {
      multiply_tile<kProductRows>(product, row, column);
    }
    if (row < product.rows) {
      kRest[product.rows - row](product, row, column);
    }
  }
}

/// kPairs: words are pairs of bf16.
template <bool kPairs>
void multiply(const Product& product) {
  if constexpr (kPairs) {
    hyper_connection::multiply_bf16_pairs(product);
  } else {
    multiply_f32(product);
  }
}

/// Elements of the sum that a word holds.
template <bool kPairs>
inline constexpr std::int64_t kPerWord = kPairs ? 2 : 1;

// The columns of b and c lie as the accesses of for_each_vector_or_pair meet them in memory of the streams' type: first
// the even ones, then the odd ones of what a VectorPair covers.

template <typename To>
HWY_INLINE void put(Vector value, To* to) {
  store(value, to, AllLanes{});
}
template <typename To>
HWY_INLINE void put(VectorPair value, To* to) {
  store(value.even, to, AllLanes{});
  store(value.odd, to + kLanes, AllLanes{});
}

template <typename Lanes>
HWY_INLINE Vector take(const float* from, Lanes lanes) {
  return load(from, lanes);
}
HWY_INLINE VectorPair take(const float* from, PairLanes) {
  return {load(from, AllLanes{}), load(from + kLanes, AllLanes{})};
}

/// As `take` reads them, out of f32 that lie in their natural order.
template <typename Lanes>
HWY_INLINE Vector take_apart(const float* from, Lanes lanes) {
  return load(from, lanes);
}
HWY_INLINE VectorPair take_apart(const float* from, PairLanes) {
  const Vector low = load(from, AllLanes{}), high = load(from + kLanes, AllLanes{});
  return {hn::ConcatEven(Tag(), high, low), hn::ConcatOdd(Tag(), high, low)};
}

/// Back to their natural order.
template <typename Lanes>
HWY_INLINE void put_together(Vector value, float* to, Lanes lanes) {
  store(value, to, lanes);
}
HWY_INLINE void put_together(VectorPair value, float* to, PairLanes) {
  hn::StoreInterleaved2(value.even, value.odd, Tag(), to);
}

/// The words of two vectors, or of both vectors of two pairs, rounded to bf16.
HWY_INLINE Vector pair_words(Vector first, Vector second) {
  const auto low = hn::ShiftRight<16>(round_to_upper_half(first));
  const auto high = hn::And(round_to_upper_half(second), hn::Set(BitsTag(), 0xFFFF0000u));
  return hn::BitCast(Tag(), hn::Or(low, high));
}
HWY_INLINE VectorPair pair_words(VectorPair first, VectorPair second) {
  return {pair_words(first.even, second.even), pair_words(first.odd, second.odd)};
}
/// The same for values that are bf16 already.
HWY_INLINE Vector pair_words_of_bf16(Vector first, Vector second) {
  const auto low = hn::ShiftRight<16>(hn::BitCast(BitsTag(), first));
  return hn::BitCast(Tag(), hn::Or(low, hn::BitCast(BitsTag(), second)));
}
HWY_INLINE VectorPair pair_words_of_bf16(VectorPair first, VectorPair second) {
  return {pair_words_of_bf16(first.even, second.even), pair_words_of_bf16(first.odd, second.odd)};
}

#endif  // HWY_TARGET

}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLYOVER_DEVICES_CPU_HYPER_CONNECTION_MULTIPLY
