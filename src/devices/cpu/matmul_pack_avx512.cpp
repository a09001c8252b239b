// Packing of operands into panels with AVX-512.
#include <algorithm>
#include <cstring>

#include "devices/cpu/matmul_avx512.h"

namespace flyover::devices::cpu::matmul::avx512 {
namespace {

enum class Format { kF32, kPairs, kWidened };

constexpr int kLanes = 16;

FLYOVER_AVX512_INLINE __m128 load_four(const char* from) {
  return _mm_castsi128_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

/// Four words of up to 16 rows, not yet in order: gathered[r] holds those of rows r, r + 4, r + 8, r + 12.
template <int kQuads>
FLYOVER_AVX512_INLINE void gather_four_words(const char* const (&rows)[kLanes], std::int64_t offset, int r,
                                             __m512& gathered) {
  gathered = _mm512_castps128_ps512(load_four(rows[r] + offset));
  if constexpr (kQuads > 1) {
    gathered = _mm512_mask_broadcast_f32x4(gathered, 0x00F0, load_four(rows[r + 4] + offset));
  }
  if constexpr (kQuads > 2) {
    gathered = _mm512_mask_broadcast_f32x4(gathered, 0x0F00, load_four(rows[r + 8] + offset));
  }
  if constexpr (kQuads > 3) {
    gathered = _mm512_mask_broadcast_f32x4(gathered, 0xF000, load_four(rows[r + 12] + offset));
  }
}

/// out[w] = word w of rows 0 .. 15, of what gather_four_words has found for r = 0 .. 3.
FLYOVER_AVX512_INLINE void transpose_four_words(const __m512 (&gathered)[4], __m512i (&out)[4]) {
  const __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(gathered[0], gathered[1]));
  const __m512d low23 = _mm512_castps_pd(_mm512_unpacklo_ps(gathered[2], gathered[3]));
  const __m512d high01 = _mm512_castps_pd(_mm512_unpackhi_ps(gathered[0], gathered[1]));
  const __m512d high23 = _mm512_castps_pd(_mm512_unpackhi_ps(gathered[2], gathered[3]));
  out[0] = _mm512_castpd_si512(_mm512_unpacklo_pd(low01, low23));
  out[1] = _mm512_castpd_si512(_mm512_unpackhi_pd(low01, low23));
  out[2] = _mm512_castpd_si512(_mm512_unpacklo_pd(high01, high23));
  out[3] = _mm512_castpd_si512(_mm512_unpackhi_pd(high01, high23));
}

/// Stores what a source word becomes in the panel (two steps where bf16 is widened); returns where the next one goes.
template <Format kFormat>
FLYOVER_AVX512_INLINE std::uint32_t* store_word(std::uint32_t* out, int width, __m512i word, bool both) {
  if constexpr (kFormat == Format::kWidened) {
    _mm512_storeu_si512(out, _mm512_slli_epi32(word, 16));
    out += width;
    if (both) {
      _mm512_storeu_si512(out, _mm512_and_si512(word, _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))));
      out += width;
    }
    return out;
  }
  _mm512_storeu_si512(out, word);
  return out + width;
}

/// 4 * kQuads rows at most, of which the pointers beyond the last one repeat it. Meanwhile asks for the rows `ahead`:
/// the hardware does not foresee so many short rows. Source words are 32 bits wide: one f32 or two bf16.
template <Format kFormat, int kQuads>
FLYOVER_AVX512 void pack_group(const char* const (&rows)[kLanes], const char* const (&ahead)[kLanes],
                               std::int64_t elements, int width, std::uint32_t* out) {
  constexpr int kElementBytes = kFormat == Format::kF32 ? 4 : 2;
  const std::int64_t bytes = elements * kElementBytes;
  __m512i words[4];
  std::int64_t offset = 0;
  // A cache line of each row at a time: rows may lie a multiple of 4096 bytes apart, and then share a set of the cache.
  for (; offset + 64 <= bytes; offset += 64) {
    __m512 gathered[4][4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
#pragma GCC unroll 4
      for (int quad = 0; quad < kQuads; ++quad) {
        _mm_prefetch(ahead[r + 4 * quad] + offset, _MM_HINT_T1);
      }
#pragma GCC unroll 4
      for (int w = 0; w < 4; ++w) {
        gather_four_words<kQuads>(rows, offset + 16 * w, r, gathered[w][r]);
      }
    }
#pragma GCC unroll 4
    for (int w = 0; w < 4; ++w) {
      transpose_four_words(gathered[w], words);
#pragma GCC unroll 4
      for (int word = 0; word < 4; ++word) {
        out = store_word<kFormat>(out, width, words[word], true);
      }
    }
  }
  if (offset == bytes) {
    return;
  }
  // The last words of each row, copied to where 64 bytes can be read; the missing half of a pair is zero.
  alignas(64) char copies[kLanes][64] = {};
  const char* tails[kLanes];
  for (int r = 0; r < kLanes; ++r) {
    if (r < 4 * kQuads) {
      std::memcpy(copies[r], rows[r] + offset, static_cast<std::size_t>(bytes - offset));
    }
    tails[r] = copies[r];
  }
  const std::int64_t rest = bytes - offset;
  for (std::int64_t begin = 0; begin < rest; begin += 16) {
    __m512 gathered[4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      gather_four_words<kQuads>(tails, begin, r, gathered[r]);
    }
    transpose_four_words(gathered, words);
    for (int word = 0; word < 4 && begin + 4 * word < rest; ++word) {
      out = store_word<kFormat>(out, width, words[word], rest - begin - 4 * word >= 4);
    }
  }
}

template <Format kFormat>
void pack_dense_depth(const Source& source, const PanelRegion& region, std::uint32_t* panel) {
  constexpr int kElementBytes = kFormat == Format::kF32 ? 4 : 2;
  constexpr int kDepthPerStep = kFormat == Format::kPairs ? 2 : 1;
  const std::int64_t begin = region.step * kDepthPerStep;
  const std::int64_t elements = std::min(region.steps * kDepthPerStep, source.depth - begin);
  const auto* const data = static_cast<const char*>(source.data) + begin * kElementBytes;
  for (int group = 0; group < region.count; group += kLanes) {
    const int count = std::min(kLanes, region.count - group);
    const char* rows[kLanes];
    const char* ahead[kLanes];  // of the next panel
    for (int r = 0; r < kLanes; ++r) {
      const std::int64_t row = region.row + group + std::min(r, count - 1);
      rows[r] = data + source.line(row) * kElementBytes;
      ahead[r] = data + source.line(std::min(row + region.count, source.rows - 1)) * kElementBytes;
    }
    std::uint32_t* out = panel + group;
    if (count > 12) {
      pack_group<kFormat, 4>(rows, ahead, elements, region.width, out);
    } else if (count > 8) {
      pack_group<kFormat, 3>(rows, ahead, elements, region.width, out);
    } else if (count > 4) {
      pack_group<kFormat, 2>(rows, ahead, elements, region.width, out);
    } else {
      pack_group<kFormat, 1>(rows, ahead, elements, region.width, out);
    }
  }
}

/// The elements of two neighbouring lines, in turns: those of lanes [begin, begin + 16) of both.
template <int kBegin>
FLYOVER_AVX512_INLINE __m512i interleave(__m512i even, __m512i odd) {
  alignas(64) static constexpr std::uint16_t kOrder[32] = {
      kBegin,      kBegin + 32, kBegin + 1,  kBegin + 33, kBegin + 2,  kBegin + 34, kBegin + 3,  kBegin + 35,
      kBegin + 4,  kBegin + 36, kBegin + 5,  kBegin + 37, kBegin + 6,  kBegin + 38, kBegin + 7,  kBegin + 39,
      kBegin + 8,  kBegin + 40, kBegin + 9,  kBegin + 41, kBegin + 10, kBegin + 42, kBegin + 11, kBegin + 43,
      kBegin + 12, kBegin + 44, kBegin + 13, kBegin + 45, kBegin + 14, kBegin + 46, kBegin + 15, kBegin + 47};
  return _mm512_permutex2var_epi16(even, _mm512_load_si512(kOrder), odd);
}

/// A step's words of up to 16 neighbouring rows. `second`: the other line of pairs; null = the depth ends before it.
template <Format kFormat>
FLYOVER_AVX512_INLINE __m512i load_words(const char* first, const char* second, __mmask16 mask) {
  if constexpr (kFormat == Format::kF32) {
    return _mm512_maskz_loadu_epi32(mask, first);
  } else if constexpr (kFormat == Format::kWidened) {
    return _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, first)), 16);
  } else {
    const __m512i even = _mm512_castsi256_si512(_mm256_maskz_loadu_epi16(mask, first));
    const __m512i odd =
        second == nullptr ? _mm512_setzero_si512() : _mm512_castsi256_si512(_mm256_maskz_loadu_epi16(mask, second));
    return interleave<0>(even, odd);
  }
}

/// Prefetches so many rows of the lines of a step. Forced inline: a function that only prefetches counts as one without
/// effect.
template <Format kFormat, int kRows>
FLYOVER_AVX512_INLINE void prefetch_rows(const char* first, const char* second) {
  _mm_prefetch(first, _MM_HINT_T1);
  if constexpr (kFormat == Format::kPairs) {
    _mm_prefetch(second, _MM_HINT_T1);
  }
  if constexpr (kFormat == Format::kF32 && kRows > kLanes) {
    _mm_prefetch(first + 64, _MM_HINT_T1);
  }
}

template <Format kFormat>
FLYOVER_AVX512 void pack_dense_rows(const Source& source, const PanelRegion& region, std::uint32_t* panel) {
  constexpr int kElementBytes = kFormat == Format::kF32 ? 4 : 2;
  constexpr int kDepthPerStep = kFormat == Format::kPairs ? 2 : 1;
  const auto* const data = static_cast<const char*>(source.data) + region.row * kElementBytes;
  const auto line = [&](std::int64_t depth) { return data + source.line(depth) * kElementBytes; };
  std::int64_t depth = region.step * kDepthPerStep;
  const std::int64_t end = std::min(depth + region.steps * kDepthPerStep, source.depth);
  const std::int64_t whole_end = end - (end - depth) % kDepthPerStep;
  // The hardware does not foresee lines that lie so far apart: those of the next chunk are prefetched, some of them by
  // several panels, which share cache lines.
  constexpr std::int64_t kAhead = kPackSteps * kDepthPerStep;
  const std::int64_t prefetch_end = source.depth - kAhead - kDepthPerStep + 1;
  // A vector writes behind a panel's rows; the next step overwrites that.
  if (region.count <= kLanes) {
    const auto mask = static_cast<__mmask16>((1u << region.count) - 1u);
    for (; depth < whole_end; depth += kDepthPerStep, panel += region.width) {
      if (depth < prefetch_end) {
        prefetch_rows<kFormat, kLanes>(line(depth + kAhead), line(depth + kAhead + kDepthPerStep - 1));
      }
      _mm512_storeu_si512(panel, load_words<kFormat>(line(depth), line(depth + kDepthPerStep - 1), mask));
    }
  } else if (region.count == 2 * kLanes) {
    for (; depth < whole_end; depth += kDepthPerStep, panel += region.width) {
      if (depth < prefetch_end) {
        prefetch_rows<kFormat, 2 * kLanes>(line(depth + kAhead), line(depth + kAhead + kDepthPerStep - 1));
      }
      const char* const first = line(depth);
      if constexpr (kFormat == Format::kPairs) {
        const __m512i even = _mm512_loadu_si512(first), odd = _mm512_loadu_si512(line(depth + 1));
        _mm512_storeu_si512(panel, interleave<0>(even, odd));
        _mm512_storeu_si512(panel + kLanes, interleave<kLanes>(even, odd));
      } else {
        _mm512_storeu_si512(panel, load_words<kFormat>(first, nullptr, 0xFFFF));
        _mm512_storeu_si512(panel + kLanes, load_words<kFormat>(first + kLanes * kElementBytes, nullptr, 0xFFFF));
      }
    }
  }
  for (; depth < end; depth += kDepthPerStep, panel += region.width) {
    const char* const first = line(depth);
    const char* const second = depth + kDepthPerStep - 1 < end ? line(depth + kDepthPerStep - 1) : nullptr;
    for (int group = 0; group < region.count; group += kLanes) {
      const int count = std::min(kLanes, region.count - group);
      const auto mask = static_cast<__mmask16>((1u << count) - 1u);
      const int bytes = group * kElementBytes;
      const char* const other = second == nullptr ? nullptr : second + bytes;
      _mm512_storeu_si512(panel + group, load_words<kFormat>(first + bytes, other, mask));
    }
  }
}

}  // namespace

void pack_dense_depth_f32(const Source& source, const PanelRegion& region, std::uint32_t* panel) {
  pack_dense_depth<Format::kF32>(source, region, panel);
}
void pack_dense_depth_pairs(const Source& source, const PanelRegion& region, std::uint32_t* panel) {
  pack_dense_depth<Format::kPairs>(source, region, panel);
}
void pack_dense_depth_widened(const Source& source, const PanelRegion& region, std::uint32_t* panel) {
  pack_dense_depth<Format::kWidened>(source, region, panel);
}
void pack_dense_rows_f32(const Source& source, const PanelRegion& region, std::uint32_t* panel) {
  pack_dense_rows<Format::kF32>(source, region, panel);
}
void pack_dense_rows_pairs(const Source& source, const PanelRegion& region, std::uint32_t* panel) {
  pack_dense_rows<Format::kPairs>(source, region, panel);
}
void pack_dense_rows_widened(const Source& source, const PanelRegion& region, std::uint32_t* panel) {
  pack_dense_rows<Format::kWidened>(source, region, panel);
}

}  // namespace flyover::devices::cpu::matmul::avx512
