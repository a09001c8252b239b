#include "optim/matrices.h"

#include <map>
#include <tuple>

#include <gtest/gtest.h>

#include "base/error.h"
#include "optim/newton_schulz.h"
#include "optim/parameters.h"

namespace flyover::optim::test {
namespace {

/// (matrices, rows, columns, first element, distance)
using Plain = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::int64_t>;

std::vector<Plain> stacks(const tensor::Dims& shape, std::vector<std::int64_t> matrix_rows = {}) {
  std::vector<Plain> result;
  for (const MatrixStack& stack :
       matrix_stacks(spec_of("w", shape, ParameterRole::kMatrix, std::move(matrix_rows)), 3)) {
    EXPECT_EQ(stack.parameter, 3u);
    result.push_back({stack.matrices, stack.rows, stack.columns, stack.first_element, stack.distance});
  }
  return result;
}

TEST(MatrixStacks, WithoutACutTheLastTwoAxesAreAMatrix) {
  EXPECT_EQ(stacks({5, 7}), (std::vector<Plain>{{1, 5, 7, 0, 35}}));
  EXPECT_EQ(stacks({3, 5, 7}), (std::vector<Plain>{{3, 5, 7, 0, 35}}));
  EXPECT_EQ(stacks({2, 3, 5, 7}), (std::vector<Plain>{{6, 5, 7, 0, 35}}));
}

TEST(MatrixStacks, EqualPartsAreOneStack) {
  EXPECT_EQ(stacks({3, 4, 7}, {2, 2}), (std::vector<Plain>{{6, 2, 7, 0, 14}}));
  EXPECT_EQ(stacks({12, 7}, {4}), (std::vector<Plain>{{3, 4, 7, 0, 28}}));
}

TEST(MatrixStacks, UnequalPartsAreAStackEachAndRepeat) {
  EXPECT_EQ(stacks({6, 10}, {1, 1, 4}),
            (std::vector<Plain>{{1, 1, 10, 0, 60}, {1, 1, 10, 10, 60}, {1, 4, 10, 20, 60}}));
  EXPECT_EQ(stacks({4, 3, 10}, {1, 2}), (std::vector<Plain>{{4, 1, 10, 0, 30}, {4, 2, 10, 10, 30}}));
}

TEST(MatrixStacks, PartsThatDoNotCoverTheParameterAreABug) {
  EXPECT_THROW(stacks({5, 7}, {2}), base::InternalError);
  EXPECT_THROW(stacks({5, 7}, {5, 0}), base::InternalError);
  EXPECT_THROW(stacks({5, 7}, {6, -1}), base::InternalError);
  EXPECT_THROW(stacks({5}), base::InternalError);
}

TEST(MatrixStacks, ShowTheElementsOfTheirMatrices) {
  Parameters parameters(cpu(), DType::kF32, {spec_of("w", {2, 3, 4}, ParameterRole::kMatrix, {1, 2})});
  std::vector<double> numbers(24);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = static_cast<double>(i);
  }
  parameters.write(parameters["w"].master, numbers);
  const auto list = matrix_stacks(parameters["w"].spec, 0);
  const auto read = [&](const MatrixStack& stack, std::int64_t first, std::int64_t count) {
    const tensor::Tensor view = stack.of(parameters["w"].master, first, count);
    std::vector<double> result;
    for (std::int64_t i = 0; i < count; ++i) {
      for (std::int64_t row = 0; row < stack.rows; ++row) {
        kernels::View line = kernels::slice_rows(view.view(), i, 1);
        line.data = static_cast<float*>(line.data) + row * line.stride(1);
        line.shape = {stack.columns};
        line.strides = {line.stride(2)};
        const auto values = parameters.read({view.storage(), line});
        result.insert(result.end(), values.begin(), values.end());
      }
    }
    return result;
  };
  EXPECT_EQ(read(list[0], 0, 2), (std::vector<double>{0, 1, 2, 3, 12, 13, 14, 15}));
  EXPECT_EQ(read(list[1], 1, 1), (std::vector<double>{16, 17, 18, 19, 20, 21, 22, 23}));
}

TEST(MatrixBatches, HaveEveryMatrixOnceWithinTheBytes) {
  std::vector<TypedStack> typed;
  const auto add = [&](const tensor::Dims& shape, DType dtype, std::vector<std::int64_t> matrix_rows = {}) {
    for (const MatrixStack& stack :
         matrix_stacks(spec_of("w", shape, ParameterRole::kMatrix, std::move(matrix_rows)), typed.size())) {
      typed.push_back({stack, dtype});
    }
  };
  add({32, 16, 16}, DType::kBf16, {8, 8});
  add({32, 16, 8}, DType::kBf16);
  add({8, 16}, DType::kBf16);
  add({8, 16}, DType::kF32);
  add({500, 300}, DType::kBf16);
  const std::uint64_t bytes = 7 * newton_schulz_bytes(8, 16, DType::kBf16) + 1;
  std::map<std::tuple<std::size_t, std::int64_t>, int> seen;
  std::map<std::tuple<std::int64_t, DType>, int> batches_of_rows;
  for (const MatrixBatch& batch : batch_matrices(typed, bytes)) {
    ++batches_of_rows[{batch.rows, batch.dtype}];
    EXPECT_LE(batch.rows, batch.columns);
    EXPECT_TRUE(batch.matrices == 1 || static_cast<std::uint64_t>(batch.matrices) *
                                               newton_schulz_bytes(batch.rows, batch.columns, batch.dtype) <=
                                           bytes);
    std::int64_t total = 0;
    for (const MatrixRange& range : batch.ranges) {
      EXPECT_EQ(range.stack.short_side(), batch.rows);
      EXPECT_EQ(range.stack.long_side(), batch.columns);
      EXPECT_EQ(typed[range.stack.parameter].dtype, batch.dtype);
      for (std::int64_t i = range.first; i < range.first + range.count; ++i) {
        ++seen[{range.stack.parameter, i}];
      }
      total += range.count;
    }
    EXPECT_EQ(total, batch.matrices);
  }
  EXPECT_EQ(seen.size(), 64u + 32u + 1u + 1u + 1u);
  for (const auto& [matrix, times] : seen) {
    EXPECT_EQ(times, 1);
  }
  // 97 matrices of [8, 16], seven at a time, tall ones and those of another parameter among them.
  EXPECT_EQ((batches_of_rows[{8, DType::kBf16}]), 14);
  EXPECT_EQ((batches_of_rows[{8, DType::kF32}]), 1);
  EXPECT_EQ((batches_of_rows[{300, DType::kBf16}]), 1);
}

}  // namespace
}  // namespace flyover::optim::test
