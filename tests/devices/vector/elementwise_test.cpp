#include <bit>
#include <cmath>
#include <cstring>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "devices/vector/test_tensor.h"

namespace flyover::devices::cpu::test {
namespace {

struct Case {
  std::int64_t rows, width, gap;
};

std::vector<Case> cases() {
  return {{0, 5, 0},  {3, 0, 0},     {1, 1, 0},     {4, 7, 0},    {4, 7, 3},
          {5, 33, 1}, {131, 257, 0}, {131, 257, 5}, {2, 40001, 2}};
}

TEST(Fill, WritesTheValueInEveryType) {
  for (const Case& c : cases()) {
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF64, DType::kI32, DType::kI64, DType::kU8}) {
      for_each_configuration([&](const Configuration& configuration) {
        TestTensor y(dtype, {c.rows, c.width}, c.gap);
        configuration.run(kernels::Fill{y, 3.0});
        for (std::int64_t i = 0; i < y.size(); ++i) {
          EXPECT_EQ(y[i], 3.0);
        }
        return y.contents();
      });
    }
  }
}

TEST(Fill, TakesAScalarAndAVector) {
  const Configuration configuration{available_instruction_sets().back(), 2};
  const TestTensor vector(DType::kF32, {19});
  configuration.run(kernels::Fill{vector, -0.5});
  expect_near(vector, std::vector<double>(19, -0.5), 0.0);
  const TestTensor one(DType::kBf16, {1});
  View scalar = one;
  scalar.shape = kernels::Dims();
  scalar.strides = kernels::Dims();
  configuration.run(kernels::Fill{scalar, 1.5});
  EXPECT_EQ(one[0], 1.5);
}

TEST(Fill, AValueThatAnIntegerCannotHoldIsRefused) {
  const Configuration configuration{available_instruction_sets().back(), 1};
  const TestTensor y(DType::kI32, {2}), bytes(DType::kU8, {2});
  EXPECT_THROW(configuration.run(kernels::Fill{y, 2147483648.0}), base::InternalError);
  EXPECT_THROW(configuration.run(kernels::Fill{y, std::nan("")}), base::InternalError);
  EXPECT_THROW(configuration.run(kernels::Fill{bytes, -1.0}), base::InternalError);
}

TEST(Copy, EveryBf16BecomesItsF32) {
  const TestTensor x(DType::kBf16, {1, 65536}), y(DType::kF32, {1, 65536});
  auto* const bits = static_cast<std::uint16_t*>(x.view().data);
  for (std::size_t i = 0; i < 65536; ++i) {
    bits[i] = static_cast<std::uint16_t>(i);
  }
  for_each_configuration([&](const Configuration& configuration) {
    configuration.run(kernels::Copy{x, y});
    for (std::uint32_t i = 0; i < 65536; ++i) {
      EXPECT_EQ(static_cast<const std::uint32_t*>(y.view().data)[i], i << 16);
    }
    return y.contents();
  });
}

// The rounded value of the definition: of the two bf16 around x the nearer one, of equally near ones the even one.
std::uint16_t nearest_bf16(std::uint32_t bits) {
  const auto value = [](std::uint32_t upper) { return static_cast<double>(std::bit_cast<float>(upper << 16)); };
  const double x = static_cast<double>(std::bit_cast<float>(bits));
  const std::uint32_t down = bits >> 16, up = down + 1;
  // The number after the largest finite bf16 would be 2^128, which bounds what rounds to infinity.
  const double above = (up & 0x7FFFu) == 0x7F80u ? std::copysign(std::ldexp(1.0, 128), x) : value(up);
  const double to_down = std::fabs(x - value(down)), to_up = std::fabs(above - x);
  const bool takes_up = to_up < to_down || (to_up == to_down && (down & 1u) == 1u);
  return static_cast<std::uint16_t>(takes_up ? up : down);
}

TEST(Copy, RoundsToTheNearestBf16TiesToEven) {
  constexpr std::int64_t kCount = 40000;
  const TestTensor x(DType::kF32, {kCount}), y(DType::kBf16, {kCount});
  auto* const bits = static_cast<std::uint32_t*>(x.view().data);
  const base::Random random(5, base::RandomPurpose::kTest);
  for (std::int64_t i = 0; i < kCount; ++i) {
    auto pattern = static_cast<std::uint32_t>(random.bits(static_cast<std::uint64_t>(i)));
    pattern = i % 4 == 0 ? (pattern & 0xFFFF0000u) | 0x8000u : pattern;       // ties
    pattern = i % 16 < 4 ? pattern & 0x807FFFFFu : pattern;                   // subnormal numbers
    pattern = i % 16 == 5 ? (pattern & 0x8000FFFFu) | 0x7F7F0000u : pattern;  // around the largest
    bits[i] = (pattern & 0x7F800000u) == 0x7F800000u && i % 2 == 0 ? 0x7F800000u : pattern;
  }
  const kernels::Dims shape{1, kCount}, strides{kCount, 1};
  for_each_configuration([&](const Configuration& configuration) {
    configuration.run(kernels::Copy{ConstView{x.view().data, DType::kF32, shape, strides},
                                    View{y.view().data, DType::kBf16, shape, strides}});
    for (std::int64_t i = 0; i < kCount; ++i) {
      const std::uint16_t found = static_cast<const std::uint16_t*>(y.view().data)[i];
      if (std::isnan(std::bit_cast<float>(bits[i]))) {
        EXPECT_TRUE((found & 0x7F80u) == 0x7F80u && (found & 0x7Fu) != 0) << std::hex << bits[i] << " " << found;
      } else if (std::isinf(std::bit_cast<float>(bits[i]))) {
        EXPECT_EQ(found, bits[i] >> 16);
      } else {
        EXPECT_EQ(found, nearest_bf16(bits[i])) << std::hex << bits[i];
      }
    }
    return y.contents();
  });
}

TEST(Copy, CopiesRowsWithGapsBetweenAllPairsOfTypes) {
  for (const Case& c : cases()) {
    for (const auto& [from, to] : std::initializer_list<std::pair<DType, DType>>{{DType::kF32, DType::kF32},
                                                                                 {DType::kF32, DType::kBf16},
                                                                                 {DType::kBf16, DType::kF32},
                                                                                 {DType::kBf16, DType::kBf16},
                                                                                 {DType::kI64, DType::kI64},
                                                                                 {DType::kU8, DType::kU8}}) {
      TestTensor x(from, {c.rows, c.width}, c.gap);
      std::vector<double> expected;
      for (std::int64_t i = 0; i < x.size(); ++i) {
        x.set(i, static_cast<double>(i % 255));
        expected.push_back(static_cast<double>(i % 255));
      }
      for_each_configuration([&](const Configuration& configuration) {
        const TestTensor y(to, {c.rows, c.width}, c.gap / 2);
        configuration.run(kernels::Copy{x, y});
        expect_near(y, expected, 0.0);
        return y.contents();
      });
    }
  }
}

TEST(Copy, RefusesToConvertF64) {
  const TestTensor x(DType::kF64, {1, 2}), y(DType::kF32, {1, 2});
  const Configuration configuration{available_instruction_sets().back(), 1};
  EXPECT_THROW(configuration.run(kernels::Copy{x, y}), base::InternalError);
  EXPECT_THROW(configuration.run(kernels::Copy{y, x}), base::InternalError);
}

TEST(Add, AddsAndMayOverwriteEitherOperand) {
  for (const Case& c : cases()) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      TestTensor a(dtype, {c.rows, c.width}, c.gap), b(dtype, {c.rows, c.width}, c.gap / 2);
      a.randomise(1);
      b.randomise(2);
      std::vector<double> expected;
      for (std::int64_t i = 0; i < a.size(); ++i) {
        expected.push_back(a[i] + b[i]);
      }
      for_each_configuration([&](const Configuration& configuration) {
        const TestTensor y(dtype, {c.rows, c.width}, c.gap), over_a(a), over_b(b);
        configuration.run(kernels::Add{a, b, y});
        configuration.run(kernels::Add{over_a, b, over_a});
        configuration.run(kernels::Add{a, over_b, over_b});
        expect_near(y, expected, 0.1);
        EXPECT_EQ(y.contents(), over_a.contents());
        EXPECT_EQ(y.contents(), over_b.contents());
        return y.contents();
      });
    }
  }
}

TEST(AddBias, AddsTheBiasToEveryRow) {
  for (const Case& c : cases()) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      TestTensor start(dtype, {c.rows, c.width}, c.gap), bias(dtype, {c.width});
      start.randomise(1);
      bias.randomise(2);
      std::vector<double> expected;
      for (std::int64_t i = 0; i < start.size(); ++i) {
        expected.push_back(start[i] + bias[i % c.width]);
      }
      for_each_configuration([&](const Configuration& configuration) {
        const TestTensor y(start);
        configuration.run(kernels::AddBias{bias, y});
        expect_near(y, expected, 0.1);
        return y.contents();
      });
    }
  }
}

TEST(SumRows, AddsTheSumOfTheRows) {
  for (const Case& c : cases()) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      TestTensor x(dtype, {c.rows, c.width}, c.gap), start(DType::kF32, {c.width});
      x.randomise(1);
      start.randomise(2);
      std::vector<double> expected;
      for (std::int64_t j = 0; j < c.width; ++j) {
        expected.push_back(start[j]);
        for (std::int64_t i = 0; i < c.rows; ++i) {
          expected.back() += x[i * c.width + j];
        }
      }
      for_each_configuration([&](const Configuration& configuration) {
        const TestTensor sum(start);
        configuration.run(kernels::SumRows{x, sum});
        expect_near(sum, expected, 10.0);
        return sum.contents();
      });
    }
  }
}

}  // namespace
}  // namespace flyover::devices::cpu::test
