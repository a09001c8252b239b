// What tests of gradients share that have f64 operands of the reference device.
#pragma once

#include <gtest/gtest.h>

#include "devices/reference/differences.h"
#include "devices/reference/values.h"

namespace flyover::tests {

/// What || gradient - differences || may be, relative to || differences ||.
inline constexpr double kGradientTolerance = 1e-7;

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
