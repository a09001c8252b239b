// Packing of operands into panels with AVX2.
#include <algorithm>
#include <cstring>

#include "devices/cpu/matmul_avx2.h"

namespace flyover::devices::cpu::matmul::avx2 {
namespace {

FLYOVER_AVX2_INLINE __m256 load_two_rows(const char* row, const char* fourth_after) {
  const __m128 low = _mm_loadu_ps(reinterpret_cast<const float*>(row));
  const __m128 high = _mm_loadu_ps(reinterpret_cast<const float*>(fourth_after));
  return _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
}

/// Four words of eight rows, transposed: out[w] holds word w of rows 0 .. 7.
FLYOVER_AVX2_INLINE void transpose_four_words(const char* const (&rows)[kLanes], std::int64_t offset,
                                              __m256i (&out)[4]) {
  const __m256 row0 = load_two_rows(rows[0] + offset, rows[4] + offset);
  const __m256 row1 = load_two_rows(rows[1] + offset, rows[5] + offset);
  const __m256 row2 = load_two_rows(rows[2] + offset, rows[6] + offset);
  const __m256 row3 = load_two_rows(rows[3] + offset, rows[7] + offset);
  const __m256d low01 = _mm256_castps_pd(_mm256_unpacklo_ps(row0, row1));
  const __m256d low23 = _mm256_castps_pd(_mm256_unpacklo_ps(row2, row3));
  const __m256d high01 = _mm256_castps_pd(_mm256_unpackhi_ps(row0, row1));
  const __m256d high23 = _mm256_castps_pd(_mm256_unpackhi_ps(row2, row3));
  out[0] = _mm256_castpd_si256(_mm256_unpacklo_pd(low01, low23));
  out[1] = _mm256_castpd_si256(_mm256_unpackhi_pd(low01, low23));
  out[2] = _mm256_castpd_si256(_mm256_unpacklo_pd(high01, high23));
  out[3] = _mm256_castpd_si256(_mm256_unpackhi_pd(high01, high23));
}

FLYOVER_AVX2_INLINE void store(std::uint32_t* out, __m256i word) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), word);
}

/// Stores what a source word becomes in the panel; returns where the next one goes.
template <bool kWiden>
FLYOVER_AVX2_INLINE std::uint32_t* store_word(std::uint32_t* out, int width, __m256i word, bool both) {
  if constexpr (kWiden) {
    store(out, _mm256_slli_epi32(word, 16));
    out += width;
    if (both) {
      store(out, _mm256_and_si256(word, _mm256_set1_epi32(static_cast<int>(0xFFFF0000u))));
      out += width;
    }
    return out;
  }
  store(out, word);
  return out + width;
}

/// Up to eight rows; the pointers beyond the last one repeat it. Source words are one f32 or two bf16.
template <bool kWiden>
FLYOVER_AVX2 void pack_group(const char* const (&rows)[kLanes], std::int64_t bytes, int width, std::uint32_t* out) {
  __m256i words[4];
  std::int64_t offset = 0;
  for (; offset + 16 <= bytes; offset += 16) {
    transpose_four_words(rows, offset, words);
#pragma GCC unroll 4
    for (int w = 0; w < 4; ++w) {
      out = store_word<kWiden>(out, width, words[w], true);
    }
  }
  if (offset == bytes) {
    return;
  }
  // The last words of each row, copied to where 16 bytes can be read.
  alignas(16) char copies[kLanes][16] = {};
  const char* tails[kLanes];
  for (int r = 0; r < kLanes; ++r) {
    std::memcpy(copies[r], rows[r] + offset, static_cast<std::size_t>(bytes - offset));
    tails[r] = copies[r];
  }
  transpose_four_words(tails, 0, words);
  for (int w = 0; offset < bytes; ++w, offset += 4) {
    out = store_word<kWiden>(out, width, words[w], bytes - offset >= 4);
  }
}

template <bool kWiden>
void pack_dense_depth(const Source& source, const PanelRegion& region, std::uint32_t* panel) {
  constexpr int kElementBytes = kWiden ? 2 : 4;
  const std::int64_t elements = std::min(region.steps, source.depth - region.step);
  for (int group = 0; group < region.count; group += kLanes) {
    const int count = std::min(kLanes, region.count - group);
    const char* rows[kLanes];
    for (int r = 0; r < kLanes; ++r) {
      const std::int64_t row = source.line(region.row + group + std::min(r, count - 1));
      rows[r] = static_cast<const char*>(source.data) + (row + region.step) * kElementBytes;
    }
    pack_group<kWiden>(rows, elements * kElementBytes, region.width, panel + group);
  }
}

/// `count` neighbouring bf16, without touching what lies behind them.
FLYOVER_AVX2_INLINE __m128i load_bf16(const char* from, int count) {
  if (count == kLanes) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  }
  if (count == kPanelRows) {
    std::int32_t last_two;
    std::memcpy(&last_two, from + 8, sizeof(last_two));
    return _mm_insert_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)), last_two, 2);
  }
  alignas(16) char copy[16] = {};
  std::memcpy(copy, from, 2 * static_cast<std::size_t>(count));
  return _mm_load_si128(reinterpret_cast<const __m128i*>(copy));
}

template <bool kWiden>
FLYOVER_AVX2 void pack_dense_rows(const Source& source, const PanelRegion& region, std::uint32_t* panel) {
  constexpr int kElementBytes = kWiden ? 2 : 4;
  for (std::int64_t step = 0; step < region.steps; ++step) {
    const std::int64_t element = source.line(region.step + step) + region.row;
    const char* from = static_cast<const char*>(source.data) + element * kElementBytes;
    for (int group = 0; group < region.count; group += kLanes) {
      const int count = std::min(kLanes, region.count - group);
      __m256i words;
      if constexpr (kWiden) {
        words = _mm256_slli_epi32(_mm256_cvtepu16_epi32(load_bf16(from + 2 * group, count)), 16);
      } else {
        words = _mm256_maskload_epi32(reinterpret_cast<const int*>(from) + group, lane_mask(count));
      }
      store(panel + step * region.width + group, words);
    }
  }
}

}  // namespace

void pack_dense_depth_f32(const Source& source, const PanelRegion& region, std::uint32_t* panel) {
  pack_dense_depth<false>(source, region, panel);
}
void pack_dense_depth_widened(const Source& source, const PanelRegion& region, std::uint32_t* panel) {
  pack_dense_depth<true>(source, region, panel);
}
void pack_dense_rows_f32(const Source& source, const PanelRegion& region, std::uint32_t* panel) {
  pack_dense_rows<false>(source, region, panel);
}
void pack_dense_rows_widened(const Source& source, const PanelRegion& region, std::uint32_t* panel) {
  pack_dense_rows<true>(source, region, panel);
}

}  // namespace flyover::devices::cpu::matmul::avx2
