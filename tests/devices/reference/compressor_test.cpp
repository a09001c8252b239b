// The compressor on the reference device: gradients against central differences, and answers known beforehand.
#include "devices/reference/finite_differences.h"

namespace flyover::tests {
namespace {

using kernels::DType;
using kernels::View;

class CompressorGradient : public Gradient {
 protected:
  View table(std::int64_t entries, std::int64_t slots, std::initializer_list<double> numbers) {
    const View view = integers(numbers);
    return {view.data, DType::kI32, {entries, slots}, kernels::dense_strides({entries, slots})};
  }
  /// Of values, gates and position bias.
  void expect_gradients(std::int64_t tokens, std::int64_t window, std::int64_t roles, const View& rows) {
    const std::int64_t width = 3, total = roles * width, entries = rows.size(0);
    const View values = random({tokens, total}), gates = random({tokens, total}), bias = dense({window, total});
    const View y = random({entries, width}), dy = random({entries, width});
    const auto loss = [&] {
      run(kernels::CompressForward{values, gates, bias, rows, y});
      return inner_product(y, dy);
    };
    const View dvalues = random({tokens, total}), dgates = random({tokens, total}), dbias = zeros({window, total});
    run(kernels::CompressBackward{values, gates, bias, rows, dy, dvalues, dgates});
    run(kernels::CompressPositionGradient{dgates, rows, dbias});
    EXPECT_LT(difference_error(values, loss, dvalues), kGradientTolerance);
    EXPECT_LT(difference_error(gates, loss, dgates), kGradientTolerance);
    EXPECT_LT(difference_error(bias, loss, dbias), kGradientTolerance);
  }
};

TEST_F(CompressorGradient, OfSeparateWindows) {
  // Tokens 3 and 7 are in no window, and a slot of the second is empty.
  expect_gradients(8, 3, 1, table(2, 3, {0, 1, 2, 4, -1, 6}));
}

TEST_F(CompressorGradient, OfOverlappingWindows) {
  // Two documents, the second from token 4: its first entry has no window before it.
  expect_gradients(9, 2, 2, table(4, 4, {-1, -1, 0, 1, 0, 1, 2, 3, -1, -1, 5, 4, 5, 4, 6, 7}));
}

class Compressor : public KnownAnswer {};
INSTANTIATE_TEST_SUITE_P(Types, Compressor, testing::Values(DType::kF32, DType::kBf16, DType::kF64), DTypeName());

TEST_P(Compressor, WeighsEachChannelByItself) {
  // Channel 0: gates with bias 0 and log 3, weights 1/4 and 3/4. Channel 1: equal gates.
  const double log3 = std::log(3.0);
  const View values_ = values(wide(), {2, 2}, {4, 10, 8, 20}), gates = values(wide(), {2, 2}, {1, 5, 0, 5});
  const View bias = values(wide(), {2, 2}, {-1, 0, log3, 0}), y = blank({1, 2});
  const View rows = values(DType::kI32, {1, 2}, {0, 1});
  run(kernels::CompressForward{values_, gates, bias, rows, y});
  expect_values(y, {7, 15});
  // dgate = a (v - u) dy.
  const View dy = values({1, 2}, {1, 2}), dvalues = blank(wide(), {2, 2}), dgates = blank(wide(), {2, 2});
  run(kernels::CompressBackward{values_, gates, bias, rows, dy, dvalues, dgates});
  for (const auto& [view, expected] :
       {std::pair(dvalues, std::array{0.25, 1.0, 0.75, 1.0}), std::pair(dgates, std::array{-0.75, -5.0, 0.75, 5.0})}) {
    for (std::int64_t i = 0; i < 4; ++i) {
      EXPECT_NEAR(element(view, i), expected[static_cast<std::size_t>(i)], 2e-6);
    }
  }
}

TEST_P(Compressor, ReadsTheWindowBeforeInItsFirstRoleAndTheOwnInItsSecond) {
  // One token a window; equal gates, so that an entry is the mean of its slots.
  const View values_ = values(wide(), {2, 2}, {1, 10, 2, 20}), zero = values(wide(), {2, 2}, {0, 0, 0, 0});
  const View bias = values(wide(), {1, 2}, {0, 0}), y = blank({2, 1});
  run(kernels::CompressForward{values_, zero, bias, values(DType::kI32, {2, 2}, {-1, 0, 0, 1}), y});
  expect_values(y, {10, (1 + 20) / 2.0});
}

TEST_P(Compressor, PositionGradientAddsUpTheEntriesOfAPosition) {
  const View dgates = values(wide(), {4, 2}, {1, 2, 10, 20, 100, 200, 1000, 2000});
  const View dbias = values(wide(), {1, 2}, {0.5, 0.25});
  run(kernels::CompressPositionGradient{dgates, values(DType::kI32, {3, 2}, {-1, 0, 0, 1, 1, 3}), dbias});
  expect_values(dbias, {0.5 + 1 + 10, 0.25 + 2 + 20 + 2000});
}

TEST_P(Compressor, TokensOfNoEntryHaveNoGradient) {
  const View values_ = values(wide(), {3, 1}, {1, 2, 3}), bias = values(wide(), {1, 1}, {0});
  const View dvalues = values(wide(), {3, 1}, {7, 7, 7}), dgates = values(wide(), {3, 1}, {7, 7, 7});
  run(kernels::CompressBackward{values_, values_, bias, values(DType::kI32, {1, 1}, {1}), values({1, 1}, {5}), dvalues,
                                dgates});
  expect_values(dvalues, {0, 5, 0});
  expect_values(dgates, {0, 0, 0});
}

TEST_P(Compressor, RowsThatDoNotExistOrAreTakenAreABug) {
  const View tokens = values(wide(), {2, 1}, {1, 2}), bias = values(wide(), {2, 1}, {0, 0}), y = blank({1, 1});
  const View two = values({2, 1}, {1, 2});
  const auto forward = [&](std::initializer_list<double> rows) {
    run(kernels::CompressForward{tokens, tokens, bias, values(DType::kI32, {1, 2}, rows), y});
  };
  EXPECT_NO_THROW(forward({1, -1}));
  EXPECT_THROW(forward({0, 2}), base::InternalError);
  EXPECT_THROW(forward({-1, -1}), base::InternalError);
  const View dvalues = blank(wide(), {2, 1}), dgates = blank(wide(), {2, 1});
  EXPECT_THROW(run(kernels::CompressBackward{tokens, tokens, bias, values(DType::kI32, {2, 2}, {0, -1, 1, 0}), two,
                                             dvalues, dgates}),
               base::InternalError);
}

}  // namespace
}  // namespace flyover::tests
