// The compressor's softmax over slots, a few at a time. Like vector_math.h compiled once for each instruction set;
// include after it and every general header.

#if defined(FLYOVER_DEVICES_CPU_COMPRESSOR_POOL) == defined(HWY_TARGET_TOGGLE)
#ifdef FLYOVER_DEVICES_CPU_COMPRESSOR_POOL
#undef FLYOVER_DEVICES_CPU_COMPRESSOR_POOL
#else
#define FLYOVER_DEVICES_CPU_COMPRESSOR_POOL
#endif

#include <limits>
#include <type_traits>

#include "devices/cpu/compressor_slots.h"
#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

using compressor::kSlotsAtOnce;
using compressor::Slot;
using compressor::SlotReader;
using compressor::Slots;
using compressor::Tensors;

/// The softmax over the slots that have been seen, of one vector of channels.
struct Pool {
  Vector largest, sum, weighted;
};

/// exp(gate - largest) of slots at one vector of channels, where `largest` is the largest gate or that of `at_least`.
struct Powers {
  Vector of[kSlotsAtOnce];
  Vector largest;
};

template <typename Lanes>
HWY_INLINE Vector gate_of(const Slot& slot, std::int64_t channel, Lanes lanes) {
  return hn::Add(load(slot.gate + channel, lanes), load(slot.bias + channel, lanes));
}

/// kCount: the number of slots where it is known, else 0.
template <int kCount, typename Lanes>
HWY_INLINE Powers powers_of(const Slot (&slots)[kSlotsAtOnce], int given, std::int64_t channel, Lanes lanes,
                            Vector at_least) {
  const int count = kCount > 0 ? kCount : given;
  Powers powers;
  powers.largest = at_least;
#pragma GCC unroll 8
  for (int s = 0; s < count; ++s) {
    powers.of[s] = gate_of(slots[s], channel, lanes);
    powers.largest = hn::Max(powers.largest, powers.of[s]);
  }
#pragma GCC unroll 8
  for (int s = 0; s < count; ++s) {
    powers.of[s] = exponential(hn::Sub(powers.of[s], powers.largest));
  }
  return powers;
}

/// Adds slots to a pool whose sums are relative to the same gate.
template <int kCount, typename Lanes>
HWY_INLINE void add_slots(const Slot (&slots)[kSlotsAtOnce], int given, std::int64_t channel, Lanes lanes,
                          const Powers& powers, Pool& pool) {
  const int count = kCount > 0 ? kCount : given;
#pragma GCC unroll 8
  for (int s = 0; s < count; ++s) {
    pool.sum = hn::Add(pool.sum, powers.of[s]);
    pool.weighted = hn::MulAdd(powers.of[s], load(slots[s].value + channel, lanes), pool.weighted);
  }
}

/// Calls body(constant, slots, count) with the number of slots as a constant where it is kSlotsAtOnce, else with 0.
template <typename Body>
HWY_INLINE void with_count(int count, const Body& body) {
  if (count == kSlotsAtOnce) {
    body(std::integral_constant<int, kSlotsAtOnce>());
  } else {
    body(std::integral_constant<int, 0>());
  }
}

HWY_INLINE Vector lowest() {
  return hn::Set(Tag(), -std::numeric_limits<float>::infinity());
}

/// The pools of all channels of an entry, in memory.
class Pools {
 public:
  static std::int64_t floats(std::int64_t width) { return 3 * padded(width); }
  Pools(float* memory, std::int64_t width) : memory_(memory), stride_(padded(width)) {}

  HWY_INLINE Pool get(std::int64_t channel) const {
    const float* const from = memory_ + channel;
    return {load(from, AllLanes{}), load(from + stride_, AllLanes{}), load(from + 2 * stride_, AllLanes{})};
  }
  HWY_INLINE void set(std::int64_t channel, const Pool& pool) const {
    float* const to = memory_ + channel;
    store(pool.largest, to, AllLanes{});
    store(pool.sum, to + stride_, AllLanes{});
    store(pool.weighted, to + 2 * stride_, AllLanes{});
  }

 private:
  static std::int64_t padded(std::int64_t width) { return blocks_of(width, 16) * 16; }
  float* memory_;
  std::int64_t stride_;
};

/// Pools all slots, a few at a time, each time rescaling what has been pooled (Milakov and Gimelshein, "Online
/// normalizer calculation for softmax", 2018).
HWY_INLINE void pool_entry(const Tensors& tensors, const Slots& all, std::int64_t entry, const Pools& pools) {
  SlotReader reader(tensors, all, entry);
  Slot slots[kSlotsAtOnce];
  bool first = true;
  for (int count = reader.read(slots); count > 0; count = reader.read(slots), first = false) {
    with_count(count, [&]<int kCount>(std::integral_constant<int, kCount>) FLYOVER_VECTOR_BODY {
      for_each_vector(tensors.width, [&](std::int64_t channel, auto lanes) FLYOVER_VECTOR_BODY {
        Pool pool = first ? Pool{lowest(), hn::Zero(Tag()), hn::Zero(Tag())} : pools.get(channel);
        const Powers powers = powers_of<kCount>(slots, count, channel, lanes, pool.largest);
        if (!first) {
          const Vector factor = exponential(hn::Sub(pool.largest, powers.largest));
          pool.sum = hn::Mul(pool.sum, factor);
          pool.weighted = hn::Mul(pool.weighted, factor);
        }
        pool.largest = powers.largest;
        add_slots<kCount>(slots, count, channel, lanes, powers, pool);
        pools.set(channel, pool);
      });
    });
  }
}

#endif  // HWY_TARGET

}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLYOVER_DEVICES_CPU_COMPRESSOR_POOL
