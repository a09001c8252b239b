#include "devices/reference/families.h"
#include "devices/reference/softmax.h"

namespace flyover::devices::reference {
namespace {

/// targets[row]: a token or kIgnoredTarget. Throws InternalError for anything else.
template <typename Kernel>
std::int32_t target_at(const Kernel& kernel, std::int64_t row) {
  const std::int32_t target = integers(kernel.targets)[static_cast<std::size_t>(row)];
  base::check(target == kernels::kIgnoredTarget || (target >= 0 && target < kernel.logits.size(1)),
              "{}: target {} in row {} of a vocabulary of {}", Kernel::kName, target, row, kernel.logits.size(1));
  return target;
}

void log_probability(const kernels::LogProbability& kernel, const LaunchContext&) {
  const Output log_probability(kernel.log_probability);
  for (std::int64_t i = 0; i < kernel.logits.size(0); ++i) {
    const std::int32_t target = target_at(kernel, i);
    if (target == kernels::kIgnoredTarget) {
      log_probability(i) = 0.0;
    } else {
      log_probability(i) =
          log_softmax(kernel.logits, i, static_cast<double>(kernel.temperature))[static_cast<std::size_t>(target)];
    }
  }
}

void cross_entropy(const kernels::CrossEntropy& kernel, const LaunchContext&) {
  const Input weights(kernel.weights);
  const Output log_probability(kernel.log_probability), dlogits(kernel.dlogits);
  const std::int64_t rows = kernel.logits.size(0), vocabulary = kernel.logits.size(1);
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int32_t target = target_at(kernel, i);
    if (target == kernels::kIgnoredTarget) {
      log_probability(i) = 0.0;
      for (std::int64_t j = 0; j < vocabulary; ++j) {
        dlogits(i, j) = 0.0;
      }
      continue;
    }
    const std::vector<double> log_p = log_softmax(kernel.logits, i, 1.0);
    log_probability(i) = log_p[static_cast<std::size_t>(target)];
    for (std::int64_t j = 0; j < vocabulary; ++j) {
      dlogits(i, j) = weights(i) * (std::exp(log_p[static_cast<std::size_t>(j)]) - (j == target ? 1.0 : 0.0));
    }
  }
}

void weighted_sum(const kernels::WeightedSum& kernel, const LaunchContext&) {
  const Input x(kernel.x), weights(kernel.weights);
  const Output sum(kernel.sum);
  double products = 0;
  for (std::int64_t i = 0; i < kernel.x.size(0); ++i) {
    products += weights(i) * x(i);
  }
  sum(0) += static_cast<double>(kernel.factor) * products;
}

}  // namespace

void add_loss_kernels(KernelTable& table) {
  table.set<kernels::LogProbability>(log_probability);
  table.set<kernels::CrossEntropy>(cross_entropy);
  table.set<kernels::WeightedSum>(weighted_sum);
}

}  // namespace flyover::devices::reference
