// The contract of the matrix product (kernels/matmul.h) to the bit: what a row is made of decides its bits, nothing
// else does.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

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

struct Operands {
  Matrix a;  ///< [kRows, depth]
  Matrix b;  ///< [columns, depth]
};

/// The same random values for every layout.
Operands random_operands(DType dtype, std::int64_t depth, std::int64_t columns = kColumns, bool transpose_a = false,
                         bool transpose_b = false) {
  return {random_matrix(kRows, depth, {dtype, transpose_a, transpose_a ? 5 : 0}, 1),
          random_matrix(columns, depth, {dtype, transpose_b, transpose_b ? 0 : 3}, 2)};
}

/// Rows [first, first + count) of a product, computed without the other rows.
Bits product_rows(const Case& one, const Operands& operands, std::int64_t first, std::int64_t count, int threads) {
  const std::int64_t columns = operands.b.view().size(0);
  const Matrix c = random_matrix(kRows, columns, {one.c_dtype, false, 1}, 3);
  multiply(one.set, operands.a.rows(first, count), operands.b.view(), c.rows(first, count), one.accumulate, threads);
  return bits_of(c, first, count, columns);
}

Bits rows_of(const Bits& bits, std::int64_t first, std::int64_t count) {
  return {bits.begin() + first * kColumns, bits.begin() + (first + count) * kColumns};
}

TEST(MatMulContract, RowsHaveTheSameBitsWhateverTheirNumberAndPosition) {
  for (const Case& one : all_cases()) {
    for (const std::int64_t depth : {19, 801}) {
      const Operands operands = random_operands(one.dtype, depth);
      const Bits all = product_rows(one, operands, 0, kRows, 1);
      for (std::int64_t count = 1; count <= kRows; ++count) {
        const std::int64_t last_first = kRows - count;
        for (const std::int64_t first : {std::int64_t{0}, std::min<std::int64_t>(7, last_first), last_first}) {
          ASSERT_EQ(product_rows(one, operands, first, count, 1), rows_of(all, first, count))
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
      const Operands operands = random_operands(one.dtype, depth, 300);
      const Bits alone = product_rows(one, operands, 0, kRows, 1);
      for (const int threads : {2, 3, 8}) {
        ASSERT_EQ(product_rows(one, operands, 0, kRows, threads), alone) << threads << " threads";
      }
    }
  }
}

TEST(MatMulContract, LayoutDoesNotChangeBits) {
  for (const Case& one : all_cases()) {
    for (const std::int64_t depth : {1, 2, 33, 803}) {
      const Bits plain = product_rows(one, random_operands(one.dtype, depth), 0, kRows, 1);
      for (const auto& [transpose_a, transpose_b] : {std::pair(false, true), {true, false}, {true, true}}) {
        const Operands operands = random_operands(one.dtype, depth, kColumns, transpose_a, transpose_b);
        ASSERT_EQ(product_rows(one, operands, 0, kRows, 2), plain)
            << name_of(one.set) << " " << kernels::name_of(one.dtype) << " depth " << depth << " transposed "
            << transpose_a << transpose_b;
      }
    }
  }
}

TEST(MatMulContract, ManyRowsHaveTheBitsOfOneRow) {
  // Shapes that are cut in every way the plan knows: a packed ahead, b packed ahead, both too large for that.
  struct Shape {
    std::int64_t rows, columns, depth;
  };
  for (const Shape& shape : {Shape{90, 700, 900}, {700, 90, 900}, {700, 650, 8300}}) {
    for (const InstructionSet set : available_instruction_sets()) {
      for (const DType dtype : {DType::kF32, DType::kBf16}) {
        const Layout transposed = {dtype, true};
        const Matrix a = random_matrix(shape.rows, shape.depth, transposed, 1);
        const Matrix b = random_matrix(shape.columns, shape.depth, transposed, 2);
        const Matrix c(shape.rows, shape.columns, {dtype});
        multiply(set, a.view(), b.view(), c.view(), false, 2);
        for (const std::int64_t row : {std::int64_t{0}, std::int64_t{12}, shape.rows / 2, shape.rows - 1}) {
          const Matrix alone(1, shape.columns, {dtype});
          multiply(set, a.rows(row, 1), b.view(), alone.view(), false, 1);
          ASSERT_EQ(bits_of(alone, 0, 1, shape.columns), bits_of(c, row, 1, shape.columns))
              << name_of(set) << " row " << row;
        }
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
      const Operands operands = random_operands(one.dtype, depth);
      Matrix expected = random_matrix(kRows, kColumns, {one.c_dtype}, 3);
      for (std::int64_t i = 0; i < kRows; ++i) {
        for (std::int64_t j = 0; j < kColumns; ++j) {
          float sum = 0;
          for (std::int64_t k = 0; k < depth; ++k) {
            sum = std::fma(operands.a.get(i, k), operands.b.get(j, k), sum);
          }
          expected.set(i, j, one.accumulate ? expected.get(i, j) + sum : sum);
        }
      }
      ASSERT_EQ(product_rows(one, operands, 0, kRows, 1), bits_of(expected, 0, kRows, kColumns))
          << name_of(one.set) << " depth " << depth;
    }
  }
}

TEST(MatMulContract, Bf16ResultsAreTheRoundedF32Results) {
  constexpr std::int64_t kDepth = 3;
  for (const InstructionSet set : available_instruction_sets()) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      Operands operands = random_operands(dtype, kDepth);
      // From sums that overflow to sums below the smallest normal number; then NaN and infinity.
      for (std::int64_t i = 0; i < kRows; ++i) {
        for (std::int64_t k = 0; k < kDepth; ++k) {
          operands.a.set(i, k, std::ldexp(operands.a.get(i, k), static_cast<int>(100 - 6 * i)));
        }
      }
      for (std::int64_t j = 0; j < kColumns; ++j) {
        for (std::int64_t k = 0; k < kDepth; ++k) {
          operands.b.set(j, k, std::ldexp(operands.b.get(j, k), static_cast<int>(30 - j)));
        }
      }
      operands.a.set(20, 0, std::nanf(""));
      operands.a.set(21, 1, std::numeric_limits<float>::infinity());
      const Matrix exact(kRows, kColumns, {DType::kF32});
      const Matrix rounded(kRows, kColumns, {DType::kBf16});
      multiply(set, operands.a.view(), operands.b.view(), exact.view(), false, 1);
      multiply(set, operands.a.view(), operands.b.view(), rounded.view(), false, 1);
      for (std::int64_t i = 0; i < kRows; ++i) {
        for (std::int64_t j = 0; j < kColumns; ++j) {
          const kernels::Bf16 expected = kernels::to_bf16(exact.get(i, j));
          ASSERT_EQ(std::bit_cast<std::uint32_t>(rounded.get(i, j)), static_cast<std::uint32_t>(expected.bits) << 16)
              << name_of(set) << " " << kernels::name_of(dtype) << ": " << exact.get(i, j) << " at " << i << ", " << j;
        }
      }
    }
  }
}

}  // namespace
}  // namespace flyover::devices::cpu::testing
