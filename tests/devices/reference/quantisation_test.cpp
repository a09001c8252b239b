// Rounding to FP4 and the Hadamard transform against numbers worked out by hand and the definition.
#include <limits>

#include "devices/reference/values.h"

namespace flyover::tests {
namespace {

using kernels::DType;
using kernels::View;

class Quantisation : public KnownAnswer {
 protected:
  /// A block of FP4 that begins with these numbers, then zeros.
  View block(std::initializer_list<double> numbers) {
    const View view = blank({1, kernels::kFp4BlockWidth});
    std::int64_t i = 0;
    for (const double number : numbers) {
      set_element(view, i++, number);
    }
    for (; i < kernels::kFp4BlockWidth; ++i) {
      set_element(view, i, 0.0);
    }
    return view;
  }
  static void expect_block(const View& y, std::initializer_list<double> expected) {
    std::int64_t i = 0;
    for (const double value : expected) {
      EXPECT_EQ(element(y, i), value) << "element " << i;
      EXPECT_EQ(std::signbit(element(y, i)), std::signbit(value)) << "element " << i;
      ++i;
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Types, Quantisation, testing::Values(DType::kF32, DType::kBf16, DType::kF64), DTypeName());

TEST_P(Quantisation, TiesGoToTheEvenCodeAndTheScaleIsThePowerOfTwoAboveASixthOfTheLargest) {
  // amax 6: scale 1. Ties between 0 and 0.5, 0.5 and 1, 1 and 1.5, 1.5 and 2, 2 and 3, 3 and 4, 4 and 6.
  const View x = block({6.0, 0.25, 0.75, 1.25, 1.75, -2.5, 3.5, 5.0, -0.25, 2.625});
  kernels::RoundToFp4 kernel{x, x};
  run(kernel);
  expect_block(x, {6.0, 0.0, 1.0, 1.0, 2.0, -2.0, 4.0, 4.0, -0.0, 3.0, 0.0});
  // amax 6.0625 (a bf16 has it): scale 2, and what was 1 is half a code.
  const View z = block({6.0625, 1.0, -0.5, 0.25}), w = blank({1, kernels::kFp4BlockWidth});
  run(kernels::RoundToFp4{z, w});
  expect_block(w, {6.0, 1.0, -0.0, 0.0});
}

TEST_P(Quantisation, ABlockWithWhatIsNotFiniteIsNanAndItsNeighbourIsNot) {
  const View x = blank({1, 2 * kernels::kFp4BlockWidth});
  for (std::int64_t i = 0; i < x.elements(); ++i) {
    set_element(x, i, i == 3 ? std::numeric_limits<double>::infinity() : 3.0);
  }
  const View y = blank({1, 2 * kernels::kFp4BlockWidth});
  run(kernels::RoundToFp4{x, y});
  for (std::int64_t i = 0; i < kernels::kFp4BlockWidth; ++i) {
    EXPECT_TRUE(std::isnan(element(y, i)));
    EXPECT_EQ(element(y, kernels::kFp4BlockWidth + i), 3.0);
  }
}

TEST_P(Quantisation, HadamardOfFourWorkedOutByHand) {
  const View x = values({1, 4}, {1, 2, 3, -4}), y = blank({1, 4});
  run(kernels::Hadamard{x, y});
  expect_values(y, {1, 3, 2, -4});  // rows ++++, +-+-, ++--, +--+, halved
}

TEST_P(Quantisation, HadamardTwiceIsTheIdentity) {
  const View x = values({1, 8}, {1, -2, 3, 0.5, 0, 4, -1, 2}), y = blank({1, 8});
  run(kernels::Hadamard{x, y});
  double before = 0, after = 0;
  for (std::int64_t i = 0; i < 8; ++i) {
    before += element(x, i) * element(x, i);
    after += element(y, i) * element(y, i);
  }
  EXPECT_NEAR(after / before, 1.0, dtype() == DType::kBf16 ? 0.01 : 1e-6);
  run(kernels::Hadamard{y, y});
  for (std::int64_t i = 0; i < 8; ++i) {
    EXPECT_NEAR(element(y, i), element(x, i), dtype() == DType::kBf16 ? 0.03 : 1e-6);
  }
}

}  // namespace
}  // namespace flyover::tests
