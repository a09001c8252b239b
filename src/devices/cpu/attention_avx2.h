// AVX2 vectors for the attention kernels: the interface of attention_avx512.h with 8 lanes. Included between
// HWY_PUSH_ATTRIBUTES and HWY_POP_ATTRIBUTES.
#pragma once

#define FLYOVER_INLINE [[gnu::always_inline]] static inline

namespace flyover::devices::cpu::attention {

struct Avx2 {
  using Float = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kMaximumVectors = 2;
  /// 12 sums of 16 registers.
  static constexpr int maximum_rows(int vectors) { return vectors == 2 ? 6 : 12; }

  FLYOVER_INLINE Float zero() { return _mm256_setzero_ps(); }
  FLYOVER_INLINE Float set(float value) { return _mm256_set1_ps(value); }
  FLYOVER_INLINE Float load(const float* from) { return _mm256_loadu_ps(from); }
  FLYOVER_INLINE void store(float* to, Float value) { _mm256_storeu_ps(to, value); }
  FLYOVER_INLINE Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  FLYOVER_INLINE Float subtract(Float a, Float b) { return _mm256_sub_ps(a, b); }
  FLYOVER_INLINE Float multiply(Float a, Float b) { return _mm256_mul_ps(a, b); }
  FLYOVER_INLINE Float multiply_add(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  FLYOVER_INLINE Float maximum(Float a, Float b) { return _mm256_max_ps(a, b); }
  FLYOVER_INLINE Float exclusive_or(Float a, std::uint32_t bits) {
    return _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(bits))));
  }

  FLYOVER_INLINE Float first_lanes(std::int64_t count, Float a, Float b) {
    return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(mask(count)));
  }
  // Of normal numbers.
  FLYOVER_INLINE Float exponent(Float a) {
    const __m256i biased = _mm256_srli_epi32(_mm256_castps_si256(a), 23);
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(biased, _mm256_set1_epi32(127)));
  }
  FLYOVER_INLINE Float mantissa(Float a) {
    const __m256i fraction_bits = _mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(0x7FFFFF));
    return _mm256_castsi256_ps(_mm256_or_si256(fraction_bits, _mm256_set1_epi32(0x3F800000)));
  }
  FLYOVER_INLINE Float where_positive(Float condition, Float value) {
    return _mm256_and_ps(_mm256_cmp_ps(condition, zero(), _CMP_GT_OQ), value);
  }
  FLYOVER_INLINE void reduce_maxima(const Float (&rows)[16], float* to) {
    for (int i = 0; i < 16; ++i) {
      to[i] = reduce_maximum(rows[i]);
    }
  }
  FLYOVER_INLINE float reduce_add(Float a) {
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
  }
  FLYOVER_INLINE bool any_not_finite(Float a) {
    return _mm256_movemask_ps(_mm256_cmp_ps(_mm256_sub_ps(a, a), _mm256_setzero_ps(), _CMP_UNORD_Q)) != 0;
  }

  // Below 2^-126 the power of two is zero: its exponent field is.
  FLYOVER_INLINE Float fraction(Float t) {
    t = clamp_exponent(t);
    return _mm256_sub_ps(t, _mm256_floor_ps(t));
  }
  FLYOVER_INLINE Float times_power_of_two(Float a, Float t) {
    const __m256i power = _mm256_cvttps_epi32(_mm256_floor_ps(clamp_exponent(t)));
    const __m256i exponent = _mm256_add_epi32(power, _mm256_set1_epi32(127));
    return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
  }

  FLYOVER_INLINE Float load_first(const float* from, std::int64_t count) {
    return _mm256_maskload_ps(from, mask(count));
  }
  FLYOVER_INLINE Float load_first(const kernels::Bf16* from, std::int64_t count) {
    alignas(16) kernels::Bf16 part[8] = {};
    if (count < 8) {
      for (std::int64_t i = 0; i < count; ++i) {
        part[i] = from[i];
      }
      from = part;
    }
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  FLYOVER_INLINE void store_first(float* to, Float value, std::int64_t count) {
    _mm256_maskstore_ps(to, mask(count), value);
  }
  FLYOVER_INLINE void store_first(kernels::Bf16* to, Float value, std::int64_t count) {
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    const __m256i upper = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(upper, upper), 0x08);
    alignas(16) kernels::Bf16 part[8];
    _mm_store_si128(reinterpret_cast<__m128i*>(part), _mm256_castsi256_si128(packed));
    for (std::int64_t i = 0; i < 8 && i < count; ++i) {
      to[i] = part[i];
    }
  }

  /// to[column][row] = from[row][column] for 8 x 8 words.
  FLYOVER_INLINE void transpose(const float* from, std::int64_t from_stride, float* to, std::int64_t to_stride) {
    Float r[8], s[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      r[i] = load(from + i * from_stride);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
      s[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
      s[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
      r[i] = _mm256_shuffle_ps(s[i], s[i + 2], 0x44);
      r[i + 1] = _mm256_shuffle_ps(s[i], s[i + 2], 0xEE);
      r[i + 2] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0x44);
      r[i + 3] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0xEE);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      store(to + c * to_stride, _mm256_permute2f128_ps(r[c], r[4 + c], 0x20));
      store(to + (4 + c) * to_stride, _mm256_permute2f128_ps(r[c], r[4 + c], 0x31));
    }
  }

 private:
  /// NaNs stay NaNs.
  FLYOVER_INLINE Float clamp_exponent(Float t) {
    return _mm256_min_ps(_mm256_set1_ps(128.0f), _mm256_max_ps(_mm256_set1_ps(-127.0f), t));
  }
  FLYOVER_INLINE float reduce_maximum(Float a) {
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
  }
  FLYOVER_INLINE __m256i mask(std::int64_t count) {
    const int lanes = static_cast<int>(count > 8 ? 8 : count);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
};

}  // namespace flyover::devices::cpu::attention
