#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "devices/vector/test_tensor.h"

namespace flyover::devices::cpu::test {
namespace {

struct Case {
  std::int64_t table_rows, count, width, gap;
};

std::vector<Case> cases() {
  return {{5, 0, 3, 0}, {1, 4, 1, 0}, {7, 20, 0, 0}, {9, 30, 17, 2}, {40, 500, 130, 1}, {300, 90, 577, 0}};
}

TestTensor random_rows(const Case& c) {
  TestTensor rows(DType::kI32, {c.count});
  const base::Random random(3, base::RandomPurpose::kTest);
  for (std::int64_t i = 0; i < c.count; ++i) {
    rows.set(
        i, static_cast<double>(random.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(c.table_rows))));
  }
  return rows;
}

TEST(GatherRows, CopiesTheNamedRows) {
  for (const Case& c : cases()) {
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kI32, DType::kI64, DType::kU8}) {
      TestTensor table(dtype, {c.table_rows, c.width}, c.gap);
      for (std::int64_t i = 0; i < table.size(); ++i) {
        table.set(i, static_cast<double>(i % 251));
      }
      const TestTensor rows = random_rows(c);
      for_each_configuration([&](const Configuration& configuration) {
        const TestTensor y(dtype, {c.count, c.width}, 2 * c.gap);
        configuration.run(kernels::GatherRows{table, rows, y});
        for (std::int64_t i = 0; i < y.size(); ++i) {
          EXPECT_EQ(y[i], table[static_cast<std::int64_t>(rows[i / c.width]) * c.width + i % c.width]);
        }
        return y.contents();
      });
    }
  }
}

TEST(ScatterRows, WritesTheNamedRowsAndNoOther) {
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kU8}) {
    constexpr std::int64_t kTableRows = 501, kCount = 400, kWidth = 131;
    const base::Permutation order(base::Random(3, base::RandomPurpose::kTest), kTableRows);
    TestTensor x(dtype, {kCount, kWidth}, 1), rows(DType::kI32, {kCount}), table(dtype, {kTableRows, kWidth}, 3);
    std::vector<double> expected(static_cast<std::size_t>(table.size()), 7.0);
    for (std::int64_t i = 0; i < table.size(); ++i) {
      table.set(i, 7.0);
    }
    for (std::int64_t i = 0; i < kCount; ++i) {
      const auto row = static_cast<std::int64_t>(order(static_cast<std::uint64_t>(i)));
      rows.set(i, static_cast<double>(row));
      for (std::int64_t j = 0; j < kWidth; ++j) {
        x.set(i * kWidth + j, static_cast<double>((i + j) % 199));
        expected[static_cast<std::size_t>(row * kWidth + j)] = static_cast<double>((i + j) % 199);
      }
    }
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor written(table);
      configuration.run(kernels::ScatterRows{x, rows, written});
      for (std::int64_t i = 0; i < written.size(); ++i) {
        EXPECT_EQ(written[i], expected[static_cast<std::size_t>(i)]);
      }
      return written.contents();
    });
  }
}

TEST(ScatterAddRows, AddsInIncreasingOrderInF32) {
  for (const Case& c : cases()) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      TestTensor x(dtype, {c.count, c.width}, c.gap), table(DType::kF32, {c.table_rows, c.width}, c.gap);
      x.randomise(1);
      table.randomise(2);
      const TestTensor rows = random_rows(c);
      std::vector<float> expected;
      for (std::int64_t i = 0; i < table.size(); ++i) {
        expected.push_back(static_cast<float>(table[i]));
      }
      for (std::int64_t i = 0; i < x.size(); ++i) {
        const auto at = static_cast<std::int64_t>(rows[i / c.width]) * c.width + i % c.width;
        expected[static_cast<std::size_t>(at)] += static_cast<float>(x[i]);
      }
      for_each_configuration([&](const Configuration& configuration) {
        const TestTensor sum(table);
        configuration.run(kernels::ScatterAddRows{x, rows, sum});
        for (std::int64_t i = 0; i < sum.size(); ++i) {
          EXPECT_EQ(sum[i], static_cast<double>(expected[static_cast<std::size_t>(i)]));
        }
        return sum.contents();
      });
    }
  }
}

TEST(Rows, AnIndexOutsideTheTableIsRefusedBeforeAnythingIsWritten) {
  for (const double bad : {-1.0, 6.0, 2147483647.0}) {
    TestTensor table(DType::kF32, {6, 4}), x(DType::kF32, {3, 4}), rows(DType::kI32, {3});
    x.randomise(1);
    rows.set(1, 5);
    rows.set(2, bad);
    for (const InstructionSet set : available_instruction_sets()) {
      const Configuration configuration{set, 2};
      const TestTensor y(DType::kF32, {3, 4});
      EXPECT_THROW(configuration.run(kernels::GatherRows{table, rows, y}), base::InternalError);
      EXPECT_THROW(configuration.run(kernels::ScatterRows{x, rows, table}), base::InternalError);
      EXPECT_THROW(configuration.run(kernels::ScatterAddRows{x, rows, table}), base::InternalError);
      for (std::int64_t i = 0; i < table.size(); ++i) {
        EXPECT_EQ(table[i], 0.0);
      }
    }
  }
}

}  // namespace
}  // namespace flyover::devices::cpu::test
