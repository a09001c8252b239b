#include <cmath>

#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/vector/test_tensor.h"

namespace flyover::devices::cpu::test {
namespace {

// Large enough to show in the results.
constexpr float kEpsilon = 0.3f;

struct Case {
  DType dtype;
  std::int64_t rows, width, gap;
  bool weighted;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const auto& [rows, width] : std::initializer_list<std::pair<std::int64_t, std::int64_t>>{
             {0, 5}, {1, 1}, {3, 7}, {2, 16}, {5, 33}, {4, 64}, {131, 65}, {261, 577}}) {
      all.push_back({dtype, rows, width, 0, true});
      all.push_back({dtype, rows, width, 3, false});
    }
  }
  return all;
}

std::string describe(const Case& c) {
  return fmt::format("{}[{}, {}] gap {} weighted {}", kernels::name_of(c.dtype), c.rows, c.width, c.gap, c.weighted);
}

/// The operands of a case, and rstd as the forward pass defines it.
struct Operands {
  explicit Operands(const Case& c)
      : x(c.dtype, {c.rows, c.width}, c.gap),
        dy(c.dtype, {c.rows, c.width}, 2 * c.gap),
        weight(c.dtype, {c.width}),
        rstd(DType::kF32, {c.rows}),
        weighted(c.weighted) {
    x.randomise(1, 3.0);
    dy.randomise(2);
    weight.randomise(3);
    for (std::int64_t i = 0; i < c.rows; ++i) {
      double squares = 0;
      for (std::int64_t j = 0; j < c.width; ++j) {
        squares += x[i * c.width + j] * x[i * c.width + j];
      }
      rstd.set(i, 1.0 / std::sqrt(squares / static_cast<double>(c.width) + static_cast<double>(kEpsilon)));
    }
  }
  std::optional<ConstView> optional_weight() const {
    return weighted ? std::optional<ConstView>(weight) : std::nullopt;
  }
  double weight_at(std::int64_t j) const { return weighted ? weight[j] : 1.0; }

  TestTensor x, dy, weight, rstd;
  bool weighted;
};

TEST(RmsNormForward, EqualsItsFormulaInF64) {
  for (const Case& c : cases()) {
    const Operands operands(c);
    std::vector<double> expected;
    for (std::int64_t i = 0; i < operands.x.size(); ++i) {
      expected.push_back(operands.x[i] * operands.rstd[i / c.width] * operands.weight_at(i % c.width));
    }
    std::vector<double> expected_rstd;
    for (std::int64_t i = 0; i < c.rows; ++i) {
      expected_rstd.push_back(operands.rstd[i]);
    }
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor y(c.dtype, {c.rows, c.width}, c.gap + 1), rstd(DType::kF32, {c.rows});
      configuration.run(kernels::RmsNormForward{operands.x, operands.optional_weight(), y, rstd, kEpsilon});
      expect_near(y, expected, 1.0, describe(c));
      expect_near(rstd, expected_rstd, 0.0, describe(c));
      return y.contents() + rstd.contents();
    });
  }
}

TEST(RmsNormForward, RowHasTheSameBitsAloneAndInABatch) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    const Operands operands({dtype, 77, 577, 5, true});
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor y(dtype, {77, 577}), rstd(DType::kF32, {77});
      configuration.run(kernels::RmsNormForward{operands.x, ConstView(operands.weight), y, rstd, kEpsilon});
      for (const std::int64_t row : {0, 1, 30, 76}) {
        const TestTensor alone(dtype, {1, 577}), its_rstd(DType::kF32, {1});
        configuration.run(kernels::RmsNormForward{kernels::slice_rows(ConstView(operands.x), row, 1),
                                                  ConstView(operands.weight), alone, its_rstd, kEpsilon});
        for (std::int64_t j = 0; j < 577; ++j) {
          EXPECT_EQ(alone[j], y[row * 577 + j]);
        }
        EXPECT_EQ(its_rstd[0], rstd[row]);
      }
      return y.contents();
    });
  }
}

TEST(RmsNormBackward, EqualsItsFormulaInF64) {
  for (const Case& c : cases()) {
    for (const bool accumulate : {false, true}) {
      const Operands operands(c);
      TestTensor start(c.dtype, {c.rows, c.width}, c.gap + 1);
      start.randomise(4);
      std::vector<double> expected;
      for (std::int64_t i = 0; i < c.rows; ++i) {
        const auto g = [&](std::int64_t j) { return operands.dy[i * c.width + j] * operands.weight_at(j); };
        const auto x = [&](std::int64_t j) { return operands.x[i * c.width + j]; };
        double mean = 0;
        for (std::int64_t j = 0; j < c.width; ++j) {
          mean += g(j) * x(j) / static_cast<double>(c.width);
        }
        const double rstd = operands.rstd[i];
        for (std::int64_t j = 0; j < c.width; ++j) {
          expected.push_back((accumulate ? start[i * c.width + j] : 0.0) + rstd * (g(j) - x(j) * rstd * rstd * mean));
        }
      }
      for_each_configuration([&](const Configuration& configuration) {
        const TestTensor dx(start);
        configuration.run(kernels::RmsNormBackward{operands.x, operands.optional_weight(), operands.rstd, operands.dy,
                                                   dx, accumulate});
        expect_near(dx, expected, 4.0, describe(c));
        return dx.contents();
      });
    }
  }
}

TEST(RmsNormBackward, RowHasTheSameBitsAloneAndInABatch) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    const Operands operands({dtype, 77, 577, 5, true});
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor dx(dtype, {77, 577});
      configuration.run(
          kernels::RmsNormBackward{operands.x, ConstView(operands.weight), operands.rstd, operands.dy, dx, false});
      for (const std::int64_t row : {0, 41, 76}) {
        const TestTensor alone(dtype, {1, 577});
        configuration.run(kernels::RmsNormBackward{kernels::slice_rows(ConstView(operands.x), row, 1),
                                                   ConstView(operands.weight),
                                                   kernels::slice_rows(ConstView(operands.rstd), row, 1),
                                                   kernels::slice_rows(ConstView(operands.dy), row, 1), alone, false});
        for (std::int64_t j = 0; j < 577; ++j) {
          EXPECT_EQ(alone[j], dx[row * 577 + j]);
        }
      }
      return dx.contents();
    });
  }
}

TEST(RmsNormWeightGradient, EqualsItsFormulaInF64) {
  for (const Case& c : cases()) {
    const Operands operands(c);
    TestTensor start(DType::kF32, {c.width});
    start.randomise(4);
    std::vector<double> expected;
    for (std::int64_t j = 0; j < c.width; ++j) {
      expected.push_back(start[j]);
      for (std::int64_t i = 0; i < c.rows; ++i) {
        expected.back() += operands.dy[i * c.width + j] * operands.x[i * c.width + j] * operands.rstd[i];
      }
    }
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor dweight(start);
      configuration.run(kernels::RmsNormWeightGradient{operands.x, operands.rstd, operands.dy, dweight});
      expect_near(dweight, expected, 10.0, describe(c));
      return dweight.contents();
    });
  }
}

TEST(RmsNormForward, AnEmptyRowIsFine) {
  for_each_configuration([](const Configuration& configuration) {
    const TestTensor x(DType::kBf16, {3, 0}), y(DType::kBf16, {3, 0}), rstd(DType::kF32, {3});
    configuration.run(kernels::RmsNormForward{x, std::nullopt, y, rstd, kEpsilon});
    return y.contents();
  });
}

TEST(RmsNormForward, RefusesF64NamingKernelAndType) {
  const TestTensor x(DType::kF64, {2, 3}), y(DType::kF64, {2, 3}), rstd(DType::kF64, {2});
  const Configuration configuration{available_instruction_sets().back(), 1};
  try {
    configuration.run(kernels::RmsNormForward{x, std::nullopt, y, rstd, kEpsilon});
    FAIL();
  } catch (const base::InternalError& error) {
    EXPECT_NE(std::string(error.what()).find("rms_norm_forward"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("f64"), std::string::npos);
  }
}

}  // namespace
}  // namespace flyover::devices::cpu::test
