// The compressor on the vector units: what its contract promises about bits and about bad rows. Its values are held to
// the reference by the conformance test.
#include <cmath>

#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/vector/test_tensor.h"

namespace flyover::devices::cpu::test {
namespace {

TestTensor table(std::int64_t entries, std::int64_t slots, const std::function<std::int64_t(std::int64_t)>& row) {
  TestTensor rows(DType::kI32, {entries, slots});
  for (std::int64_t i = 0; i < rows.size(); ++i) {
    rows.set(i, static_cast<double>(row(i)));
  }
  return rows;
}

TEST(Compressor, EntryHasTheSameBitsAloneAndAmongOthers) {
  constexpr std::int64_t kEntries = 40, kWindow = 11, kWidth = 70, kEntry = 23;
  TestTensor values(DType::kF32, {kEntries * kWindow, 2 * kWidth}, 3), gates(values), bias(DType::kF32, {11, 140});
  TestTensor dy(DType::kBf16, {kEntries, kWidth});
  values.randomise(1), gates.randomise(2, 3.0), bias.randomise(3), dy.randomise(4);
  const TestTensor rows = table(kEntries, 2 * kWindow, [](std::int64_t i) {
    const std::int64_t entry = i / (2 * kWindow), slot = i % (2 * kWindow);
    return slot < kWindow ? (entry - 1) * kWindow + slot : entry * kWindow + slot - kWindow;
  });
  const ConstView row = kernels::slice_rows(ConstView(rows), kEntry, 1);
  for_each_configuration([&](const Configuration& configuration) {
    const TestTensor y(DType::kBf16, {kEntries, kWidth}), its_y(DType::kBf16, {1, kWidth});
    configuration.run(kernels::CompressForward{values, gates, bias, rows, y});
    configuration.run(kernels::CompressForward{values, gates, bias, row, its_y});
    for (std::int64_t i = 0; i < kWidth; ++i) {
      EXPECT_EQ(its_y[i], y[kEntry * kWidth + i]);
    }
    const TestTensor dvalues(values), dgates(values), its_dvalues(values), its_dgates(values);
    const ConstView its_dy = kernels::slice_rows(ConstView(dy), kEntry, 1);
    configuration.run(kernels::CompressBackward{values, gates, bias, rows, dy, dvalues, dgates});
    configuration.run(kernels::CompressBackward{values, gates, bias, row, its_dy, its_dvalues, its_dgates});
    for (std::int64_t i = 0; i < dvalues.size(); ++i) {
      const std::int64_t window = i / (2 * kWidth) / kWindow, role = i % (2 * kWidth) / kWidth;
      const bool its = window == kEntry - 1 + role;
      EXPECT_EQ(its_dvalues[i], its ? dvalues[i] : 0.0) << i;
      EXPECT_EQ(its_dgates[i], its ? dgates[i] : 0.0) << i;
    }
    return y.contents() + dvalues.contents() + dgates.contents();
  });
}

TEST(Compressor, GatesFarApartNeitherOverflowNorVanish) {
  // The largest gate comes last, 17 slots of one channel: its value alone is left. Equal gates beyond the range of the
  // exponential: the mean.
  TestTensor values(DType::kF32, {17, 1}), rising(DType::kF32, {17, 1}), equal(DType::kF32, {17, 1});
  for (std::int64_t i = 0; i < 17; ++i) {
    values.set(i, static_cast<double>(i));
    rising.set(i, 1e4 * static_cast<double>(i) - 8e4);
    equal.set(i, -1e6);
  }
  const TestTensor bias(DType::kF32, {17, 1}), rows = table(1, 17, [](std::int64_t i) { return i; });
  for_each_configuration([&](const Configuration& configuration) {
    const TestTensor last(DType::kF32, {1, 1}), mean(DType::kF32, {1, 1});
    configuration.run(kernels::CompressForward{values, rising, bias, rows, last});
    configuration.run(kernels::CompressForward{values, equal, bias, rows, mean});
    EXPECT_EQ(last[0], 16.0);
    EXPECT_NEAR(mean[0], 8.0, 1e-5);
    return last.contents() + mean.contents();
  });
}

TEST(Compressor, RowsThatDoNotExistOrAreTakenAreABug) {
  const TestTensor tokens(DType::kF32, {2, 1}), bias(DType::kF32, {2, 1}), y(DType::kF32, {2, 1});
  const TestTensor dvalues(tokens), dgates(tokens);
  const auto rows = [](std::vector<std::int64_t> numbers) {
    return table(2, 2, [numbers](std::int64_t i) { return numbers[static_cast<std::size_t>(i)]; });
  };
  const Configuration configuration{available_instruction_sets().back(), 2};
  EXPECT_NO_THROW(configuration.run(kernels::CompressForward{tokens, tokens, bias, rows({1, -1, 0, -7}), y}));
  EXPECT_THROW(configuration.run(kernels::CompressForward{tokens, tokens, bias, rows({1, -1, 0, 2}), y}),
               base::InternalError);
  EXPECT_THROW(configuration.run(kernels::CompressForward{tokens, tokens, bias, rows({1, 0, -1, -1}), y}),
               base::InternalError);
  EXPECT_THROW(configuration.run(kernels::CompressPositionGradient{tokens, rows({1, 0, 2, 0}), bias}),
               base::InternalError);
  EXPECT_THROW(
      configuration.run(kernels::CompressBackward{tokens, tokens, bias, rows({1, -1, 0, 1}), y, dvalues, dgates}),
      base::InternalError);
}

}  // namespace
}  // namespace flyover::devices::cpu::test
