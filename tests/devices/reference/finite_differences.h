// Gradients against central differences, in f64 on the reference device.
#pragma once

#include <cmath>
#include <functional>

#include <gtest/gtest.h>

#include "devices/reference/values.h"

namespace flyover::tests {

/// What || gradient - differences || may be, relative to || differences ||.
inline constexpr double kGradientTolerance = 1e-7;

inline double dot(const kernels::ConstView& a, const kernels::ConstView& b) {
  double sum = 0;
  for (std::int64_t i = 0; i < a.elements(); ++i) {
    sum += element(a, i) * element(b, i);
  }
  return sum;
}

/// || gradient - central differences of `loss` in the elements of x || relative to the norm of the differences.
inline double gradient_error(const kernels::View& x, const std::function<double()>& loss,
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
  EXPECT_GT(norm, 0.0);
  return std::sqrt(error / norm);
}

/// Makes f64 operands.
class Gradient : public testing::Test {
 protected:
  kernels::View random(const kernels::Dims& shape) { return make_.random(kernels::DType::kF64, shape, Layout::kGaps); }
  kernels::View dense(const kernels::Dims& shape) { return make_.random(kernels::DType::kF64, shape); }
  kernels::View blank(const kernels::Dims& shape) { return make_.blank(kernels::DType::kF64, shape); }
  kernels::View zeros(const kernels::Dims& shape) { return make_.uniform(kernels::DType::kF64, shape, 0.0, 0.0); }
  kernels::View integers(std::initializer_list<double> values) {
    const kernels::View view = make_.blank(kernels::DType::kI32, {static_cast<std::int64_t>(values.size())});
    std::int64_t i = 0;
    for (const double value : values) {
      set_element(view, i++, value);
    }
    return view;
  }

  OperandMaker make_{11, 5};
};

}  // namespace flyover::tests
