#include <algorithm>
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

TEST(SwiGlu, WithRowWeightsAndALimitEqualsItsFormulaInF64) {
  for (const Case& c : cases()) {
    for (const float limit : {0.8f, std::numeric_limits<float>::infinity()}) {
      TestTensor gate_up(c.dtype, {c.rows, 2 * c.width}, c.gap), dy(c.dtype, {c.rows, c.width}, c.gap);
      TestTensor row_weights(DType::kF32, {c.rows});
      gate_up.randomise(1, 2.0);
      dy.randomise(2);
      row_weights.randomise(3);
      const auto bound = static_cast<double>(limit);
      std::vector<double> y(static_cast<std::size_t>(dy.size())), dgate_up(static_cast<std::size_t>(gate_up.size())),
          drow_weights(static_cast<std::size_t>(c.rows));
      for (std::int64_t i = 0; i < c.rows * c.width; ++i) {
        const std::int64_t row = i / c.width, at = row * 2 * c.width + i % c.width;
        const double raw_gate = gate_up[at], raw_up = gate_up[at + c.width], weight = row_weights[row];
        const double gate = std::min(raw_gate, bound), up = std::clamp(raw_up, -bound, bound), s = sigmoid(gate);
        y[static_cast<std::size_t>(i)] = weight * gate * s * up;
        dgate_up[static_cast<std::size_t>(at)] = raw_gate > bound ? 0 : weight * dy[i] * up * s * (1 + gate * (1 - s));
        dgate_up[static_cast<std::size_t>(at + c.width)] = std::fabs(raw_up) > bound ? 0 : weight * dy[i] * gate * s;
        drow_weights[static_cast<std::size_t>(row)] += dy[i] * gate * s * up;
      }
      for_each_configuration([&](const Configuration& configuration) {
        const TestTensor result(c.dtype, {c.rows, c.width}, c.gap), gradient(c.dtype, {c.rows, 2 * c.width}, c.gap),
            weight_gradient(DType::kF32, {c.rows});
        configuration.run(kernels::SwiGluForward{gate_up, result, row_weights.view(), limit});
        configuration.run(
            kernels::SwiGluBackward{gate_up, dy, gradient, row_weights.view(), weight_gradient.view(), limit});
        expect_near(result, y, 2.0);
        expect_near(gradient, dgate_up, 8.0);
        expect_near(weight_gradient, drow_weights, 4.0 * std::sqrt(static_cast<double>(c.width)));
        return result.contents() + gradient.contents() + weight_gradient.contents();
      });
    }
  }
}

TEST(SwiGlu, WeightOfOneAndNoLimitGiveTheBitsOfThePlainKernel) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    TestTensor gate_up(dtype, {7, 2 * 143}), row_weights(DType::kF32, {7});
    gate_up.randomise(1, 4.0);
    for (std::int64_t i = 0; i < 7; ++i) {
      row_weights.set(i, 1.0);
    }
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor plain(dtype, {7, 143}), weighted(dtype, {7, 143});
      configuration.run(kernels::SwiGluForward{gate_up, plain});
      configuration.run(kernels::SwiGluForward{gate_up, weighted, row_weights.view()});
      EXPECT_TRUE(plain.contents() == weighted.contents());
      return plain.contents();
    });
  }
}

TEST(SwiGlu, LimitKeepsNaN) {
  TestTensor gate_up(DType::kF32, {1, 4}), dy(DType::kF32, {1, 2});
  gate_up.set(0, std::numeric_limits<double>::quiet_NaN());
  gate_up.set(2, 1.0);
  gate_up.set(1, 1.0);
  gate_up.set(3, std::numeric_limits<double>::quiet_NaN());
  dy.set(0, 1.0);
  dy.set(1, 1.0);
  for_each_configuration([&](const Configuration& configuration) {
    const TestTensor y(DType::kF32, {1, 2}), gradient(DType::kF32, {1, 4});
    configuration.run(kernels::SwiGluForward{gate_up, y, std::nullopt, 10.0f});
    configuration.run(kernels::SwiGluBackward{gate_up, dy, gradient, std::nullopt, std::nullopt, 10.0f});
    EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[1]));
    EXPECT_TRUE(std::isnan(gradient[0]) && std::isnan(gradient[1]));
    return y.contents();
  });
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
