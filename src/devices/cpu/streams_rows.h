// One token's streams: how they are collapsed, shared by the kernels that do. Like vector_math.h compiled once for each
// instruction set; include after it and every general header.

#if defined(FLYOVER_DEVICES_CPU_STREAMS_ROWS) == defined(HWY_TARGET_TOGGLE)
#ifdef FLYOVER_DEVICES_CPU_STREAMS_ROWS
#undef FLYOVER_DEVICES_CPU_STREAMS_ROWS
#else
#define FLYOVER_DEVICES_CPU_STREAMS_ROWS
#endif

#include <cstdint>
#include <type_traits>

#include "devices/cpu/vector_math.h"
#include "kernels/hyper_connection.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

/// Calls body with the number of streams as a constant where it is the usual one, else with 0.
template <typename Body>
void with_stream_count(std::int64_t streams, const Body& body) {
  if (streams == 4) {
    body(std::integral_constant<int, 4>());
  } else {
    body(std::integral_constant<int, 0>());
  }
}

/// Most streams where kStreams are known: the size of arrays.
template <int kStreams>
inline constexpr int kStreamCapacity = kStreams > 0 ? kStreams : static_cast<int>(kernels::kMaximumStreams);

/// factor * x, or + sum, of vectors or pairs.
template <typename Value>
HWY_INLINE Value scaled(float factor, Value x) {
  return apply([&](Vector v) FLYOVER_VECTOR_BODY { return hn::Mul(hn::Set(Tag(), factor), v); }, x);
}
template <typename Value>
HWY_INLINE Value add_scaled(float factor, Value x, Value sum) {
  return apply([&](Vector v, Vector s) FLYOVER_VECTOR_BODY { return hn::MulAdd(hn::Set(Tag(), factor), v, s); }, x,
               sum);
}

/// sum + a * b, both vectors of a pair in turn.
HWY_INLINE Vector add_products(Vector a, Vector b, Vector sum) {
  return hn::MulAdd(a, b, sum);
}
HWY_INLINE Vector add_products(VectorPair a, VectorPair b, Vector sum) {
  return hn::MulAdd(a.odd, b.odd, hn::MulAdd(a.even, b.even, sum));
}

HWY_INLINE float sum_of_lanes(Vector sum) {
  return hn::GetLane(hn::SumOfLanes(Tag(), sum));
}

/// to[i] = the sum of the lanes of vectors[i], each in the same order.
HWY_INLINE void sums_of_lanes(const Vector (&vectors)[4], float (&to)[4]) {
  const hn::Repartition<double, Tag> wide;
  const auto halves = [](Vector a, Vector b) FLYOVER_VECTOR_BODY {
    return hn::Add(hn::InterleaveLower(Tag(), a, b), hn::InterleaveUpper(Tag(), a, b));
  };
  const auto low = hn::BitCast(wide, halves(vectors[0], vectors[1]));
  const auto high = hn::BitCast(wide, halves(vectors[2], vectors[3]));
  // Each block of four lanes has a part of each of the four sums.
  const Vector parts = hn::Add(hn::BitCast(Tag(), hn::InterleaveLower(wide, low, high)),
                               hn::BitCast(Tag(), hn::InterleaveUpper(wide, low, high)));
  const hn::Half<Tag> half;
  const auto sum = hn::Add(hn::LowerHalf(half, parts), hn::UpperHalf(half, parts));
#if HWY_TARGET == HWY_AVX3
  const hn::Half<decltype(half)> quarter;
  hn::StoreU(hn::Add(hn::LowerHalf(quarter, sum), hn::UpperHalf(quarter, sum)), quarter, to);
#else
  hn::StoreU(sum, half, to);
#endif
}

/// y = sum over j of pre[j] * stream j.
template <int kStreams, typename T>
HWY_INLINE void collapse_row(const T* x, const float* pre, std::int64_t streams, std::int64_t width, T* y) {
  const std::int64_t n = kStreams > 0 ? kStreams : streams;
  for_each_vector_or_pair<T>(width, [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
    auto sum = scaled(pre[0], load(x + i, lanes));
    for (std::int64_t j = 1; j < n; ++j) {
      sum = add_scaled(pre[j], load(x + j * width + i, lanes), sum);
    }
    store(sum, y + i, lanes);
  });
}

#endif  // HWY_TARGET

}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLYOVER_DEVICES_CPU_STREAMS_ROWS
