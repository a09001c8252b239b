#include <algorithm>
#include <numeric>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "devices/vector/test_tensor.h"

namespace flyover::devices::cpu::test {
namespace {

TEST(ExpertSort, EqualsAStableSortOfManyBlocks) {
  constexpr std::int64_t kTokens = 5000, kChoices = 6, kExperts = 37, kPairs = kTokens * kChoices;
  const base::Random random(5, base::RandomPurpose::kTest);
  TestTensor experts(DType::kI32, {kTokens, kChoices});
  std::vector<std::int64_t> sorted(kPairs);
  std::iota(sorted.begin(), sorted.end(), 0);
  for (std::int64_t pair = 0; pair < kPairs; ++pair) {
    // Expert 36 is nobody's choice, expert 3 that of many.
    const auto expert = random.below(static_cast<std::uint64_t>(pair), 72);
    experts.set(pair, expert < 36 ? static_cast<double>(expert) : 3.0);
  }
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](std::int64_t one, std::int64_t other) { return experts[one] < experts[other]; });
  for_each_configuration([&](const Configuration& configuration) {
    const TestTensor offsets(DType::kI32, {kExperts + 1}), pair_of_row(DType::kI32, {kPairs}),
        token_of_row(DType::kI32, {kPairs}), row_of_pair(DType::kI32, {kTokens, kChoices}),
        load(DType::kF32, {kExperts});
    configuration.run(kernels::ExpertSort{experts, offsets, pair_of_row, token_of_row, row_of_pair, load.view()});
    for (std::int64_t row = 0; row < kPairs; ++row) {
      const std::int64_t pair = sorted[static_cast<std::size_t>(row)];
      const auto expert = static_cast<std::int64_t>(experts[pair]);
      EXPECT_EQ(pair_of_row[row], static_cast<double>(pair));
      EXPECT_EQ(token_of_row[row], static_cast<double>(pair / kChoices));
      EXPECT_EQ(row_of_pair[pair], static_cast<double>(row));
      EXPECT_TRUE(offsets[expert] <= static_cast<double>(row) && static_cast<double>(row) < offsets[expert + 1]);
    }
    EXPECT_EQ(load[36], 0.0);
    EXPECT_EQ(offsets[37], static_cast<double>(kPairs));
    return offsets.contents() + pair_of_row.contents() + token_of_row.contents() + row_of_pair.contents() +
           load.contents();
  });
}

TEST(ExpertSort, ExpertsThatAreNoneAreABug) {
  const TestTensor offsets(DType::kI32, {5}), rows(DType::kI32, {2}), pairs(DType::kI32, {2, 1});
  for (const double wrong : {-1.0, 4.0}) {
    TestTensor experts(DType::kI32, {2, 1});
    experts.set(1, wrong);
    for_each_configuration([&](const Configuration& configuration) {
      EXPECT_THROW(configuration.run(kernels::ExpertSort{experts, offsets, rows, rows, pairs, std::nullopt}),
                   base::InternalError);
      return experts.contents();
    });
  }
}

TEST(GatherSum, AddsInTheOrderOfTheTermsAndRoundsOnce) {
  // In f32 (1e8 + 1) - 1e8 is 0 and (1e8 - 1e8) + 1 is 1; in bf16 sums of 256 + 1 + 1 must not round to 256 on the way.
  TestTensor x(DType::kF32, {3, 100});
  TestTensor narrow(DType::kBf16, {2, 100});
  for (std::int64_t j = 0; j < 100; ++j) {
    x.set(j, 1e8);
    x.set(100 + j, 1.0);
    x.set(200 + j, -1e8);
    narrow.set(j, 256.0);
    narrow.set(100 + j, 1.0);
  }
  TestTensor rows(DType::kI32, {2, 3}), narrow_rows(DType::kI32, {1, 3});
  const double order[] = {0, 1, 2, 0, 2, 1};
  for (std::int64_t i = 0; i < 6; ++i) {
    rows.set(i, order[i]);
  }
  narrow_rows.set(1, 1);
  narrow_rows.set(2, 1);
  for_each_configuration([&](const Configuration& configuration) {
    const TestTensor y(DType::kF32, {2, 100}), narrow_y(DType::kBf16, {1, 100});
    configuration.run(kernels::GatherSum{x, rows, y, false});
    configuration.run(kernels::GatherSum{narrow, narrow_rows, narrow_y, false});
    for (std::int64_t j = 0; j < 100; ++j) {
      EXPECT_EQ(y[j], 0.0);
      EXPECT_EQ(y[100 + j], 1.0);
      EXPECT_EQ(narrow_y[j], 258.0);
    }
    return y.contents() + narrow_y.contents();
  });
}

TEST(GatherSum, RowHasTheSameBitsAloneAndInABatch) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    TestTensor x(dtype, {30, 333}, 3), rows(DType::kI32, {50, 5});
    x.randomise(1);
    for (std::int64_t i = 0; i < rows.size(); ++i) {
      rows.set(i, static_cast<double>(i * 7 % 30));
    }
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor y(dtype, {50, 333}), alone(dtype, {1, 333});
      configuration.run(kernels::GatherSum{x, rows, y, false});
      configuration.run(kernels::GatherSum{x, kernels::slice_rows(ConstView(rows), 41, 1), alone, false});
      for (std::int64_t j = 0; j < 333; ++j) {
        EXPECT_EQ(alone[j], y[41 * 333 + j]);
      }
      return y.contents();
    });
  }
}

TEST(GatherSum, RowsThatAreNoneAreABug) {
  const TestTensor x(DType::kF32, {3, 4}), y(DType::kF32, {1, 4});
  for (const double wrong : {-1.0, 3.0}) {
    TestTensor rows(DType::kI32, {1, 2});
    rows.set(1, wrong);
    for_each_configuration([&](const Configuration& configuration) {
      EXPECT_THROW(configuration.run(kernels::GatherSum{x, rows, y, false}), base::InternalError);
      return y.contents();
    });
  }
}

}  // namespace
}  // namespace flyover::devices::cpu::test
