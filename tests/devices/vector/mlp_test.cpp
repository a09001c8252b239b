#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "devices/vector/test_tensor.h"

namespace flyover::devices::cpu::test {
namespace {

struct Case {
  DType dtype;
  std::int64_t rows, width, gap;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const auto& [rows, width] : std::initializer_list<std::pair<std::int64_t, std::int64_t>>{
             {0, 5}, {3, 0}, {1, 1}, {3, 7}, {2, 16}, {5, 33}, {131, 257}, {2, 40001}}) {
      all.push_back({dtype, rows, width, 0});
      all.push_back({dtype, rows, width, 3});
    }
  }
  return all;
}

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

TEST(SwiGluForward, EqualsItsFormulaInF64) {
  for (const Case& c : cases()) {
    TestTensor gate_up(c.dtype, {c.rows, 2 * c.width}, c.gap);
    gate_up.randomise(1, 4.0);
    std::vector<double> expected;
    for (std::int64_t i = 0; i < c.rows * c.width; ++i) {
      const std::int64_t at = i / c.width * 2 * c.width + i % c.width;
      expected.push_back(gate_up[at] * sigmoid(gate_up[at]) * gate_up[at + c.width]);
    }
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor y(c.dtype, {c.rows, c.width}, c.gap);
      configuration.run(kernels::SwiGluForward{gate_up, y});
      expect_near(y, expected);
      return y.contents();
    });
  }
}

TEST(SwiGluBackward, EqualsItsFormulaInF64) {
  for (const Case& c : cases()) {
    TestTensor gate_up(c.dtype, {c.rows, 2 * c.width}, c.gap), dy(c.dtype, {c.rows, c.width}, c.gap);
    gate_up.randomise(1, 4.0);
    dy.randomise(2);
    std::vector<double> expected(static_cast<std::size_t>(gate_up.size()));
    for (std::int64_t i = 0; i < c.rows * c.width; ++i) {
      const std::int64_t at = i / c.width * 2 * c.width + i % c.width;
      const double gate = gate_up[at], up = gate_up[at + c.width], s = sigmoid(gate);
      expected[static_cast<std::size_t>(at)] = dy[i] * up * s * (1 + gate * (1 - s));
      expected[static_cast<std::size_t>(at + c.width)] = dy[i] * gate * s;
    }
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor dgate_up(c.dtype, {c.rows, 2 * c.width}, c.gap);
      configuration.run(kernels::SwiGluBackward{gate_up, dy, dgate_up});
      expect_near(dgate_up, expected, 4.0);
      return dgate_up.contents();
    });
  }
}

TEST(SwiGluForward, HoldsAtTheLimitsOfTheGate) {
  const std::vector<double> gates = {0.0, 100.0, 1e30, -20.0, -1e30, std::numeric_limits<double>::quiet_NaN()};
  const auto width = static_cast<std::int64_t>(gates.size());
  TestTensor gate_up(DType::kF32, {1, 2 * width});
  for (std::int64_t i = 0; i < width; ++i) {
    gate_up.set(i, gates[static_cast<std::size_t>(i)]);
    gate_up.set(width + i, 1.0);
  }
  for_each_configuration([&](const Configuration& configuration) {
    const TestTensor y(DType::kF32, {1, width});
    configuration.run(kernels::SwiGluForward{gate_up, y});
    EXPECT_EQ(y[0], 0.0);
    EXPECT_EQ(y[1], 100.0);
    EXPECT_EQ(y[2], static_cast<double>(1e30f));
    EXPECT_NEAR(y[3], -20.0 * sigmoid(-20.0), 1e-14);
    EXPECT_EQ(y[4], 0.0);
    EXPECT_TRUE(std::isnan(y[5]));
    return y.contents();
  });
}

TEST(SwiGluBackward, MayOverwriteItsInput) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    TestTensor gate_up(dtype, {9, 2 * 37}), dy(dtype, {9, 37});
    gate_up.randomise(1);
    dy.randomise(2);
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor apart(dtype, {9, 2 * 37}), in_place(gate_up);
      configuration.run(kernels::SwiGluBackward{gate_up, dy, apart});
      configuration.run(kernels::SwiGluBackward{in_place, dy, in_place});
      EXPECT_EQ(apart.contents(), in_place.contents());
      return apart.contents();
    });
  }
}

TEST(SwiGlu, RowHasTheSameBitsAloneAndInABatch) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    TestTensor gate_up(dtype, {50, 2 * 401}, 3);
    gate_up.randomise(1);
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor y(dtype, {50, 401}), alone(dtype, {1, 401});
      configuration.run(kernels::SwiGluForward{gate_up, y});
      configuration.run(kernels::SwiGluForward{kernels::slice_rows(ConstView(gate_up), 47, 1), alone});
      for (std::int64_t j = 0; j < 401; ++j) {
        EXPECT_EQ(alone[j], y[47 * 401 + j]);
      }
      return y.contents();
    });
  }
}

}  // namespace
}  // namespace flyover::devices::cpu::test
