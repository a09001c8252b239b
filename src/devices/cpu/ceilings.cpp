#include "devices/cpu/ceilings.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include <immintrin.h>

#include "base/threads.h"

namespace flyover::devices::cpu {
namespace {

/// Hides from the compiler that all the sums are the same.
#define FLYOVER_OPAQUE(value) asm volatile("" : "+v"(value))
#define FLYOVER_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"), noinline))

FLYOVER_AVX512 float multiply_add_avx512(std::int64_t rounds) {
  __m512 sums[24];
#pragma GCC unroll 24
  for (__m512& sum : sums) {
    sum = _mm512_setzero_ps();
  }
  const __m512 x = _mm512_set1_ps(0.5f);
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
    for (__m512& sum : sums) {
      sum = _mm512_fmadd_ps(sum, x, x);
      FLYOVER_OPAQUE(sum);
    }
  }
  __m512 total = sums[0];
#pragma GCC unroll 24
  for (const __m512& sum : sums) {
    total = _mm512_add_ps(total, sum);
  }
  return _mm512_cvtss_f32(total);
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16"), noinline)) float multiply_add_bf16(
    std::int64_t rounds) {
  __m512 sums[24];
#pragma GCC unroll 24
  for (__m512& sum : sums) {
    sum = _mm512_setzero_ps();
  }
  const auto x = (__m512bh)_mm512_set1_epi16(0x3E80);
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
    for (__m512& sum : sums) {
      sum = _mm512_dpbf16_ps(sum, x, x);
      FLYOVER_OPAQUE(sum);
    }
  }
  __m512 total = sums[0];
#pragma GCC unroll 24
  for (const __m512& sum : sums) {
    total = _mm512_add_ps(total, sum);
  }
  return _mm512_cvtss_f32(total);
}

__attribute__((target("avx2,fma"), noinline)) float multiply_add_avx2(std::int64_t rounds) {
  __m256 sums[12];
#pragma GCC unroll 12
  for (__m256& sum : sums) {
    sum = _mm256_setzero_ps();
  }
  const __m256 x = _mm256_set1_ps(0.5f);
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (__m256& sum : sums) {
      sum = _mm256_fmadd_ps(sum, x, x);
      FLYOVER_OPAQUE(sum);
    }
  }
  __m256 total = sums[0];
#pragma GCC unroll 12
  for (const __m256& sum : sums) {
    total = _mm256_add_ps(total, sum);
  }
  return _mm256_cvtss_f32(total);
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

double measure_peak(InstructionSet set, kernels::DType dtype, int threads) {
  constexpr std::int64_t kRounds = 50'000;
  float (*loop)(std::int64_t) = multiply_add_avx512;
  double operations = 24.0 * 16 * 2;
  if (set == InstructionSet::kAvx2) {
    loop = multiply_add_avx2;
    operations = 12.0 * 8 * 2;
  } else if (set == InstructionSet::kAvx512Bf16 && dtype == kernels::DType::kBf16) {
    loop = multiply_add_bf16;
    operations = 24.0 * 32 * 2;
  }
  std::vector<float> results(static_cast<std::size_t>(threads));
  const double begin = now();
  base::parallel_for(threads, threads,
                     [&](std::int64_t item) { results[static_cast<std::size_t>(item)] = loop(kRounds); });
  const double seconds = now() - begin;
  volatile float keep = results[0];
  static_cast<void>(keep);
  return operations * kRounds * threads / seconds;
}

double measure_read_bandwidth(std::span<const std::uint64_t> memory, int threads) {
  constexpr std::int64_t kItems = 64;
  const std::size_t words = memory.size() / kItems;
  std::vector<std::uint64_t> sums(kItems);
  const double begin = now();
  base::parallel_for(threads, kItems, [&](std::int64_t item) {
    const std::uint64_t* from = memory.data() + static_cast<std::size_t>(item) * words;
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < words; ++i) {
      sum += from[i];
    }
    sums[static_cast<std::size_t>(item)] = sum;
  });
  const double seconds = now() - begin;
  volatile std::uint64_t keep = sums[0];
  static_cast<void>(keep);
  return static_cast<double>(kItems * words * sizeof(std::uint64_t)) / seconds;
}

Ceilings measure_ceilings(InstructionSet set, int threads) {
  constexpr int kRepetitions = 20;
  constexpr std::size_t kMemoryBytes = std::size_t{256} << 20;
  Ceilings result;
  // One thread times their number as well: where other processes hold a core, runs on all threads hardly ever get
  // through.
  for (int i = 0; i < kRepetitions; ++i) {
    for (const int used : {1, threads}) {
      const double share = static_cast<double>(threads) / used;
      result.f32_flops = std::max(result.f32_flops, share * measure_peak(set, kernels::DType::kF32, used));
      result.bf16_flops = std::max(result.bf16_flops, share * measure_peak(set, kernels::DType::kBf16, used));
    }
  }
  const std::vector<std::uint64_t> memory(kMemoryBytes / sizeof(std::uint64_t), 1);
  for (int i = 0; i < 3; ++i) {
    result.bytes_per_second = std::max(result.bytes_per_second, measure_read_bandwidth(memory, threads));
  }
  return result;
}

}  // namespace flyover::devices::cpu
