// AVX-512 vectors for the attention kernels, f32 and (with AVX512-BF16) pairs of bf16. Included between
// HWY_PUSH_ATTRIBUTES and HWY_POP_ATTRIBUTES; everything is forced inline, so that no copy compiled for one instruction
// set can be called from another.
#pragma once

#define FLYOVER_INLINE [[gnu::always_inline]] static inline

namespace flyover::devices::cpu::attention {

struct Avx512 {
  using Float = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kMaximumVectors = 5;  ///< most columns of a block of the product, in vectors
  /// Most rows of a block of the product with so many vectors of columns: the sums stay in 24 or 25 of 32 registers,
  /// and there are enough of them (12) to hide the latency of the multiply-add.
  static constexpr int maximum_rows(int vectors) {
    constexpr int kRows[] = {0, 12, 12, 8, 6, 5};
    return kRows[vectors];
  }

  FLYOVER_INLINE Float zero() { return _mm512_setzero_ps(); }
  FLYOVER_INLINE Float set(float value) { return _mm512_set1_ps(value); }
  FLYOVER_INLINE Float load(const float* from) { return _mm512_loadu_ps(from); }
  FLYOVER_INLINE void store(float* to, Float value) { _mm512_storeu_ps(to, value); }
  FLYOVER_INLINE Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  FLYOVER_INLINE Float subtract(Float a, Float b) { return _mm512_sub_ps(a, b); }
  FLYOVER_INLINE Float multiply(Float a, Float b) { return _mm512_mul_ps(a, b); }
  FLYOVER_INLINE Float multiply_add(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  /// The second operand where one is a NaN.
  FLYOVER_INLINE Float maximum(Float a, Float b) { return _mm512_max_ps(a, b); }
  FLYOVER_INLINE Float exclusive_or(Float a, std::uint32_t bits) {
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a), _mm512_set1_epi32(static_cast<int>(bits))));
  }

  /// Lanes below `count` of a, the others of b. `count` may be negative or beyond the lanes.
  FLYOVER_INLINE Float first_lanes(std::int64_t count, Float a, Float b) {
    return _mm512_mask_blend_ps(mask(count), b, a);
  }
  /// Exponent and mantissa in [1, 2) of positive numbers.
  FLYOVER_INLINE Float exponent(Float a) { return _mm512_getexp_ps(a); }
  FLYOVER_INLINE Float mantissa(Float a) { return _mm512_getmant_ps(a, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src); }
  /// `value` in the lanes where `condition` is greater than zero, zeros elsewhere.
  FLYOVER_INLINE Float where_positive(Float condition, Float value) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(condition, zero(), _CMP_GT_OQ), value);
  }
  /// to[i] = the greatest lane of rows[i], each found in the same order of lanes.
  FLYOVER_INLINE void reduce_maxima(const Float (&rows)[16], float* to) {
    Float r[4], s[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      s[i] =
          maximum(_mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]), _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      r[i] = maximum(_mm512_shuffle_ps(s[2 * i], s[2 * i + 1], 0x44), _mm512_shuffle_ps(s[2 * i], s[2 * i + 1], 0xEE));
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      s[i] = maximum(_mm512_shuffle_f32x4(r[2 * i], r[2 * i + 1], 0x44),
                     _mm512_shuffle_f32x4(r[2 * i], r[2 * i + 1], 0xEE));
    }
    store(to, maximum(_mm512_shuffle_f32x4(s[0], s[1], 0x88), _mm512_shuffle_f32x4(s[0], s[1], 0xDD)));
  }
  FLYOVER_INLINE float reduce_add(Float a) {
    return _mm512_reduce_add_ps(a);
  }
  FLYOVER_INLINE bool any_not_finite(Float a) {
    return _mm512_fpclass_ps_mask(a, 0x01 | 0x08 | 0x10 | 0x80) != 0;  // quiet NaN, infinities, signalling NaN
  }

  // 2^t = 2^floor(t) 2^f with f in [0, 1]. VREDUCEPS gives 0 for infinities and VSCALEFPS takes the floor itself.
  FLYOVER_INLINE Float fraction(Float t) {
    return _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  }
  FLYOVER_INLINE Float times_power_of_two(Float a, Float t) {
    return _mm512_scalef_ps(a, t);
  }

  /// The first `count` elements (all lanes if there are more), zeros behind them; nothing behind them is read.
  FLYOVER_INLINE Float load_first(const float* from, std::int64_t count) {
    return _mm512_maskz_loadu_ps(mask(count), from);
  }
  FLYOVER_INLINE Float load_first(const kernels::Bf16* from, std::int64_t count) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(load_bits(from, count), 16));
  }
  FLYOVER_INLINE void store_first(float* to, Float value, std::int64_t count) {
    _mm512_mask_storeu_ps(to, mask(count), value);
  }
  /// Rounds to nearest, ties to even; NaNs stay NaNs.
  FLYOVER_INLINE void store_first(kernels::Bf16* to, Float value, std::int64_t count) {
    const __m512i bits = _mm512_castps_si512(value);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    const __m512i upper = _mm512_srli_epi32(_mm512_mask_blend_epi32(nan, rounded, quiet), 16);
    _mm256_mask_storeu_epi16(to, mask(count), _mm512_cvtepi32_epi16(upper));
  }

  /// to[column][row] = from[row][column] for 16 x 16 words.
  FLYOVER_INLINE void transpose(const float* from, std::int64_t from_stride, float* to, std::int64_t to_stride) {
    Float r[16], s[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      r[i] = load(from + i * from_stride);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
      s[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
      s[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
      r[i] = _mm512_shuffle_ps(s[i], s[i + 2], 0x44);
      r[i + 1] = _mm512_shuffle_ps(s[i], s[i + 2], 0xEE);
      r[i + 2] = _mm512_shuffle_ps(s[i + 1], s[i + 3], 0x44);
      r[i + 3] = _mm512_shuffle_ps(s[i + 1], s[i + 3], 0xEE);
    }
    // r[4 b + c], quarter q: rows 4 b .. 4 b + 3 of column 4 q + c.
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      s[c] = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88);
      s[4 + c] = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xDD);
      s[8 + c] = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
      s[12 + c] = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xDD);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      store(to + c * to_stride, _mm512_shuffle_f32x4(s[c], s[8 + c], 0x88));
      store(to + (4 + c) * to_stride, _mm512_shuffle_f32x4(s[4 + c], s[12 + c], 0x88));
      store(to + (8 + c) * to_stride, _mm512_shuffle_f32x4(s[c], s[8 + c], 0xDD));
      store(to + (12 + c) * to_stride, _mm512_shuffle_f32x4(s[4 + c], s[12 + c], 0xDD));
    }
  }

 protected:
  FLYOVER_INLINE __mmask16 mask(std::int64_t count) {
    return static_cast<__mmask16>(count >= 16 ? 0xFFFFu : count <= 0 ? 0u : (1u << count) - 1u);
  }
  FLYOVER_INLINE __m512i load_bits(const kernels::Bf16* from, std::int64_t count) {
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask(count), from));
  }
};

#ifdef FLYOVER_ATTENTION_BF16_PAIRS
/// AVX-512 with products of pairs of bf16.
struct Avx512Pairs : Avx512 {
  /// c + a.even * b.even + a.odd * b.odd, flushing subnormals (Intel SDM, VDPBF16PS).
  FLYOVER_INLINE Float multiply_add_pairs(Float a, Float b, Float c) {
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
  }
  /// 32 elements as words, zeros behind the first `count`.
  FLYOVER_INLINE Float load_pairs(const kernels::Bf16* from, std::int64_t count) {
    const __mmask32 lanes = count >= 32 ? 0xFFFFFFFFu : count <= 0 ? 0u : (1u << count) - 1u;
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(lanes, from));
  }
  /// Words of the elements at the same place of two rows; `odd` may be null for a row of zeros.
  FLYOVER_INLINE Float load_row_pairs(const kernels::Bf16* even, const kernels::Bf16* odd, std::int64_t count) {
    const __m512i upper = odd == nullptr ? _mm512_setzero_si512() : _mm512_slli_epi32(load_bits(odd, count), 16);
    return _mm512_castsi512_ps(_mm512_or_si512(load_bits(even, count), upper));
  }
  FLYOVER_INLINE Float without_odd_elements(Float pairs) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs), _mm512_set1_epi32(0xFFFF)));
  }
  using Avx512::store_first;
  FLYOVER_INLINE void store_first(kernels::Bf16* to, Float value, std::int64_t count) {
    _mm256_mask_storeu_epi16(to, mask(count), (__m256i)_mm512_cvtneps_pbh(value));
  }
  /// Rounded to bf16: the lanes of a, then those of b, two to a word.
  FLYOVER_INLINE Float concatenate(Float a, Float b) { return (__m512)_mm512_cvtne2ps_pbh(b, a); }
  /// Rounded to bf16: word i holds lanes i of a and b.
  FLYOVER_INLINE Float interleave(Float a, Float b) {
    alignas(64) static constexpr std::uint16_t kOrder[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                             21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                             11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(_mm512_load_si512(kOrder), (__m512i)_mm512_cvtne2ps_pbh(b, a)));
  }
};
#endif

}  // namespace flyover::devices::cpu::attention
