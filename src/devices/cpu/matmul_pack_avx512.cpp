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

/// Where a step's words begin: at its first depth index and, where words are pairs, at its second; null = the depth
/// ends before that.
struct StepSource {
  const char* first;
  const char* second;

  StepSource operator+(std::int64_t bytes) const {
    return {first + bytes, second == nullptr ? nullptr : second + bytes};
  }
};

/// Words of up to 16 neighbouring rows.
template <Format kFormat>
FLYOVER_AVX512_INLINE __m512i load_words(const StepSource& from, __mmask16 mask) {
  if constexpr (kFormat == Format::kF32) {
    return _mm512_maskz_loadu_epi32(mask, from.first);
  } else {
    const __m512i even = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from.first));
    if constexpr (kFormat == Format::kWidened) {
      return _mm512_slli_epi32(even, 16);
    }
    if (from.second == nullptr) {
      return even;
    }
    const __m512i odd = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from.second));
    return _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
  }
}

/// The lanes `low` from one step and all the others from the next, as if both pointed at lane 0. Neither depth ends.
template <Format kFormat>
FLYOVER_AVX512_INLINE __m512i load_words_of_two(const StepSource& step, __mmask16 low, const StepSource& next) {
  const auto high = static_cast<__mmask16>(~low);
  if constexpr (kFormat == Format::kF32) {
    return _mm512_mask_loadu_epi32(_mm512_maskz_loadu_epi32(low, step.first), high, next.first);
  } else {
    const __m512i even =
        _mm512_cvtepu16_epi32(_mm256_mask_loadu_epi16(_mm256_maskz_loadu_epi16(low, step.first), high, next.first));
    if constexpr (kFormat == Format::kWidened) {
      return _mm512_slli_epi32(even, 16);
    }
    const __m512i odd =
        _mm512_cvtepu16_epi32(_mm256_mask_loadu_epi16(_mm256_maskz_loadu_epi16(low, step.second), high, next.second));
    return _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
  }
}

template <Format kFormat>
FLYOVER_AVX512 void pack_dense_rows(const Source& source, const PanelRegion& region, std::uint32_t* panel) {
  constexpr int kElementBytes = kFormat == Format::kF32 ? 4 : 2;
  constexpr int kDepthPerStep = kFormat == Format::kPairs ? 2 : 1;
  const auto* const data = static_cast<const char*>(source.data) + region.row * kElementBytes;
  const auto from = [&](std::int64_t step) {
    const std::int64_t depth = (region.step + step) * kDepthPerStep;
    StepSource words{data + source.line(depth) * kElementBytes, nullptr};
    if (kDepthPerStep == 2 && depth + 1 < source.depth) {
      words.second = data + source.line(depth + 1) * kElementBytes;
    }
    return words;
  };
  const std::int64_t whole_steps = std::min(region.steps, source.depth / kDepthPerStep - region.step);
  std::int64_t step = 0;
  if (region.count == kPanelColumns) {
    for (; step < whole_steps; ++step, panel += kPanelColumns) {
      const StepSource words = from(step);
      _mm512_storeu_si512(panel, load_words<kFormat>(words, 0xFFFF));
      _mm512_storeu_si512(panel + kLanes, load_words<kFormat>(words + kLanes * kElementBytes, 0xFFFF));
    }
  } else if (region.count == kPanelRows && region.width == kPanelRows) {
    // Four steps of 12 words are three vectors.
    for (; step + 4 <= whole_steps; step += 4, panel += 4 * kPanelRows) {
      const StepSource second = from(step + 1), third = from(step + 2);
      const auto words0 = load_words_of_two<kFormat>(from(step), 0x0FFF, second + -12 * kElementBytes);
      const auto words1 = load_words_of_two<kFormat>(second + 4 * kElementBytes, 0x00FF, third + -8 * kElementBytes);
      const auto words2 =
          load_words_of_two<kFormat>(third + 8 * kElementBytes, 0x000F, from(step + 3) + -4 * kElementBytes);
      _mm512_storeu_si512(panel, words0);
      _mm512_storeu_si512(panel + kLanes, words1);
      _mm512_storeu_si512(panel + 2 * kLanes, words2);
    }
  }
  for (; step < region.steps; ++step, panel += region.width) {
    const StepSource words = from(step);
    for (int group = 0; group < region.count; group += kLanes) {
      const int count = std::min(kLanes, region.count - group);
      const auto mask = static_cast<__mmask16>((1u << count) - 1u);
      _mm512_storeu_si512(panel + group, load_words<kFormat>(words + group * kElementBytes, mask));
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
