// The AVX-512 micro-kernel: 12 x 32 sums by f32 fused multiply-adds in the order of the depth.
#include "devices/cpu/matmul_avx512.h"

namespace flyover::devices::cpu::matmul {
namespace {

using namespace avx512;

template <int kRows>
FLYOVER_AVX512 void multiply(const Tile& tile) {
  __m512 sums[kRows][2];
  start_sums<kRows>(tile, sums);
  prefetch_result<kRows>(tile);
  const std::int64_t prefetch_step = tile.prefetch_step;
  const auto* a = reinterpret_cast<const float*>(tile.a);
  const auto* b = reinterpret_cast<const float*>(tile.b);
  const std::byte* prefetch = tile.prefetch;
#pragma GCC unroll 2
  for (std::int64_t step = tile.steps; step > 0; --step) {
    const __m512 low = _mm512_loadu_ps(b);
    const __m512 high = _mm512_loadu_ps(b + 16);
    _mm_prefetch(prefetch, _MM_HINT_T1);
    _mm_prefetch(prefetch + 64, _MM_HINT_T1);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const __m512 factor = _mm512_set1_ps(a[r]);
      sums[r][0] = _mm512_fmadd_ps(factor, low, sums[r][0]);
      sums[r][1] = _mm512_fmadd_ps(factor, high, sums[r][1]);
    }
    a += kRows;
    b += kPanelColumns;
    prefetch += prefetch_step;
  }
  finish_sums<kRows>(tile, sums);
}

}  // namespace

const MicroKernel kAvx512F32 = {kPanelRows,
                                kPanelColumns,
                                1,
                                pack_dense_depth_f32,
                                pack_dense_rows_f32,
                                {nullptr, multiply<1>, multiply<2>, multiply<3>, multiply<4>, multiply<5>, multiply<6>,
                                 multiply<7>, multiply<8>, multiply<9>, multiply<10>, multiply<11>, multiply<12>}};
const MicroKernel kAvx512Bf16 = {kPanelRows,
                                 kPanelColumns,
                                 1,
                                 pack_dense_depth_widened,
                                 pack_dense_rows_widened,
                                 {nullptr, multiply<1>, multiply<2>, multiply<3>, multiply<4>, multiply<5>, multiply<6>,
                                  multiply<7>, multiply<8>, multiply<9>, multiply<10>, multiply<11>, multiply<12>}};

}  // namespace flyover::devices::cpu::matmul
