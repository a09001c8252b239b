// MatMul of the CPU device against plain loops in fp64, on every instruction set of the machine.
#include <bit>
#include <cmath>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"
#include "devices/matmul/operands.h"

namespace flyover::devices::cpu::testing {
namespace {

using kernels::DType;

struct Sizes {
  std::int64_t rows, columns, depth;
};

std::vector<double> values_of(const Matrix& matrix, std::int64_t row, std::int64_t columns) {
  std::vector<double> values;
  for (std::int64_t column = 0; column < columns; ++column) {
    values.push_back(matrix.get(row, column));
  }
  return values;
}

/// Compares c with old_c (where accumulate) plus the fp64 sum; errors may be those of `depth` fp32 roundings of partial
/// sums, and one rounding to the type of c.
void expect_product(const Matrix& a, const Matrix& b, const Matrix& c, const Matrix* old_c, const Sizes& sizes,
                    DType c_dtype) {
  std::vector<std::vector<double>> b_rows;
  for (std::int64_t j = 0; j < sizes.columns; ++j) {
    b_rows.push_back(values_of(b, j, sizes.depth));
  }
  for (std::int64_t i = 0; i < sizes.rows; ++i) {
    const std::vector<double> a_row = values_of(a, i, sizes.depth);
    for (std::int64_t j = 0; j < sizes.columns; ++j) {
      double sum = old_c == nullptr ? 0.0 : old_c->get(i, j);
      double magnitude = std::abs(sum);
      for (std::size_t k = 0; k < a_row.size(); ++k) {
        const double term = a_row[k] * b_rows[static_cast<std::size_t>(j)][k];
        sum += term;
        magnitude += std::abs(term);
      }
      const double of_sum = magnitude * static_cast<double>(sizes.depth + 2) * std::ldexp(1.0, -24);
      const double of_c = std::abs(sum) * std::ldexp(1.0, c_dtype == DType::kBf16 ? -8 : -24);
      ASSERT_NEAR(c.get(i, j), sum, of_sum + of_c + 1e-30) << "row " << i << " column " << j;
    }
  }
}

void run_case(InstructionSet set, const Sizes& sizes, const base::Random& random, std::uint64_t position) {
  const std::uint64_t choice = random.bits(position);
  const auto flag = [&](int bit) { return ((choice >> bit) & 1u) != 0; };
  const auto gap = [&](int bit) { return flag(bit) ? static_cast<std::int64_t>((choice >> (bit + 1)) % 9) : 0; };
  const DType dtype = flag(0) ? DType::kBf16 : DType::kF32;
  const DType c_dtype = flag(1) ? DType::kBf16 : DType::kF32;
  const bool accumulate = flag(2);
  Matrix a(sizes.rows, sizes.depth, {dtype, flag(3), gap(8), flag(5)});
  Matrix b(sizes.columns, sizes.depth, {dtype, flag(4), gap(16), flag(6)});
  Matrix c(sizes.rows, sizes.columns, {c_dtype, false, gap(24), flag(7)});
  Matrix old_c(sizes.rows, sizes.columns, {c_dtype});
  a.fill_random(3 * position);
  b.fill_random(3 * position + 1);
  old_c.fill_random(3 * position + 2);
  c.copy_from(old_c);
  const int threads = 1 + static_cast<int>(choice >> 40) % 3;
  SCOPED_TRACE(std::string(name_of(set)) + " a " + kernels::to_string(kernels::ConstView(a.view())) + " b " +
               kernels::to_string(kernels::ConstView(b.view())) + " c " +
               kernels::to_string(kernels::ConstView(c.view())) + (accumulate ? " accumulate" : ""));
  multiply(set, a.view(), b.view(), c.view(), accumulate, threads);
  expect_product(a, b, c, accumulate ? &old_c : nullptr, sizes, c_dtype);
  EXPECT_TRUE(c.gaps_are_intact());
}

TEST(MatMul, AgreesWithPlainLoopsOnSmallRandomShapes) {
  const base::Random random(1, base::RandomPurpose::kTest);
  for (const InstructionSet set : available_instruction_sets()) {
    for (std::uint64_t i = 0; i < 600; ++i) {
      const Sizes sizes = {static_cast<std::int64_t>(random.below(4 * i, 40)),
                           static_cast<std::int64_t>(random.below(4 * i + 1, 80)),
                           static_cast<std::int64_t>(random.below(4 * i + 2, 70))};
      run_case(set, sizes, random, 4 * i + 3);
      ASSERT_FALSE(HasFailure());
    }
  }
}

TEST(MatMul, AgreesWithPlainLoopsOnDeepWideAndTallShapes) {
  const base::Random random(2, base::RandomPurpose::kTest);
  const Sizes shapes[] = {{3, 5, 4001},  {13, 33, 1537},  {130, 70, 800},  {1, 2000, 385}, {2000, 1, 385},
                          {700, 33, 17}, {12, 32, 384},   {24, 64, 768},   {25, 65, 769},  {37, 1100, 31},
                          {250, 250, 9}, {100, 150, 300}, {48, 576, 2000}, {576, 48, 1601}};
  std::uint64_t position = 0;
  for (const InstructionSet set : available_instruction_sets()) {
    for (const Sizes& sizes : shapes) {
      for (int repetition = 0; repetition < 2; ++repetition) {
        run_case(set, sizes, random, position++);
        ASSERT_FALSE(HasFailure());
      }
    }
  }
}

TEST(MatMul, DepthOfZeroGivesZeroOrKeepsTheResult) {
  for (const InstructionSet set : available_instruction_sets()) {
    const Matrix a(3, 0, {});
    const Matrix b(40, 0, {});
    Matrix c(3, 40, {});
    c.fill_random(1);
    const auto old_bits = bits_of(c, 0, 3, 40);
    multiply(set, a.view(), b.view(), c.view(), true, 2);
    EXPECT_EQ(bits_of(c, 0, 3, 40), old_bits);
    multiply(set, a.view(), b.view(), c.view(), false, 2);
    EXPECT_EQ(bits_of(c, 0, 3, 40), std::vector<std::uint32_t>(120, 0));
  }
}

TEST(MatMul, NanAndInfinityReachTheirRowsAndColumnsAndNoOthers) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const InstructionSet set : available_instruction_sets()) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      Matrix a(14, 33, {dtype, false, 3});
      Matrix b(35, 33, {dtype, true, 2});
      Matrix c(14, 35, {dtype});
      a.fill_random(1);
      b.fill_random(2);
      a.set(13, 32, std::nanf(""));
      a.set(2, 0, infinity);
      b.set(34, 7, std::nanf(""));
      multiply(set, a.view(), b.view(), c.view(), false, 1);
      for (std::int64_t i = 0; i < 14; ++i) {
        for (std::int64_t j = 0; j < 35; ++j) {
          const float value = c.get(i, j);
          if (i == 13 || j == 34) {
            EXPECT_TRUE(std::isnan(value)) << i << " " << j;
          } else if (i == 2) {
            EXPECT_EQ(value, b.get(j, 0) > 0 ? infinity : -infinity) << j;
          } else {
            EXPECT_TRUE(std::isfinite(value)) << i << " " << j;
          }
        }
      }
    }
  }
}

TEST(MatMul, RoundsBf16ResultsOnceToNearestEvenAndKeepsSubnormals) {
  // Each value is 1 * itself with a depth of one; f32 operands so that the product is exact in f32.
  const std::uint32_t patterns[] = {0x3F800000u, 0x3F808000u, 0x3F818000u, 0x3F808001u, 0x3F807FFFu, 0x00010000u,
                                    0x00018000u, 0x00008000u, 0x00008001u, 0x80018000u, 0x7F7FFFFFu, 0xFF7F8000u,
                                    0x7F7F7FFFu, 0x00000001u, 0x80000000u, 0x7F800000u, 0x40490FDBu, 0xC2F6E979u};
  constexpr std::int64_t kCount = std::size(patterns);
  for (const InstructionSet set : available_instruction_sets()) {
    Matrix a(1, 1, {});
    a.set(0, 0, 1.0f);
    Matrix b(kCount, 1, {});
    for (std::int64_t j = 0; j < kCount; ++j) {
      b.set(j, 0, std::bit_cast<float>(patterns[j]));
    }
    Matrix c(1, kCount, {DType::kBf16});
    multiply(set, a.view(), b.view(), c.view(), false, 1);
    for (std::int64_t j = 0; j < kCount; ++j) {
      const float sum = b.get(j, 0) + 0.0f;  // the running sum starts at +0
      EXPECT_EQ(std::bit_cast<std::uint32_t>(c.get(0, j)), static_cast<std::uint32_t>(kernels::to_bf16(sum).bits) << 16)
          << std::hex << patterns[j] << " on " << name_of(set);
    }
  }
}

}  // namespace
}  // namespace flyover::devices::cpu::testing
