#include "kernels/quantisation.h"

#include <array>
#include <bit>
#include <cmath>
#include <type_traits>

#include "devices/cpu/families.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"
#include "kernels/number_formats.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/quantisation.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

// The loops have no branches, so that the compiler makes vector code of them.

constexpr std::int64_t kBlock = kernels::kFp4BlockWidth;
constexpr float kLeastMaximum = 0x1.8p-124f;  // 6 * 2^-126

template <typename T>
HWY_INLINE void load_floats(const T* from, float* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<T, float>) {
      to[i] = from[i];
    } else {
      to[i] = kernels::to_float(from[i]);
    }
  }
}

template <typename T>
HWY_INLINE void store_floats(const float* from, T* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<T, float>) {
      to[i] = from[i];
    } else {
      to[i] = kernels::to_bf16(from[i]);
    }
  }
}

/// The value of kernels::encode_e2m1's code, with the sign.
HWY_INLINE float nearest_e2m1(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const float size = std::bit_cast<float>(bits & 0x7FFFFFFFu);
  const float nearest = (size > 0.25f ? 0.5f : 0.0f) + (size >= 0.75f ? 0.5f : 0.0f) + (size > 1.25f ? 0.5f : 0.0f) +
                        (size >= 1.75f ? 0.5f : 0.0f) + (size > 2.5f ? 1.0f : 0.0f) + (size >= 3.5f ? 1.0f : 0.0f) +
                        (size > 5.0f ? 2.0f : 0.0f);
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(nearest) | (bits & 0x80000000u));
}

HWY_INLINE void round_block(float* values) {
  std::uint32_t largest_bits = 0;  // as bits magnitudes are ordered like numbers, and what is not finite is above them
  for (std::int64_t i = 0; i < kBlock; ++i) {
    largest_bits = std::max(largest_bits, std::bit_cast<std::uint32_t>(values[i]) & 0x7FFFFFFFu);
  }
  const auto largest = std::bit_cast<float>(largest_bits);
  if (!(largest_bits < 0x7F800000u)) {
    std::fill_n(values, kBlock, std::bit_cast<float>(0x7FC00000u));
    return;
  }
  const float scale = kernels::ceil_power_of_two(std::max(largest, kLeastMaximum) / kernels::kLargestE2m1);
  const float reciprocal = 1.0f / scale;  // a power of two: the product is exact
  for (std::int64_t i = 0; i < kBlock; ++i) {
    values[i] = nearest_e2m1(values[i] * reciprocal) * scale;
  }
}

void round_to_fp4(const kernels::RoundToFp4& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.x.dtype, [&]<typename From>(From) HWY_ATTR {
    with_element_type(kernel.kName, kernel.y.dtype, [&]<typename To>(To) HWY_ATTR {
      const auto x = rows_of<const From>(kernel.x);
      const auto y = rows_of<To>(kernel.y);
      static_assert(kBlockElements % kBlock == 0);
      for_each_span(context.threads, x.rows, x.width,
                    [&](std::int64_t i, std::int64_t begin, std::int64_t columns) HWY_ATTR {
                      std::array<float, kBlock> values;
                      for (std::int64_t j = begin; j < begin + columns; j += kBlock) {
                        load_floats(x[i] + j, values.data(), kBlock);
                        round_block(values.data());
                        store_floats(values.data(), y[i] + j, kBlock);
                      }
                    });
    });
  });
}

/// Sylvester's matrix times a row, by sums and differences of ever larger halves.
HWY_INLINE void transform(float* values, std::int64_t width) {
  for (std::int64_t half = 1; half < width; half *= 2) {
    for (std::int64_t first = 0; first < width; first += 2 * half) {
      for (std::int64_t i = first; i < first + half; ++i) {
        const float a = values[i], b = values[i + half];
        values[i] = a + b;
        values[i + half] = a - b;
      }
    }
  }
}

void hadamard(const kernels::Hadamard& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.x.dtype, [&]<typename T>(T) HWY_ATTR {
    const auto x = rows_of<const T>(kernel.x);
    const auto y = rows_of<T>(kernel.y);
    const auto factor = static_cast<float>(1.0 / std::sqrt(static_cast<double>(x.width)));
    for_each_row(context.threads, x.rows, x.width, [&](std::int64_t i) HWY_ATTR {
      std::array<float, static_cast<std::size_t>(kernels::kMaximumHadamardWidth)> values;
      load_floats(x[i], values.data(), x.width);
      transform(values.data(), x.width);
      for (std::int64_t j = 0; j < x.width; ++j) {
        values[static_cast<std::size_t>(j)] *= factor;
      }
      store_floats(values.data(), y[i], x.width);
    });
  });
}

void add_kernels(KernelTable& table) {
  table.set<kernels::RoundToFp4>(round_to_fp4);
  table.set<kernels::Hadamard>(hadamard);
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_quantisation_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table) : N_AVX3::add_kernels(table);
}

}  // namespace flyover::devices::cpu
#endif
