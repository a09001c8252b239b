// What the AVX2 micro-kernel and its packing share.
#pragma once

#include <cstdint>

#include <immintrin.h>

#include "devices/cpu/matmul_microkernel.h"

/// Compiles one function for AVX2 and FMA whatever the translation unit is compiled for.
#define FLYOVER_AVX2 __attribute__((target("avx2,fma")))
#define FLYOVER_AVX2_INLINE FLYOVER_AVX2 __attribute__((always_inline)) inline

namespace flyover::devices::cpu::matmul::avx2 {

inline constexpr int kPanelRows = 6;
inline constexpr int kPanelColumns = 16;
inline constexpr int kLanes = 8;

/// All ones in the first `count` lanes.
FLYOVER_AVX2_INLINE __m256i lane_mask(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// Packing (matmul_pack_avx2.cpp).
void pack_dense_depth_f32(const Source& source, const PanelRegion& region, std::uint32_t* panel);
void pack_dense_depth_widened(const Source& source, const PanelRegion& region, std::uint32_t* panel);
void pack_dense_rows_f32(const Source& source, const PanelRegion& region, std::uint32_t* panel);
void pack_dense_rows_widened(const Source& source, const PanelRegion& region, std::uint32_t* panel);

}  // namespace flyover::devices::cpu::matmul::avx2
