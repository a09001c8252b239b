// The contract of the grouped products (kernels/experts.h) to the bit, against MatMul on each group alone.
#include <optional>
#include <utility>

#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/vector/test_tensor.h"

namespace flyover::devices::cpu::test {
namespace {

/// Offsets of groups of these sizes.
TestTensor offsets_of(const std::vector<std::int64_t>& sizes) {
  TestTensor offsets(DType::kI32, {static_cast<std::int64_t>(sizes.size()) + 1});
  std::int64_t row = 0;
  for (std::size_t group = 0; group < sizes.size(); ++group) {
    row += sizes[group];
    offsets.set(static_cast<std::int64_t>(group) + 1, static_cast<double>(row));
  }
  return offsets;
}

View swap_last_axes(View view) {
  std::swap(view.shape[1], view.shape[2]);
  std::swap(view.strides[1], view.strides[2]);
  return view;
}

View matrix_of(const View& stack, std::int64_t group) {
  auto* const data = static_cast<std::byte*>(stack.data) +
                     static_cast<std::size_t>(group * stack.stride(0)) * kernels::size_of(stack.dtype);
  return {data, stack.dtype, {stack.size(1), stack.size(2)}, {stack.stride(1), stack.stride(2)}};
}

struct Case {
  std::vector<std::int64_t> sizes;  ///< of the groups
  std::int64_t columns, depth;
  bool transposed;  ///< b has its depth along columns of memory
};

// Empty groups, single rows, one group with nearly all rows; depths of one and of several blocks; shapes that are cut
// into several items. Two rows are in no group.
const std::vector<Case>& cases() {
  static const std::vector<Case> all = {{{0, 5, 1, 0, 27, 13, 0}, 40, 33, false},
                                        {{0, 5, 1, 0, 27, 13, 0}, 77, 90, true},
                                        {{1, 1, 1, 1}, 300, 65, true},
                                        {{900, 0, 1}, 70, 17, false},
                                        {{3, 0, 210, 2}, 290, 130, true},
                                        {{14, 9}, 45, 1601, false},
                                        {{2, 31}, 600, 1700, true},
                                        {{0, 0}, 8, 8, false}};
  return all;
}

std::int64_t rows_of(const Case& one) {
  std::int64_t rows = 2;
  for (const std::int64_t size : one.sizes) {
    rows += size;
  }
  return rows;
}

void expect_matmul_bits(const Case& one, DType dtype, DType c_dtype, bool accumulate) {
  const auto groups = static_cast<std::int64_t>(one.sizes.size());
  const std::int64_t rows = rows_of(one), columns = one.columns, depth = one.depth;
  const TestTensor offsets = offsets_of(one.sizes);
  TestTensor a(dtype, {rows, depth}, 3), old_c(c_dtype, {rows, columns}, 1);
  TestTensor stack(dtype, {groups, one.transposed ? depth : columns, one.transposed ? columns : depth}, 5);
  a.randomise(1);
  stack.randomise(2);
  old_c.randomise(3);
  const View b = one.transposed ? swap_last_axes(stack) : stack.view();
  for_each_configuration([&](const Configuration& configuration) {
    const TestTensor c(old_c), expected(old_c);
    configuration.run(kernels::GroupedMatMul{a, b, offsets, c, accumulate});
    std::int64_t first = 0;
    for (std::int64_t group = 0; group < groups; ++group) {
      const std::int64_t count = one.sizes[static_cast<std::size_t>(group)];
      configuration.run(kernels::MatMul{kernels::slice_rows(ConstView(a), first, count), matrix_of(b, group),
                                        kernels::slice_rows(expected.view(), first, count), accumulate});
      first += count;
    }
    EXPECT_TRUE(c.contents() == expected.contents())
        << kernels::to_string(ConstView(a)) << " times " << kernels::to_string(ConstView(b));
    return c.contents();
  });
}

TEST(GroupedMatMul, RowsHaveTheBitsOfMatMulAndOthersAreUntouched) {
  for (const Case& one : cases()) {
    expect_matmul_bits(one, DType::kF32, DType::kF32, false);
    expect_matmul_bits(one, DType::kBf16, DType::kBf16, false);
    expect_matmul_bits(one, DType::kBf16, DType::kF32, true);
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

TEST(GroupedMatMul, DepthOfZeroGivesZeroOrKeepsTheResult) {
  const TestTensor offsets = offsets_of({2, 1}), a(DType::kBf16, {4, 0}), b(DType::kBf16, {2, 5, 0});
  TestTensor old_c(DType::kF32, {4, 5});
  old_c.randomise(1);
  for_each_configuration([&](const Configuration& configuration) {
    const TestTensor kept(old_c), c(old_c);
    configuration.run(kernels::GroupedMatMul{a, b, offsets, kept, true});
    EXPECT_TRUE(kept.contents() == old_c.contents());
    configuration.run(kernels::GroupedMatMul{a, b, offsets, c, false});
    for (std::int64_t i = 0; i < 20; ++i) {
      EXPECT_EQ(c[i], i < 15 ? 0.0 : old_c[i]);
    }
    return c.contents();
  });
}

TEST(GroupedWeightGradient, IsTheGroupsOwnProductWhateverTheOtherGroups) {
  for (const Case& one : cases()) {
    const auto groups = static_cast<std::int64_t>(one.sizes.size());
    const std::int64_t rows = rows_of(one), out = one.columns, in = std::min<std::int64_t>(one.depth, 70);
    const TestTensor offsets = offsets_of(one.sizes);
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      TestTensor a(dtype, {rows, out}, 3), b(dtype, {rows, in}, 1), old_c(DType::kF32, {groups, out, in}, 2);
      a.randomise(1);
      b.randomise(2);
      old_c.randomise(3);
      for_each_configuration([&](const Configuration& configuration) {
        const TestTensor c(old_c), expected(old_c);
        configuration.run(kernels::GroupedWeightGradient{a, b, offsets, c});
        std::int64_t first = 0;
        for (std::int64_t group = 0; group < groups; ++group) {
          const std::int64_t count = one.sizes[static_cast<std::size_t>(group)];
          if (count > 0) {  // a group without rows keeps its matrix
            configuration.run(kernels::MatMul{kernels::transpose(kernels::slice_rows(ConstView(a), first, count)),
                                              kernels::transpose(kernels::slice_rows(ConstView(b), first, count)),
                                              matrix_of(expected, group), true});
          }
          first += count;
        }
        EXPECT_TRUE(c.contents() == expected.contents())
            << kernels::to_string(ConstView(a)) << " times " << kernels::to_string(ConstView(b));
        return c.contents();
      });
    }
  }
}

// Depths of several blocks in the weight gradient, where sums wait for the next block.
TEST(GroupedWeightGradient, OfManyRowsHasTheBitsOfMatMul) {
  const std::vector<std::int64_t> sizes = {1600, 0, 3100, 7};
  const TestTensor offsets = offsets_of(sizes);
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    TestTensor a(dtype, {4707, 45}), b(dtype, {4707, 70});
    a.randomise(1);
    b.randomise(2);
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor c(DType::kF32, {4, 45, 70}), expected(DType::kF32, {4, 45, 70});
      configuration.run(kernels::GroupedWeightGradient{a, b, offsets, c});
      std::int64_t first = 0;
      for (const std::int64_t group : {0, 2, 3}) {
        const std::int64_t count = sizes[static_cast<std::size_t>(group)];
        configuration.run(kernels::MatMul{kernels::transpose(kernels::slice_rows(ConstView(a), first, count)),
                                          kernels::transpose(kernels::slice_rows(ConstView(b), first, count)),
                                          matrix_of(expected, group), false});
        first += count;
      }
      EXPECT_TRUE(c.contents() == expected.contents());
      return c.contents();
    });
  }
}

// Rows that a list names give the bits of the same rows copied together; the list may name one often.
TEST(GroupedMatMul, ChosenRowsHaveTheBitsOfTheirCopies) {
  for (const Case& one : cases()) {
    const auto groups = static_cast<std::int64_t>(one.sizes.size());
    const std::int64_t rows = rows_of(one), columns = one.columns, depth = one.depth, table_rows = 1 + rows / 3;
    const TestTensor offsets = offsets_of(one.sizes);
    TestTensor chosen(DType::kI32, {rows});
    for (std::int64_t i = 0; i < rows; ++i) {
      chosen.set(i, static_cast<double>((i * 7 + i / 5) % table_rows));
    }
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      TestTensor table(dtype, {table_rows, depth}, 3), other_table(dtype, {table_rows, columns}, 2);
      TestTensor other(dtype, {rows, columns}, 1);
      TestTensor stack(dtype, {groups, one.transposed ? depth : columns, one.transposed ? columns : depth}, 5);
      table.randomise(1);
      stack.randomise(2);
      other_table.randomise(3);
      other.randomise(4);
      const View b = one.transposed ? swap_last_axes(stack) : stack.view();
      for_each_configuration([&](const Configuration& configuration) {
        const TestTensor copies(dtype, {rows, depth}), other_copies(dtype, {rows, columns});
        configuration.run(kernels::GatherRows{table, chosen, copies});
        configuration.run(kernels::GatherRows{other_table, chosen, other_copies});
        const TestTensor c(dtype, {rows, columns}), expected(dtype, {rows, columns});
        kernels::GroupedMatMul product{table, b, offsets, c};
        product.a_rows = chosen;
        configuration.run(product);
        configuration.run(kernels::GroupedMatMul{copies, b, offsets, expected});
        EXPECT_TRUE(c.contents() == expected.contents()) << kernels::to_string(ConstView(table));
        const TestTensor gradient(DType::kF32, {groups, columns, depth}), copied(DType::kF32, {groups, columns, depth});
        for (const auto& [a_is_chosen, b_is_chosen] : {std::pair{true, false}, {false, true}, {true, true}}) {
          kernels::GroupedWeightGradient sum{a_is_chosen ? other_table : other, b_is_chosen ? table : copies, offsets,
                                             gradient};
          sum.a_rows = a_is_chosen ? std::optional<ConstView>(chosen) : std::nullopt;
          sum.b_rows = b_is_chosen ? std::optional<ConstView>(chosen) : std::nullopt;
          configuration.run(sum);
          configuration.run(
              kernels::GroupedWeightGradient{a_is_chosen ? other_copies : other, copies, offsets, copied});
          EXPECT_TRUE(gradient.contents() == copied.contents()) << kernels::to_string(ConstView(table));
        }
        return gradient.contents();
      });
    }
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

TEST(GroupedMatMul, RowsThatTheTableLacksAreABug) {
  const TestTensor offsets = offsets_of({2}), table(DType::kF32, {3, 4}), b(DType::kF32, {1, 5, 4}),
                   c(DType::kF32, {2, 5}), gradient(DType::kF32, {1, 5, 4});
  for (const double row : {-1.0, 3.0}) {
    TestTensor chosen(DType::kI32, {2});
    chosen.set(1, row);
    for_each_configuration([&](const Configuration& configuration) {
      kernels::GroupedMatMul product{table, b, offsets, c};
      product.a_rows = chosen;
      EXPECT_THROW(configuration.run(product), base::InternalError);
      kernels::GroupedWeightGradient sum{c, table, offsets, gradient};
      sum.b_rows = chosen;
      EXPECT_THROW(configuration.run(sum), base::InternalError);
      return c.contents();
    });
  }
}

TEST(GroupedMatMul, OffsetsThatAreNoneAreABug) {
  const TestTensor a(DType::kF32, {3, 4}), b(DType::kF32, {2, 5, 4}), c(DType::kF32, {3, 5}),
      gradient(DType::kF32, {2, 5, 4});
  for (const std::vector<double>& values : {std::vector<double>{0, 3, 2}, {0, 1, 4}, {1, 1, 2}, {0, -1, 2}}) {
    TestTensor offsets(DType::kI32, {3});
    for (std::int64_t i = 0; i < 3; ++i) {
      offsets.set(i, values[static_cast<std::size_t>(i)]);
    }
    for_each_configuration([&](const Configuration& configuration) {
      EXPECT_THROW(configuration.run(kernels::GroupedMatMul{a, b, offsets, c, false}), base::InternalError);
      EXPECT_THROW(configuration.run(kernels::GroupedWeightGradient{c, a, offsets, gradient}), base::InternalError);
      return c.contents();
    });
  }
}

}  // namespace
}  // namespace flyover::devices::cpu::test
