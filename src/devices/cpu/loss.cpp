#include <cmath>
#include <cstring>
#include <span>

#include "devices/cpu/families.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/loss.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/softmax_row.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

/// The targets. Throws InternalError for one that is neither a token nor kIgnoredTarget.
template <typename Kernel>
std::span<const std::int32_t> checked_targets(const Kernel& kernel) {
  const std::int64_t vocabulary = kernel.logits.size(1);
  const std::span targets(static_cast<const std::int32_t*>(kernel.targets.data),
                          static_cast<std::size_t>(kernel.targets.size(0)));
  for (std::size_t i = 0; i < targets.size(); ++i) {
    base::check(targets[i] == kernels::kIgnoredTarget || (targets[i] >= 0 && targets[i] < vocabulary),
                "{}: target {} in row {} of a vocabulary of {}", Kernel::kName, targets[i], i, vocabulary);
  }
  return targets;
}

/// Long rows are handed out in fours, so that a thread mostly goes on to the row that it has fetched.
std::int64_t work_of_row(std::int64_t vocabulary) {
  return std::min(vocabulary, kBlockElements / 4);
}

void log_probability(const kernels::LogProbability& kernel, const LaunchContext& context) {
  check_is_f32(kernel.kName, kernel.logits);
  const auto targets = checked_targets(kernel);
  const auto logits = rows_of<const float>(kernel.logits);
  float* const log_probability = static_cast<float*>(kernel.log_probability.data);
  for_each_row(context.threads, logits.rows, work_of_row(logits.width), [&](std::int64_t i) HWY_ATTR {
    const std::int32_t target = targets[static_cast<std::size_t>(i)];
    log_probability[i] = target == kernels::kIgnoredTarget
                             ? 0.0f
                             : softmax_row(logits[i], logits.width, kernel.temperature, logits.stride)
                                   .log_probability(logits[i][target]);
  });
}

template <typename T>
void cross_entropy_row(const float* logits, std::int64_t width, std::int64_t next, std::int32_t target, float weight,
                       float& log_probability, T* dlogits) {
  const SoftmaxRow row = softmax_row(logits, width, 1.0f, next);
  const double log_p = row.log_probability_in_f64(logits[target]);
  log_probability = row.log_probability(logits[target]);
  // dlogits may be the logits: from here on they are read only where they are replaced.
  const Vector maximum = hn::Set(Tag(), row.maximum);
  const Vector factor = hn::Set(Tag(), static_cast<float>(static_cast<double>(weight) / row.sum));
  const auto gradient = [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
    return hn::Mul(exponential(hn::Sub(load(logits + j, lanes), maximum)), factor);
  };
  std::int64_t done = 0;
  for (; done + 2 * kLanes <= width; done += 2 * kLanes) {
    store_two(gradient(done, AllLanes{}), gradient(done + kLanes, AllLanes{}), dlogits + done);
  }
  for_each_vector(width - done, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
    store(gradient(done + j, lanes), dlogits + done + j, lanes);
  });
  const float at_target = static_cast<float>(static_cast<double>(weight) * std::expm1(log_p));
  if constexpr (std::is_same_v<T, float>) {
    dlogits[target] = at_target;
  } else {
    dlogits[target] = kernels::to_bf16(at_target);
  }
}

void cross_entropy(const kernels::CrossEntropy& kernel, const LaunchContext& context) {
  check_is_f32(kernel.kName, kernel.logits);
  const auto targets = checked_targets(kernel);
  const auto logits = rows_of<const float>(kernel.logits);
  const float* const weights = static_cast<const float*>(kernel.weights.data);
  float* const log_probability = static_cast<float*>(kernel.log_probability.data);
  with_element_type(kernel.kName, kernel.dlogits.dtype, [&]<typename T>(T) HWY_ATTR {
    const auto dlogits = rows_of<T>(kernel.dlogits);
    for_each_row(context.threads, logits.rows, work_of_row(logits.width), [&](std::int64_t i) HWY_ATTR {
      const std::int32_t target = targets[static_cast<std::size_t>(i)];
      if (target == kernels::kIgnoredTarget) {
        log_probability[i] = 0.0f;
        std::memset(dlogits[i], 0, static_cast<std::size_t>(logits.width) * sizeof(T));
      } else {
        cross_entropy_row(logits[i], logits.width, logits.stride, target, weights[i], log_probability[i], dlogits[i]);
      }
    });
  });
}

constexpr std::int64_t kTermsPerSum = 4096;

void weighted_sum(const kernels::WeightedSum& kernel, const LaunchContext& context) {
  check_is_f32(kernel.kName, kernel.x);
  const std::int64_t count = kernel.x.size(0), blocks = blocks_of(count, kTermsPerSum);
  double* const partial_sums = reinterpret_cast<double*>(context.workspace);
  base::parallel_for(context.threads, blocks, [&](std::int64_t block) HWY_ATTR {
    const std::int64_t begin = block * kTermsPerSum;
    const float* const x = static_cast<const float*>(kernel.x.data) + begin;
    const float* const weights = static_cast<const float*>(kernel.weights.data) + begin;
    partial_sums[block] =
        static_cast<double>(sum_of(fold_vectors(std::min(kTermsPerSum, count - begin), hn::Zero(Tag()),
                                                [&](Vector sum, std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
                                                  return hn::MulAdd(load(weights + i, lanes), load(x + i, lanes), sum);
                                                })));
  });
  double total = 0;
  for (std::int64_t block = 0; block < blocks; ++block) {
    total += partial_sums[block];
  }
  float& sum = *static_cast<float*>(kernel.sum.data);
  sum = static_cast<float>(static_cast<double>(sum) + static_cast<double>(kernel.factor) * total);
}

void add_kernels(KernelTable& table) {
  table.set<kernels::LogProbability>(log_probability);
  table.set<kernels::CrossEntropy>(cross_entropy);
  table.set<kernels::WeightedSum>(weighted_sum, [](const kernels::WeightedSum& kernel, int) {
    return static_cast<std::size_t>(blocks_of(kernel.x.size(0), kTermsPerSum)) * sizeof(double);
  });
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_loss_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table) : N_AVX3::add_kernels(table);
}

}  // namespace flyover::devices::cpu
#endif
