// Tiny tensors with given numbers, for tests whose answers are worked out by hand.
#pragma once

#include <cmath>
#include <initializer_list>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/reference/families.h"
#include "devices/support/operands.h"

namespace flyover::tests {

/// Launches a kernel of the reference device.
template <typename Kernel>
void run(const Kernel& kernel) {
  static const devices::KernelTable table = devices::reference::kernel_table();
  kernel.check();
  table[kernels::kernel_id<Kernel>](&kernel, {});
}

/// Tests that hold for every floating type: `dtype()` for activations, `wide()` for statistics and logits.
class KnownAnswer : public testing::TestWithParam<kernels::DType> {
 protected:
  static kernels::DType dtype() { return GetParam(); }
  static kernels::DType wide() { return kernels::statistics_dtype(GetParam()); }

  /// A dense tensor that holds these numbers.
  kernels::View values(kernels::DType type, const kernels::Dims& shape, std::initializer_list<double> numbers) {
    const kernels::View view = make_.blank(type, shape);
    EXPECT_EQ(view.elements(), static_cast<std::int64_t>(numbers.size()));
    std::int64_t i = 0;
    for (const double number : numbers) {
      set_element(view, i++, number);
    }
    return view;
  }
  kernels::View values(const kernels::Dims& shape, std::initializer_list<double> numbers) {
    return values(dtype(), shape, numbers);
  }
  kernels::View integers(std::initializer_list<double> numbers) {
    return values(kernels::DType::kI32, {static_cast<std::int64_t>(numbers.size())}, numbers);
  }
  kernels::View blank(kernels::DType type, const kernels::Dims& shape) { return make_.blank(type, shape); }
  kernels::View blank(const kernels::Dims& shape) { return blank(dtype(), shape); }

  /// Equal up to the rounding of the view's type.
  static void expect_values(const kernels::ConstView& view, std::initializer_list<double> expected) {
    ASSERT_EQ(view.elements(), static_cast<std::int64_t>(expected.size()));
    const double tolerance = view.dtype == kernels::DType::kBf16  ? 0x1p-7
                             : view.dtype == kernels::DType::kF32 ? 4e-7
                                                                  : 1e-14;
    std::int64_t i = 0;
    for (const double value : expected) {
      EXPECT_NEAR(element(view, i), value, tolerance * std::max(1.0, std::fabs(value))) << "element " << i;
      ++i;
    }
  }

  OperandMaker make_{1, 5};
};

struct DTypeName {
  std::string operator()(const testing::TestParamInfo<kernels::DType>& info) const {
    return std::string(kernels::name_of(info.param));
  }
};

}  // namespace flyover::tests
