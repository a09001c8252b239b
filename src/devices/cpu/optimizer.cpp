#include <cmath>

#include "devices/cpu/families.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/optimizer.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

constexpr std::int64_t kCountPerBlock = 16384;

template <typename Moment, typename T>
void adamw_blocks(const kernels::AdamW& kernel, T* parameter, int threads) {
  const float* const gradient = static_cast<const float*>(kernel.gradient.data);
  float* const weight = static_cast<float*>(kernel.weight.data);
  Moment* const first_moment = static_cast<Moment*>(kernel.first_moment.data);
  Moment* const second_moment = static_cast<Moment*>(kernel.second_moment.data);
  const float gradient_scale = *static_cast<const float*>(kernel.gradient_scale.data);
  for_each_span(
      threads, 1, kernel.gradient.size(0), [&](std::int64_t, std::int64_t begin, std::int64_t count) HWY_ATTR {
        const Vector scale = hn::Set(Tag(), gradient_scale);
        const Vector beta1 = hn::Set(Tag(), kernel.beta1), rest1 = hn::Set(Tag(), 1.0f - kernel.beta1);
        const Vector beta2 = hn::Set(Tag(), kernel.beta2), rest2 = hn::Set(Tag(), 1.0f - kernel.beta2);
        const Vector correction1 = hn::Set(Tag(), kernel.correction1), correction2 = hn::Set(Tag(), kernel.correction2);
        const Vector epsilon = hn::Set(Tag(), kernel.epsilon), decay = hn::Set(Tag(), kernel.weight_decay);
        const Vector learning_rate = hn::Set(Tag(), kernel.learning_rate);
        for_each_vector(count, [&](std::int64_t offset, auto lanes) FLYOVER_VECTOR_BODY {
          const std::int64_t i = begin + offset;
          const Vector g = hn::Mul(load(gradient + i, lanes), scale);
          const Vector m = hn::MulAdd(beta1, load(first_moment + i, lanes), hn::Mul(rest1, g));
          const Vector v = hn::MulAdd(beta2, load(second_moment + i, lanes), hn::Mul(rest2, hn::Mul(g, g)));
          const Vector root = hn::Add(hn::Sqrt(hn::Div(v, correction2)), epsilon);
          const Vector w = load(weight + i, lanes);
          const Vector step = hn::MulAdd(decay, w, hn::Div(hn::Div(m, correction1), root));
          const Vector updated = hn::NegMulAdd(learning_rate, step, w);
          store(m, first_moment + i, lanes);
          store(v, second_moment + i, lanes);
          store(updated, weight + i, lanes);
          if (parameter != nullptr) {
            store(updated, parameter + i, lanes);
          }
        });
      });
}

void adamw(const kernels::AdamW& kernel, const LaunchContext& context) {
  check_is_f32(kernel.kName, kernel.weight);
  with_element_type(kernel.kName, kernel.first_moment.dtype, [&]<typename Moment>(Moment) HWY_ATTR {
    if (!kernel.parameter.has_value()) {
      adamw_blocks<Moment, float>(kernel, nullptr, context.threads);
      return;
    }
    with_element_type(kernel.kName, kernel.parameter->dtype, [&]<typename T>(T) HWY_ATTR {
      adamw_blocks<Moment>(kernel, static_cast<T*>(kernel.parameter->data), context.threads);
    });
  });
}

void sum_of_squares(const kernels::SumOfSquares& kernel, const LaunchContext& context) {
  const std::int64_t count = kernel.x.size(0), blocks = blocks_of(count, kCountPerBlock);
  double* const partial_sums = reinterpret_cast<double*>(context.workspace);
  with_element_type(kernel.kName, kernel.x.dtype, [&]<typename T>(T) HWY_ATTR {
    base::parallel_for(context.threads, blocks, [&](std::int64_t block) HWY_ATTR {
      const std::int64_t begin = block * kCountPerBlock;
      const T* const x = static_cast<const T*>(kernel.x.data) + begin;
      partial_sums[block] =
          static_cast<double>(sum_of(fold_vectors(std::min(kCountPerBlock, count - begin), hn::Zero(Tag()),
                                                  [&](Vector sum, std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
                                                    const Vector value = load(x + i, lanes);
                                                    return hn::MulAdd(value, value, sum);
                                                  })));
    });
  });
  double sum = 0;
  for (std::int64_t block = 0; block < blocks; ++block) {
    sum += partial_sums[block];
  }
  *static_cast<float*>(kernel.sum.data) = static_cast<float>(sum);
}

void clip_coefficient(const kernels::ClipCoefficient& kernel, const LaunchContext&) {
  check_is_f32(kernel.kName, kernel.sums_of_squares);
  const float* const sums = static_cast<const float*>(kernel.sums_of_squares.data);
  double sum = 0;
  for (std::int64_t i = 0; i < kernel.sums_of_squares.size(0); ++i) {
    sum += static_cast<double>(sums[i]);
  }
  const double norm = std::sqrt(sum);
  const double limit = kernel.max_norm > 0.0f ? static_cast<double>(kernel.max_norm) / norm : 1.0;
  *static_cast<float*>(kernel.norm.data) = static_cast<float>(norm);
  *static_cast<float*>(kernel.coefficient.data) = static_cast<float>(std::min(1.0, limit));
}

/// The exponent bits of a type; all ones in infinities and NaN.
std::uint32_t exponent_bits(float value) {
  return std::bit_cast<std::uint32_t>(value) & 0x7F800000u;
}
std::uint32_t exponent_bits(kernels::Bf16 value) {
  return (static_cast<std::uint32_t>(value.bits) << 16) & 0x7F800000u;
}

template <typename T>
std::int64_t first_non_finite(const T* x, std::int64_t begin, std::int64_t end) {
  const auto is_non_finite = [&](std::int64_t i) { return exponent_bits(x[i]) == 0x7F800000u; };
  // Blocks without a hit, nearly all of them, are read without leaving the loop early, which vectorises.
  std::int64_t hits = 0;
  for (std::int64_t i = begin; i < end; ++i) {
    hits += is_non_finite(i);
  }
  for (std::int64_t i = begin; hits > 0 && i < end; ++i) {
    if (is_non_finite(i)) {
      return i;
    }
  }
  return -1;
}

void find_non_finite(const kernels::FindNonFinite& kernel, const LaunchContext& context) {
  const std::int64_t count = kernel.x.size(0), blocks = blocks_of(count, kCountPerBlock);
  std::int64_t* const first_of_block = reinterpret_cast<std::int64_t*>(context.workspace);
  with_element_type(kernel.kName, kernel.x.dtype, [&]<typename T>(T) HWY_ATTR {
    const T* const x = static_cast<const T*>(kernel.x.data);
    base::parallel_for(context.threads, blocks, [&](std::int64_t block) HWY_ATTR {
      const std::int64_t begin = block * kCountPerBlock;
      first_of_block[block] = first_non_finite(x, begin, std::min(count, begin + kCountPerBlock));
    });
  });
  std::int64_t& index = *static_cast<std::int64_t*>(kernel.index.data);
  index = -1;
  for (std::int64_t block = 0; block < blocks && index == -1; ++block) {
    index = first_of_block[block];
  }
}

void add_kernels(KernelTable& table) {
  table.set<kernels::AdamW>(adamw);
  table.set<kernels::SumOfSquares>(sum_of_squares, [](const kernels::SumOfSquares& kernel, int) {
    return static_cast<std::size_t>(blocks_of(kernel.x.size(0), kCountPerBlock)) * sizeof(double);
  });
  table.set<kernels::ClipCoefficient>(clip_coefficient);
  table.set<kernels::FindNonFinite>(find_non_finite, [](const kernels::FindNonFinite& kernel, int) {
    return static_cast<std::size_t>(blocks_of(kernel.x.size(0), kCountPerBlock)) * sizeof(std::int64_t);
  });
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_optimizer_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table) : N_AVX3::add_kernels(table);
}

}  // namespace flyover::devices::cpu
#endif
