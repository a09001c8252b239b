// What the two AVX-512 micro-kernels share: 12 x 32 running sums in registers, how they start and where they go.
#pragma once

#include <cstdint>

#include <immintrin.h>

#include "devices/cpu/matmul_microkernel.h"

/// Compiles one function for AVX-512 whatever the translation unit is compiled for (so that no inline function of a
/// general header is ever emitted with instructions that the machine may lack).
#define FLYOVER_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx2,fma")))
#define FLYOVER_AVX512_INLINE FLYOVER_AVX512 __attribute__((always_inline)) inline

namespace flyover::devices::cpu::matmul::avx512 {

inline constexpr int kPanelRows = 12;
inline constexpr int kPanelColumns = 32;

/// Round to nearest even as kernels::to_bf16, by integers: vcvtneps2bf16 would flush subnormals.
FLYOVER_AVX512_INLINE __m256i round_to_bf16(__m512 value) {
  const __m512i bits = _mm512_castps_si512(value);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
  const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
  const __m512i kept = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16));
}

FLYOVER_AVX512_INLINE __m512 widen_bf16(__m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

template <int kRows>
FLYOVER_AVX512_INLINE void start_sums(const Tile& tile, __m512 (&sums)[kRows][2]) {
  if (tile.first) {
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      sums[r][0] = _mm512_setzero_ps();
      sums[r][1] = _mm512_setzero_ps();
    }
    return;
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    sums[r][0] = _mm512_loadu_ps(tile.sums + r * kPanelColumns);
    sums[r][1] = _mm512_loadu_ps(tile.sums + r * kPanelColumns + 16);
  }
}

FLYOVER_AVX512_INLINE void finish_f32(float* c, __m512 sum, __mmask16 mask, bool accumulate) {
  if (accumulate) {
    sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, c), sum);
  }
  _mm512_mask_storeu_ps(c, mask, sum);
}

FLYOVER_AVX512_INLINE void finish_bf16(kernels::Bf16* c, __m512 sum, __mmask16 mask, bool accumulate) {
  if (accumulate) {
    sum = _mm512_add_ps(widen_bf16(_mm256_maskz_loadu_epi16(mask, c)), sum);
  }
  _mm256_mask_storeu_epi16(c, mask, round_to_bf16(sum));
}

/// Which of a tile's columns exist.
FLYOVER_AVX512_INLINE __mmask32 column_mask(const Tile& tile) {
  return tile.columns >= 32 ? 0xFFFFFFFFu : (1u << tile.columns) - 1u;
}

template <int kRows>
FLYOVER_AVX512_INLINE void finish_sums(const Tile& tile, const __m512 (&sums)[kRows][2]) {
  if (!tile.last) {
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      _mm512_storeu_ps(tile.sums + r * kPanelColumns, sums[r][0]);
      _mm512_storeu_ps(tile.sums + r * kPanelColumns + 16, sums[r][1]);
    }
    return;
  }
  const __mmask32 mask = column_mask(tile);
  const auto low = static_cast<__mmask16>(mask);
  const auto high = static_cast<__mmask16>(mask >> 16);
  if (tile.c_is_bf16) {
    auto* c = static_cast<kernels::Bf16*>(tile.c);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      finish_bf16(c + r * tile.c_stride, sums[r][0], low, tile.accumulate);
      finish_bf16(c + r * tile.c_stride + 16, sums[r][1], high, tile.accumulate);
    }
  } else {
    auto* c = static_cast<float*>(tile.c);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      finish_f32(c + r * tile.c_stride, sums[r][0], low, tile.accumulate);
      finish_f32(c + r * tile.c_stride + 16, sums[r][1], high, tile.accumulate);
    }
  }
}

/// Asks, while the product is computed, for the lines that the tile will write, or where those are in the cache
/// already, for the sums that the next tile starts from.
template <int kRows>
FLYOVER_AVX512_INLINE void prefetch_result(const Tile& tile) {
  if (tile.last) {
    const std::int64_t row_bytes = tile.c_stride * (tile.c_is_bf16 ? 2 : 4);
    const char* c = static_cast<const char*>(tile.c);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      _mm_prefetch(c + r * row_bytes, _MM_HINT_T0);
      _mm_prefetch(c + r * row_bytes + 64, _MM_HINT_T0);
    }
  }
  if (!tile.first || !tile.last) {
    const float* sums = tile.sums + (tile.first ? 0 : kPanelRows * kPanelColumns);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      _mm_prefetch(sums + r * kPanelColumns, _MM_HINT_T0);
      _mm_prefetch(sums + r * kPanelColumns + 16, _MM_HINT_T0);
    }
  }
}

// Packing (matmul_pack_avx512.cpp).
void pack_dense_depth_f32(const Source& source, const PanelRegion& region, std::uint32_t* panel);
void pack_dense_depth_pairs(const Source& source, const PanelRegion& region, std::uint32_t* panel);
void pack_dense_depth_widened(const Source& source, const PanelRegion& region, std::uint32_t* panel);
void pack_dense_rows_f32(const Source& source, const PanelRegion& region, std::uint32_t* panel);
void pack_dense_rows_pairs(const Source& source, const PanelRegion& region, std::uint32_t* panel);
void pack_dense_rows_widened(const Source& source, const PanelRegion& region, std::uint32_t* panel);

}  // namespace flyover::devices::cpu::matmul::avx512
