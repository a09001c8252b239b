// Vector building blocks of the CPU kernels, compiled once for each instruction set: loads and stores of f32 and bf16
// as f32 vectors, loops whose tails use the formula of their body, sums of fixed order, and the exponential. Include
// after vector_targets.h, hwy/foreach_target.h and every general header.

#if defined(FLYOVER_DEVICES_CPU_VECTOR_MATH) == defined(HWY_TARGET_TOGGLE)
#ifdef FLYOVER_DEVICES_CPU_VECTOR_MATH
#undef FLYOVER_DEVICES_CPU_VECTOR_MATH
#else
#define FLYOVER_DEVICES_CPU_VECTOR_MATH
#endif

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include <hwy/highway.h>

#include "kernels/dtype.h"

// Attributes of a lambda that holds vector code: the instruction set (which lambdas do not inherit from the pragma with
// every compiler), and inlining into the loop that calls it.
#undef FLYOVER_VECTOR_BODY
#define FLYOVER_VECTOR_BODY HWY_ATTR __attribute__((always_inline))

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

namespace hn = hwy::HWY_NAMESPACE;
using Tag = hn::ScalableTag<float>;
using BitsTag = hn::RebindToUnsigned<Tag>;
using Bf16Tag = hn::Rebind<std::uint16_t, Tag>;
using Vector = hn::Vec<Tag>;
inline constexpr std::int64_t kLanes = HWY_LANES(float);

/// How many lanes an access touches: all of them, or the first `count` (0 < count < kLanes).
struct AllLanes {};
struct FirstLanes {
  std::int64_t count;
};

HWY_INLINE Vector load(const float* from, AllLanes) {
  return hn::LoadU(Tag(), from);
}

/// Lanes beyond the first are 0, and their memory is not touched.
HWY_INLINE Vector load(const float* from, FirstLanes lanes) {
  return hn::MaskedLoad(hn::FirstN(Tag(), static_cast<std::size_t>(lanes.count)), Tag(), from);
}

HWY_INLINE Vector from_bf16_bits(hn::Vec<Bf16Tag> bits) {
  return hn::BitCast(Tag(), hn::ShiftLeft<16>(hn::PromoteTo(BitsTag(), bits)));
}

HWY_INLINE Vector load(const kernels::Bf16* from, AllLanes) {
  return from_bf16_bits(hn::LoadU(Bf16Tag(), reinterpret_cast<const std::uint16_t*>(from)));
}

// AVX2 has no masked access to 16-bit elements: through the stack.
HWY_INLINE Vector load(const kernels::Bf16* from, FirstLanes lanes) {
  alignas(64) std::uint16_t bits[kLanes] = {};
  std::memcpy(bits, from, static_cast<std::size_t>(lanes.count) * sizeof(bits[0]));
  return from_bf16_bits(hn::Load(Bf16Tag(), bits));
}

/// kernels::to_bf16 in the upper halves; what is in the lower halves is to be dropped.
HWY_INLINE hn::Vec<BitsTag> round_to_upper_half(Vector value) {
  const BitsTag tag;
  const auto bits = hn::BitCast(tag, value);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(tag, 1u));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(tag, 0x7FFFu)), odd);
  const auto quiet = hn::Or(bits, hn::Set(tag, 0x400000u));
  return hn::IfThenElse(hn::RebindMask(tag, hn::IsNaN(value)), quiet, rounded);
}

HWY_INLINE hn::Vec<Bf16Tag> to_bf16_bits(Vector value) {
  return hn::TruncateTo(Bf16Tag(), hn::ShiftRight<16>(round_to_upper_half(value)));
}

HWY_INLINE void store(Vector value, float* to, AllLanes) {
  hn::StoreU(value, Tag(), to);
}

HWY_INLINE void store(Vector value, float* to, FirstLanes lanes) {
  hn::BlendedStore(value, hn::FirstN(Tag(), static_cast<std::size_t>(lanes.count)), Tag(), to);
}

HWY_INLINE void store(Vector value, kernels::Bf16* to, AllLanes) {
  hn::StoreU(to_bf16_bits(value), Bf16Tag(), reinterpret_cast<std::uint16_t*>(to));
}

HWY_INLINE void store(Vector value, kernels::Bf16* to, FirstLanes lanes) {
  alignas(64) std::uint16_t bits[kLanes];
  hn::Store(to_bf16_bits(value), Bf16Tag(), bits);
  std::memcpy(to, bits, static_cast<std::size_t>(lanes.count) * sizeof(bits[0]));
}

/// Two vectors of neighbours at once, cheaper than one after the other.
HWY_INLINE void store_two(Vector first, Vector second, float* to) {
  store(first, to, AllLanes{});
  store(second, to + kLanes, AllLanes{});
}
HWY_INLINE void store_two(Vector first, Vector second, kernels::Bf16* to) {
  const hn::ScalableTag<std::uint16_t> halves;
  const auto low = hn::BitCast(halves, round_to_upper_half(first));
  const auto high = hn::BitCast(halves, round_to_upper_half(second));
  hn::StoreU(hn::ConcatOdd(halves, high, low), halves, reinterpret_cast<std::uint16_t*>(to));
}

/// Asks for the memory `distance` elements further on, to write to it where T is not const; any address will do. It
/// goes to the second-level cache: loads wait for room among the few misses that the first level keeps track of.
template <typename T>
HWY_INLINE void fetch(T* element, std::int64_t distance) {
  const auto address = reinterpret_cast<std::uintptr_t>(element) + static_cast<std::uintptr_t>(distance) * sizeof(T);
  constexpr int kWrite = std::is_const_v<T> ? 0 : 1, kSecondLevel = 2;
  __builtin_prefetch(reinterpret_cast<const void*>(address), kWrite, kSecondLevel);
}

/// Two vectors that together are 2 * kLanes neighbouring bf16: the even elements and the odd ones. Cheaper to load and
/// to store than two vectors of neighbours: an element is a half of a 32-bit word from the start.
struct VectorPair {
  Vector even, odd;
};
struct PairLanes {};

HWY_INLINE VectorPair load(const kernels::Bf16* from, PairLanes) {
  const auto words = hn::LoadU(BitsTag(), reinterpret_cast<const std::uint32_t*>(from));
  const auto odd = hn::And(words, hn::Set(BitsTag(), 0xFFFF0000u));
  return {hn::BitCast(Tag(), hn::ShiftLeft<16>(words)), hn::BitCast(Tag(), odd)};
}

HWY_INLINE void store(VectorPair value, kernels::Bf16* to, PairLanes) {
  const auto even = hn::ShiftRight<16>(round_to_upper_half(value.even));
  const auto odd = hn::And(round_to_upper_half(value.odd), hn::Set(BitsTag(), 0xFFFF0000u));
  hn::StoreU(hn::Or(even, odd), BitsTag(), reinterpret_cast<std::uint32_t*>(to));
}

/// The function of the vectors, or of both vectors of the pairs.
template <typename Function, typename... Vectors>
HWY_INLINE Vector apply(const Function& function, Vector first, Vectors... rest) {
  return function(first, rest...);
}
template <typename Function, typename... Pairs>
HWY_INLINE VectorPair apply(const Function& function, VectorPair first, Pairs... rest) {
  return {function(first.even, rest.even...), function(first.odd, rest.odd...)};
}

/// body(first_element, lanes) over `count` elements; the tail runs the same body on fewer lanes.
template <typename Body>
HWY_INLINE void for_each_vector(std::int64_t count, const Body& body) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    body(i, AllLanes{});
  }
  if (i < count) {
    body(i, FirstLanes{count - i});
  }
}

/// The same for bodies without an order of elements, which also take pairs (see apply): used where T is bf16.
template <typename T, typename Body>
HWY_INLINE void for_each_vector_or_pair(std::int64_t count, const Body& body) {
  std::int64_t paired = 0;
  if constexpr (std::is_same_v<T, kernels::Bf16>) {
    for (; paired + 2 * kLanes <= count; paired += 2 * kLanes) {
      body(paired, PairLanes{});
    }
  }
  for_each_vector(count - paired, [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY { body(paired + i, lanes); });
}

/// Folds `count` elements into four vectors by body(vector, first_element, lanes) -> vector, each started with `start`.
/// Which element meets which lane of which vector depends on `count` alone. The caller combines them.
struct Fourfold {
  Vector part[4];
};
template <typename Body>
HWY_INLINE Fourfold fold_vectors(std::int64_t count, Vector start, const Body& body) {
  Vector a = start, b = start, c = start, d = start;
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    a = body(a, i, AllLanes{});
    b = body(b, i + kLanes, AllLanes{});
    c = body(c, i + 2 * kLanes, AllLanes{});
    d = body(d, i + 3 * kLanes, AllLanes{});
  }
  for (; i + kLanes <= count; i += kLanes) {
    a = body(a, i, AllLanes{});
  }
  if (i < count) {
    b = body(b, i, FirstLanes{count - i});
  }
  return {{a, b, c, d}};
}

/// The sum of what fold_vectors gathered.
HWY_INLINE float sum_of(const Fourfold& parts) {
  const Vector sum = hn::Add(hn::Add(parts.part[0], parts.part[1]), hn::Add(parts.part[2], parts.part[3]));
  return hn::GetLane(hn::SumOfLanes(Tag(), sum));
}

/// The largest value among what fold_vectors gathered.
HWY_INLINE float largest_of(const Fourfold& parts) {
  const Vector largest = hn::Max(hn::Max(parts.part[0], parts.part[1]), hn::Max(parts.part[2], parts.part[3]));
  return hn::GetLane(hn::MaxOfLanes(Tag(), largest));
}

/// `value` in the lanes that an access touches, `other` elsewhere.
HWY_INLINE Vector keep_lanes(Vector value, Vector, AllLanes) {
  return value;
}
HWY_INLINE Vector keep_lanes(Vector value, Vector other, FirstLanes lanes) {
  return hn::IfThenElse(hn::FirstN(Tag(), static_cast<std::size_t>(lanes.count)), value, other);
}

/// value * 2^n, rounded once, for integers n in [-152, 129]; `shifted` is n + 1.5 * 2^23.
#if HWY_TARGET == HWY_AVX3
HWY_INLINE Vector times_power_of_two(Vector value, Vector n, Vector) {
  return Vector{_mm512_scalef_ps(value.raw, n.raw)};
}
#else
HWY_INLINE Vector times_power_of_two(Vector value, Vector, Vector shifted) {
  // In two factors, neither of which leaves the normal numbers.
  const hn::RebindToSigned<Tag> integer;
  const auto exponent = hn::Sub(hn::BitCast(integer, shifted), hn::Set(integer, 0x4B400000));
  const auto first = hn::ShiftRight<1>(exponent), second = hn::Sub(exponent, first), bias = hn::Set(integer, 127);
  const Vector scale1 = hn::BitCast(Tag(), hn::ShiftLeft<23>(hn::Add(first, bias)));
  const Vector scale2 = hn::BitCast(Tag(), hn::ShiftLeft<23>(hn::Add(second, bias)));
  return hn::Mul(hn::Mul(value, scale1), scale2);
}
#endif

/// e^x with a relative error below 2e-7 (the last bits of subnormal results excepted); 0 and infinity beyond the range
/// of f32, NaN for NaN. x = n ln 2 + r; e^r = 1 + r + r^2 q(r) with q exact at the five Chebyshev nodes of
/// |r| <= ln 2 / 2 (relative error 1e-8).
HWY_INLINE Vector exponential(Vector x) {
  const Tag tag;
  // The order of the operands matters: on x86 these return the second one if either is NaN.
  const Vector clamped = hn::Min(hn::Set(tag, 89.0f), hn::Max(hn::Set(tag, -105.0f), x));
  // Adding 1.5 * 2^23 rounds to the nearest integer n and leaves it in the low bits.
  const Vector shifter = hn::Set(tag, 12582912.0f);
  const Vector shifted = hn::MulAdd(clamped, hn::Set(tag, 1.44269504f), shifter);
  const Vector n = hn::Sub(shifted, shifter);
  // ln 2 in two parts, the first with few enough bits that n times it is exact.
  const Vector high = hn::NegMulAdd(n, hn::Set(tag, 0.693359375f), clamped);
  const Vector r = hn::NegMulAdd(n, hn::Set(tag, -2.12194440e-4f), high);
  Vector q = hn::MulAdd(hn::Set(tag, 1.392625083e-3f), r, hn::Set(tag, 8.363232884e-3f));
  q = hn::MulAdd(q, r, hn::Set(tag, 4.166655421e-2f));
  q = hn::MulAdd(q, r, hn::Set(tag, 1.6666576666e-1f));
  q = hn::MulAdd(q, r, hn::Set(tag, 0.5f));
  const Vector power = hn::Add(hn::MulAdd(hn::Mul(r, r), q, r), hn::Set(tag, 1.0f));
  return times_power_of_two(power, n, shifted);
}

/// 1 / (1 + e^-x).
HWY_INLINE Vector sigmoid(Vector x) {
  const Vector one = hn::Set(Tag(), 1.0f);
  return hn::Div(one, hn::Add(one, exponential(hn::Neg(x))));
}

#endif  // HWY_TARGET

}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLYOVER_DEVICES_CPU_VECTOR_MATH
