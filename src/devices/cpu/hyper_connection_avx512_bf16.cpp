// The product of pairs of bf16 with AVX512-BF16.
// GCC 12 takes the deliberately undefined operands inside its own intrinsics for mistakes (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include <immintrin.h>

#include "devices/cpu/hyper_connection_product.h"

#define FLYOVER_BF16_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma")))

namespace flyover::devices::cpu::hyper_connection {
namespace {

constexpr int kRows = 6;
constexpr int kVectors = 4;

template <int kCount>
FLYOVER_BF16_TARGET void multiply_rows(const Product& product, std::int64_t row) {
  float* const c = product.c + row * product.c_row;
  __m512 sums[kCount][kVectors];
#pragma GCC unroll 6
  for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      sums[i][v] = _mm512_setzero_ps();
    }
  }
  const std::uint32_t* a = product.a + row * product.a_row;
  const std::uint32_t* b = product.b;
  for (std::int64_t step = 0; step < product.steps; ++step) {
    __m512bh values[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      values[v] = (__m512bh)_mm512_loadu_si512(b + 16 * v);
    }
#pragma GCC unroll 6
    for (int i = 0; i < kCount; ++i) {
      const auto factor = (__m512bh)_mm512_set1_epi32(static_cast<int>(a[i * product.a_row]));
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        sums[i][v] = _mm512_dpbf16_ps(sums[i][v], factor, values[v]);
      }
    }
    a += product.a_step;
    b += kProductColumns;
  }
#pragma GCC unroll 6
  for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      float* const to = c + i * product.c_row + 16 * v;
      _mm512_storeu_ps(to, product.add ? _mm512_add_ps(_mm512_loadu_ps(to), sums[i][v]) : sums[i][v]);
    }
  }
}

}  // namespace

void multiply_bf16_pairs(const Product& product) {
  constexpr void (*kRest[kRows])(const Product&, std::int64_t) = {nullptr,          multiply_rows<1>, multiply_rows<2>,
                                                                  multiply_rows<3>, multiply_rows<4>, multiply_rows<5>};
  std::int64_t row = 0;
  for (; row + kRows <= product.rows; row += kRows) {
    multiply_rows<kRows>(product, row);
  }
  if (row < product.rows) {
    kRest[product.rows - row](product, row);
  }
}

}  // namespace flyover::devices::cpu::hyper_connection
