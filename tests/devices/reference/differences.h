// Central differences, for gradients of the reference in f64.
#pragma once

#include <cmath>
#include <functional>
#include <limits>

#include "devices/support/operands.h"

namespace flyover::tests {

/// The sum of the products of two views' elements.
inline double inner_product(const kernels::ConstView& a, const kernels::ConstView& b) {
  double sum = 0;
  for (std::int64_t i = 0; i < a.elements(); ++i) {
    sum += element(a, i) * element(b, i);
  }
  return sum;
}

/// || gradient - central differences of `loss` in the elements of x || relative to the norm of the differences, which
/// must not be 0 (the result is infinite). x keeps its values.
inline double difference_error(const kernels::View& x, const std::function<double()>& loss,
                               const kernels::ConstView& gradient) {
  constexpr double kStep = 1e-4;
  double error = 0, norm = 0;
  for (std::int64_t i = 0; i < x.elements(); ++i) {
    const double value = element(x, i);
    const auto loss_at = [&](double moved) {
      set_element(x, i, moved);
      return loss();
    };
    // Four points: the error of the differences is of fourth order in the step.
    const double difference = (8.0 * (loss_at(value + kStep) - loss_at(value - kStep)) -
                               (loss_at(value + 2.0 * kStep) - loss_at(value - 2.0 * kStep))) /
                              (12.0 * kStep);
    set_element(x, i, value);
    error += std::pow(element(gradient, i) - difference, 2);
    norm += difference * difference;
  }
  return norm > 0 ? std::sqrt(error / norm) : std::numeric_limits<double>::infinity();
}

}  // namespace flyover::tests
