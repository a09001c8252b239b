// The AVX512-BF16 micro-kernel: 12 x 32 sums by vdpbf16ps, two elements of the depth at a time.
#include "devices/cpu/matmul_avx512.h"

namespace flyover::devices::cpu::matmul {
namespace {

using namespace avx512;

#define FLYOVER_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512cd,avx512bf16,avx2,fma")))

/// Finished sums to bf16. vcvtne2ps2bf16 flushes subnormals, of which vdpbf16ps leaves none (Intel SDM).
template <int kRows>
FLYOVER_AVX512_BF16 __attribute__((always_inline)) inline void write_bf16(const Tile& tile,
                                                                          const __m512 (&sums)[kRows][2]) {
  const __mmask32 columns = column_mask(tile);
  auto* const c = static_cast<kernels::Bf16*>(tile.c);
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    _mm512_mask_storeu_epi16(c + r * tile.c_stride, columns, (__m512i)_mm512_cvtne2ps_pbh(sums[r][1], sums[r][0]));
  }
}

template <int kRows>
FLYOVER_AVX512_BF16 void multiply(const Tile& tile) {
  __m512 sums[kRows][2];
  start_sums<kRows>(tile, sums);
  prefetch_result<kRows>(tile);
  const std::int64_t prefetch_step = tile.prefetch_step;
  const std::uint32_t* a = tile.a;
  const std::uint32_t* b = tile.b;
  const std::byte* prefetch = tile.prefetch;
#pragma GCC unroll 2
  for (std::int64_t step = tile.steps; step > 0; --step) {
    const auto low = (__m512bh)_mm512_loadu_si512(b);
    const auto high = (__m512bh)_mm512_loadu_si512(b + 16);
    _mm_prefetch(prefetch, _MM_HINT_T1);
    _mm_prefetch(prefetch + 64, _MM_HINT_T1);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const auto factor = (__m512bh)_mm512_set1_epi32(static_cast<int>(a[r]));
      sums[r][0] = _mm512_dpbf16_ps(sums[r][0], factor, low);
      sums[r][1] = _mm512_dpbf16_ps(sums[r][1], factor, high);
    }
    a += kRows;
    b += kPanelColumns;
    prefetch += prefetch_step;
  }
  if (tile.last && tile.c_is_bf16 && !tile.accumulate) {
    write_bf16<kRows>(tile, sums);
  } else {
    finish_sums<kRows>(tile, sums);
  }
}

}  // namespace

const MicroKernel kAvx512Bf16Pairs = {
    kPanelRows,
    kPanelColumns,
    2,
    pack_dense_depth_pairs,
    pack_dense_rows_pairs,
    {nullptr, multiply<1>, multiply<2>, multiply<3>, multiply<4>, multiply<5>, multiply<6>, multiply<7>, multiply<8>,
     multiply<9>, multiply<10>, multiply<11>, multiply<12>}};

}  // namespace flyover::devices::cpu::matmul
