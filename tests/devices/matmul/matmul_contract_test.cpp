// The contract of the matrix product (kernels/matmul.h) to the bit: what a row is made of decides its bits, nothing
// else does.
#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "devices/matmul/operands.h"

namespace flyover::devices::cpu::testing {
namespace {

using Bits = std::vector<std::uint32_t>;
using kernels::DType;

constexpr std::int64_t kRows = 40;
constexpr std::int64_t kColumns = 77;

struct Case {
  InstructionSet set;
  DType dtype;    ///< of a and b
  DType c_dtype;  ///< of c
  bool accumulate;
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const InstructionSet set : available_instruction_sets()) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      for (const DType c_dtype : {DType::kF32, DType::kBf16}) {
        for (const bool accumulate : {false, true}) {
          cases.push_back({set, dtype, c_dtype, accumulate});
        }
      }
    }
  }
  return cases;
}

Matrix random_matrix(std::int64_t rows, std::int64_t columns, const Layout& layout, std::uint64_t seed) {
  Matrix matrix(rows, columns, layout);
  matrix.fill_random(seed);
  return matrix;
}

/// Rows [first, first + count) of the product of two random matrices, computed without the other rows.
Bits product_rows(const Case& one, std::int64_t depth, std::int64_t first, std::int64_t count, int threads,
                  bool transpose_a = false, bool transpose_b = false, std::int64_t columns = kColumns) {
  const Matrix a = random_matrix(kRows, depth, {one.dtype, transpose_a, transpose_a ? 5 : 0}, 1);
  const Matrix b = random_matrix(columns, depth, {one.dtype, transpose_b, transpose_b ? 0 : 3}, 2);
  const Matrix c = random_matrix(kRows, columns, {one.c_dtype, false, 1}, 3);
  multiply(one.set, a.rows(first, count), b.view(), c.rows(first, count), one.accumulate, threads);
  return bits_of(c, first, count, columns);
}

Bits rows_of(const Bits& bits, std::int64_t first, std::int64_t count) {
  return {bits.begin() + first * kColumns, bits.begin() + (first + count) * kColumns};
}

TEST(MatMulContract, RowsHaveTheSameBitsWhateverTheirNumberAndPosition) {
  for (const Case& one : all_cases()) {
    for (const std::int64_t depth : {19, 801}) {
      const Bits all = product_rows(one, depth, 0, kRows, 1);
      for (std::int64_t count = 1; count <= kRows; ++count) {
        const std::int64_t last_first = kRows - count;
        for (const std::int64_t first : {std::int64_t{0}, std::min<std::int64_t>(7, last_first), last_first}) {
          ASSERT_EQ(product_rows(one, depth, first, count, 1), rows_of(all, first, count))
              << name_of(one.set) << " " << kernels::name_of(one.dtype) << " depth " << depth << ": rows from " << first
              << ", " << count << " of them";
        }
      }
    }
  }
}

TEST(MatMulContract, ThreadCountDoesNotChangeBits) {
  for (const Case& one : all_cases()) {
    for (const std::int64_t depth : {64, 2047}) {
      const Bits alone = product_rows(one, depth, 0, kRows, 1, false, false, 300);
      for (const int threads : {2, 3, 8}) {
        ASSERT_EQ(product_rows(one, depth, 0, kRows, threads, false, false, 300), alone) << threads << " threads";
      }
    }
  }
}

TEST(MatMulContract, LayoutDoesNotChangeBits) {
  for (const Case& one : all_cases()) {
    for (const std::int64_t depth : {1, 2, 33, 803}) {
      const Bits plain = product_rows(one, depth, 0, kRows, 1);
      for (const auto& [transpose_a, transpose_b] : {std::pair(false, true), {true, false}, {true, true}}) {
        ASSERT_EQ(product_rows(one, depth, 0, kRows, 2, transpose_a, transpose_b), plain)
            << name_of(one.set) << " " << kernels::name_of(one.dtype) << " depth " << depth << " transposed "
            << transpose_a << transpose_b;
      }
    }
  }
}

TEST(MatMulContract, ManyRowsHaveTheBitsOfOneRow) {
  // Enough rows and columns that operands are cut in every way the plan knows.
  constexpr std::int64_t kMany = 600;
  for (const InstructionSet set : available_instruction_sets()) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      const Matrix a = random_matrix(kMany, 500, {dtype}, 1);
      const Matrix b = random_matrix(kMany, 500, {dtype}, 2);
      const Matrix c(kMany, kMany, {dtype});
      multiply(set, a.view(), b.view(), c.view(), false, 2);
      for (const std::int64_t row : {0, 11, 12, 301, 599}) {
        const Matrix alone(1, kMany, {dtype});
        multiply(set, a.rows(row, 1), b.view(), alone.view(), false, 1);
        ASSERT_EQ(bits_of(alone, 0, 1, kMany), bits_of(c, row, 1, kMany)) << name_of(set) << " row " << row;
      }
    }
  }
}

TEST(MatMulContract, SumsAreSequentialFusedMultiplyAddsExceptForBf16Pairs) {
  for (const Case& one : all_cases()) {
    if (one.set == InstructionSet::kAvx512Bf16 && one.dtype == DType::kBf16) {
      continue;  // vdpbf16ps rounds as it likes
    }
    for (const std::int64_t depth : {1, 70, 1201}) {
      const Matrix a = random_matrix(kRows, depth, {one.dtype}, 1);
      const Matrix b = random_matrix(kColumns, depth, {one.dtype}, 2);
      Matrix expected = random_matrix(kRows, kColumns, {one.c_dtype}, 3);
      for (std::int64_t i = 0; i < kRows; ++i) {
        for (std::int64_t j = 0; j < kColumns; ++j) {
          float sum = 0;
          for (std::int64_t k = 0; k < depth; ++k) {
            sum = std::fma(a.get(i, k), b.get(j, k), sum);
          }
          expected.set(i, j, one.accumulate ? expected.get(i, j) + sum : sum);
        }
      }
      ASSERT_EQ(product_rows(one, depth, 0, kRows, 1), bits_of(expected, 0, kRows, kColumns))
          << name_of(one.set) << " depth " << depth;
    }
  }
}

}  // namespace
}  // namespace flyover::devices::cpu::testing
