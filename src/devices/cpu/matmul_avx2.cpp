// The AVX2 micro-kernel: 6 x 16 sums by f32 fused multiply-adds in the order of the depth.
#include "devices/cpu/matmul_avx2.h"

#include <algorithm>
#include <cstring>

namespace flyover::devices::cpu::matmul {
namespace {

using namespace avx2;

FLYOVER_AVX2_INLINE __m256 widen_bf16(__m128i bits) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

/// Round to nearest even as kernels::to_bf16.
FLYOVER_AVX2_INLINE __m128i round_to_bf16(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
  const __m256i upper = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1));
}

FLYOVER_AVX2_INLINE void finish_f32(float* c, __m256 sum, int count, bool accumulate) {
  const __m256i mask = lane_mask(count);
  if (accumulate) {
    sum = _mm256_add_ps(_mm256_maskload_ps(c, mask), sum);
  }
  _mm256_maskstore_ps(c, mask, sum);
}

FLYOVER_AVX2_INLINE void finish_bf16(kernels::Bf16* c, __m256 sum, int count, bool accumulate) {
  const std::size_t bytes = sizeof(kernels::Bf16) * static_cast<std::size_t>(count);
  if (count == kLanes) {
    if (accumulate) {
      sum = _mm256_add_ps(widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(c))), sum);
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(c), round_to_bf16(sum));
    return;
  }
  __m128i lanes = _mm_setzero_si128();
  if (accumulate) {
    std::memcpy(&lanes, c, bytes);
    sum = _mm256_add_ps(widen_bf16(lanes), sum);
  }
  lanes = round_to_bf16(sum);
  std::memcpy(c, &lanes, bytes);
}

/// Finished sums, [rows][kPanelColumns], go to c.
FLYOVER_AVX2 void finish_sums(const Tile& tile, const float* sums, int rows) {
  for (int r = 0; r < rows; ++r) {
    for (int group = 0; group < tile.columns; group += kLanes) {
      const int count = std::min(tile.columns - group, kLanes);
      const std::int64_t offset = r * tile.c_stride + group;
      const __m256 sum = _mm256_load_ps(sums + r * kPanelColumns + group);
      if (tile.c_is_bf16) {
        finish_bf16(static_cast<kernels::Bf16*>(tile.c) + offset, sum, count, tile.accumulate);
      } else {
        finish_f32(static_cast<float*>(tile.c) + offset, sum, count, tile.accumulate);
      }
    }
  }
}

template <int kRows>
FLYOVER_AVX2 void multiply(const Tile& tile) {
  __m256 sums[kRows][2];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    const float* from = tile.sums + r * kPanelColumns;
    sums[r][0] = tile.first ? _mm256_setzero_ps() : _mm256_loadu_ps(from);
    sums[r][1] = tile.first ? _mm256_setzero_ps() : _mm256_loadu_ps(from + kLanes);
    _mm_prefetch(static_cast<const char*>(tile.c) + r * tile.c_stride * (tile.c_is_bf16 ? 2 : 4), _MM_HINT_T0);
  }
  const auto* a = reinterpret_cast<const float*>(tile.a);
  const auto* b = reinterpret_cast<const float*>(tile.b);
  const std::byte* prefetch = tile.prefetch;
  const std::int64_t prefetch_step = tile.prefetch_step;
#pragma GCC unroll 4
  for (std::int64_t step = tile.steps; step > 0; --step) {
    const __m256 low = _mm256_loadu_ps(b);
    const __m256 high = _mm256_loadu_ps(b + kLanes);
    _mm_prefetch(prefetch, _MM_HINT_T1);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const __m256 factor = _mm256_broadcast_ss(a + r);
      sums[r][0] = _mm256_fmadd_ps(factor, low, sums[r][0]);
      sums[r][1] = _mm256_fmadd_ps(factor, high, sums[r][1]);
    }
    a += kRows;
    b += kPanelColumns;
    prefetch += prefetch_step;
  }
  alignas(32) float finished[kRows * kPanelColumns];
  float* const to = tile.last ? finished : tile.sums;
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    _mm256_storeu_ps(to + r * kPanelColumns, sums[r][0]);
    _mm256_storeu_ps(to + r * kPanelColumns + kLanes, sums[r][1]);
  }
  if (tile.last) {
    finish_sums(tile, finished, kRows);
  }
}

}  // namespace

const MicroKernel kAvx2F32 = {kPanelRows,
                              kPanelColumns,
                              1,
                              pack_dense_depth_f32,
                              pack_dense_rows_f32,
                              {nullptr, multiply<1>, multiply<2>, multiply<3>, multiply<4>, multiply<5>, multiply<6>}};

const MicroKernel kAvx2Bf16 = {kPanelRows,
                               kPanelColumns,
                               1,
                               pack_dense_depth_widened,
                               pack_dense_rows_widened,
                               {nullptr, multiply<1>, multiply<2>, multiply<3>, multiply<4>, multiply<5>, multiply<6>}};

}  // namespace flyover::devices::cpu::matmul
