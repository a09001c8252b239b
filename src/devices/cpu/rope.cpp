#include <cmath>

#include "devices/cpu/families.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/rope.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

template <typename Frequency>
void rope_table_rows(const kernels::RopeTable& kernel, int threads) {
  const std::int32_t* const positions = static_cast<const std::int32_t*>(kernel.positions.data);
  const Frequency* const frequencies = static_cast<const Frequency*>(kernel.inverse_frequencies.data);
  const auto cosine = rows_of<float>(kernel.cosine), sine = rows_of<float>(kernel.sine);
  // A sine costs as much as some 64 simple operations.
  for_each_row(threads, cosine.rows, 64 * cosine.width, [&](std::int64_t t) HWY_ATTR {
    for (std::int64_t i = 0; i < cosine.width; ++i) {
      const double angle = static_cast<double>(positions[t]) * static_cast<double>(frequencies[i]);
      cosine[t][i] = static_cast<float>(std::cos(angle));
      sine[t][i] = static_cast<float>(std::sin(angle));
    }
  });
}

void rope_table(const kernels::RopeTable& kernel, const LaunchContext& context) {
  check_is_f32(kernel.kName, kernel.cosine);
  check_is_f32(kernel.kName, kernel.sine);
  if (kernel.inverse_frequencies.dtype == kernels::DType::kF64) {
    rope_table_rows<double>(kernel, context.threads);
  } else {
    rope_table_rows<float>(kernel, context.threads);
  }
}

/// The elements (2 i, 2 i + 1) of kLanes pairs, and back.
HWY_INLINE VectorPair load_pairs(const float* from, AllLanes) {
  VectorPair pair;
  hn::LoadInterleaved2(Tag(), from, pair.even, pair.odd);
  return pair;
}
HWY_INLINE void store_pairs(VectorPair pair, float* to, AllLanes) {
  hn::StoreInterleaved2(pair.even, pair.odd, Tag(), to);
}
HWY_INLINE VectorPair load_pairs(const kernels::Bf16* from, AllLanes) {
  return load(from, PairLanes{});
}
HWY_INLINE void store_pairs(VectorPair pair, kernels::Bf16* to, AllLanes) {
  store(pair, to, PairLanes{});
}

template <typename T>
HWY_INLINE VectorPair load_pairs(const T* from, FirstLanes lanes) {
  alignas(64) T pairs[2 * kLanes] = {};
  std::memcpy(pairs, from, static_cast<std::size_t>(2 * lanes.count) * sizeof(T));
  return load_pairs(pairs, AllLanes{});
}
template <typename T>
HWY_INLINE void store_pairs(VectorPair pair, T* to, FirstLanes lanes) {
  alignas(64) T pairs[2 * kLanes];
  store_pairs(pair, pairs, AllLanes{});
  std::memcpy(to, pairs, static_cast<std::size_t>(2 * lanes.count) * sizeof(T));
}

HWY_INLINE VectorPair rotate(VectorPair pair, Vector cosine, Vector sine) {
  return {hn::NegMulAdd(pair.odd, sine, hn::Mul(pair.even, cosine)),
          hn::MulAdd(pair.even, sine, hn::Mul(pair.odd, cosine))};
}

template <bool kInterleaved, typename T>
void rotate_heads(const kernels::RopeApply& kernel, int threads) {
  const std::int64_t heads = kernel.x.size(1), pairs = kernel.cosine.size(1);
  const auto cosine = rows_of<const float>(kernel.cosine), sine = rows_of<const float>(kernel.sine);
  const float direction = kernel.inverse ? -1.0f : 1.0f;
  for_each_row(threads, kernel.x.size(0), heads * 2 * pairs, [&](std::int64_t t) HWY_ATTR {
    T* const token = static_cast<T*>(kernel.x.data) + t * kernel.x.stride(0) + kernel.first_dimension;
    for (std::int64_t head = 0; head < heads; ++head) {
      T* const x = token + head * kernel.x.stride(1);
      for_each_vector(pairs, [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
        const Vector c = load(cosine[t] + i, lanes);
        const Vector s = hn::Mul(load(sine[t] + i, lanes), hn::Set(Tag(), direction));
        if constexpr (kInterleaved) {
          store_pairs(rotate(load_pairs(x + 2 * i, lanes), c, s), x + 2 * i, lanes);
        } else {
          const VectorPair rotated = rotate({load(x + i, lanes), load(x + pairs + i, lanes)}, c, s);
          store(rotated.even, x + i, lanes);
          store(rotated.odd, x + pairs + i, lanes);
        }
      });
    }
  });
}

void rope_apply(const kernels::RopeApply& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.x.dtype, [&]<typename T>(T) HWY_ATTR {
    if (kernel.pairing == kernels::RopePairing::kInterleaved) {
      rotate_heads<true, T>(kernel, context.threads);
    } else {
      rotate_heads<false, T>(kernel, context.threads);
    }
  });
}

void add_kernels(KernelTable& table) {
  table.set<kernels::RopeTable>(rope_table);
  table.set<kernels::RopeApply>(rope_apply);
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_rope_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table) : N_AVX3::add_kernels(table);
}

}  // namespace flyover::devices::cpu
#endif
