#include <cmath>

#include <gtest/gtest.h>

#include "devices/vector/test_tensor.h"

namespace flyover::devices::cpu::test {
namespace {

struct Shape {
  std::int64_t matrices, rows, depth;
};

TEST(GramMatrices, HasTheBitsOfMatMulAndIsSymmetric) {
  // One item and several for each matrix, several blocks of rows, columns and depth, ragged edges.
  for (const auto [matrices, rows, depth] :
       {Shape{3, 70, 40}, Shape{9, 100, 33}, Shape{1, 1, 5}, Shape{1, 850, 9}, Shape{2, 210, 3100}, Shape{2, 16, 0}}) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      TestTensor a(dtype, {matrices, rows, depth}, 3);
      a.randomise(1);
      for_each_configuration([&](const Configuration& configuration) {
        const TestTensor c(dtype, {matrices, rows, rows}, 5);
        configuration.run(kernels::GramMatrices{a, c});
        for (std::int64_t matrix = 0; matrix < matrices; ++matrix) {
          const TestTensor wanted(dtype, {rows, rows});
          const View& all = a.view();
          const auto offset = matrix * all.stride(0) * static_cast<std::int64_t>(kernels::size_of(dtype));
          const ConstView one{
              static_cast<const std::byte*>(all.data) + offset, dtype, {rows, depth}, {all.stride(1), all.stride(2)}};
          configuration.run(kernels::MatMul{one, one, wanted});
          std::int64_t different = 0, skew = 0;
          for (std::int64_t i = 0; i < rows; ++i) {
            for (std::int64_t j = 0; j < rows; ++j) {
              const double value = c[(matrix * rows + i) * rows + j];
              different += value != wanted[i * rows + j];
              skew += value != c[(matrix * rows + j) * rows + i];
            }
          }
          EXPECT_EQ(different, 0) << "matrix " << matrix << " of " << rows << " x " << depth;
          EXPECT_EQ(skew, 0) << "matrix " << matrix << " of " << rows << " x " << depth;
        }
        return c.contents();
      });
    }
  }
}

TEST(NormaliseMatrices, GivesAMatrixTheSameBitsInEveryStack) {
  TestTensor stack(DType::kF32, {3, 90, 200});
  stack.randomise(1);
  for_each_configuration([&](const Configuration& configuration) {
    const TestTensor all(DType::kF32, {3, 90, 200});
    configuration.run(kernels::NormaliseMatrices{stack, all});
    for (std::int64_t matrix = 0; matrix < 3; ++matrix) {
      TestTensor x(DType::kF32, {1, 90, 200});
      const TestTensor y(DType::kF32, {1, 90, 200});
      for (std::int64_t i = 0; i < x.size(); ++i) {
        x.set(i, stack[matrix * x.size() + i]);
      }
      configuration.run(kernels::NormaliseMatrices{x, y});
      double square = 0;
      for (std::int64_t i = 0; i < x.size(); ++i) {
        EXPECT_EQ(y[i], all[matrix * x.size() + i]);
        square += y[i] * y[i];
      }
      EXPECT_NEAR(std::sqrt(square), 1.0, 1e-6);
    }
    return all.contents();
  });
}

}  // namespace
}  // namespace flyover::devices::cpu::test
