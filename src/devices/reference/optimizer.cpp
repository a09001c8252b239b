#include <algorithm>

#include "devices/reference/element.h"
#include "devices/reference/families.h"

namespace flyover::devices::reference {
namespace {

void adamw(const kernels::AdamW& kernel, const LaunchContext&) {
  const Input gradient(kernel.gradient), gradient_scale(kernel.gradient_scale);
  const Output weight(kernel.weight), first_moment(kernel.first_moment), second_moment(kernel.second_moment);
  const double beta1 = kernel.beta1, beta2 = kernel.beta2, epsilon = kernel.epsilon;
  for (std::int64_t i = 0; i < kernel.gradient.size(0); ++i) {
    const double g = gradient(i) * gradient_scale(0);
    const double m = beta1 * first_moment(i) + (1.0 - beta1) * g;
    const double v = beta2 * second_moment(i) + (1.0 - beta2) * g * g;
    const double step = m / kernel.correction1 / (std::sqrt(v / kernel.correction2) + epsilon);
    first_moment(i) = m;
    second_moment(i) = v;
    weight(i) = weight(i) - kernel.learning_rate * (step + kernel.weight_decay * weight(i));
    if (kernel.parameter.has_value()) {
      Output (*kernel.parameter)(i) = weight(i);
    }
  }
}

void sum_of_squares(const kernels::SumOfSquares& kernel, const LaunchContext&) {
  const Input x(kernel.x);
  double sum = 0;
  for (std::int64_t i = 0; i < kernel.x.size(0); ++i) {
    sum += x(i) * x(i);
  }
  Output(kernel.sum)(0) = sum;
}

void clip_coefficient(const kernels::ClipCoefficient& kernel, const LaunchContext&) {
  const Input sums_of_squares(kernel.sums_of_squares);
  double sum = 0;
  for (std::int64_t i = 0; i < kernel.sums_of_squares.size(0); ++i) {
    sum += sums_of_squares(i);
  }
  const double norm = std::sqrt(sum);
  const bool clips = kernel.max_norm > 0.0f;
  Output(kernel.norm)(0) = norm;
  Output(kernel.coefficient)(0) = clips ? std::min(1.0, static_cast<double>(kernel.max_norm) / norm) : 1.0;
}

void find_non_finite(const kernels::FindNonFinite& kernel, const LaunchContext&) {
  const Input x(kernel.x);
  std::int64_t index = -1;
  for (std::int64_t i = 0; i < kernel.x.size(0) && index == -1; ++i) {
    if (!std::isfinite(x(i))) {
      index = i;
    }
  }
  store(address_of(kernel.index, 0), index);
}

}  // namespace

void add_optimizer_kernels(KernelTable& table) {
  table.set<kernels::AdamW>(adamw);
  table.set<kernels::SumOfSquares>(sum_of_squares);
  table.set<kernels::ClipCoefficient>(clip_coefficient);
  table.set<kernels::FindNonFinite>(find_non_finite);
}

}  // namespace flyover::devices::reference
