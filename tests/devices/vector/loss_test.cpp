#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/vector/test_tensor.h"

namespace flyover::devices::cpu::test {
namespace {

using kernels::kIgnoredTarget;

/// Logits with targets, of which every fourth is ignored.
struct Operands {
  Operands(std::int64_t rows, std::int64_t vocabulary, std::int64_t gap)
      : logits(DType::kF32, {rows, vocabulary}, gap), targets(DType::kI32, {rows}), weights(DType::kF32, {rows}) {
    logits.randomise(1, 5.0);
    weights.randomise(2);
    for (std::int64_t i = 0; i < rows; ++i) {
      targets.set(i, i % 4 == 3 || vocabulary == 0 ? kIgnoredTarget : static_cast<double>(i * 7919 % vocabulary));
    }
  }
  /// log softmax(logits[row] / temperature), all of it.
  std::vector<double> log_softmax(std::int64_t row, double temperature) const {
    const std::int64_t vocabulary = logits.view().size(1);
    std::vector<double> values;
    double sum = 0;
    for (std::int64_t j = 0; j < vocabulary; ++j) {
      values.push_back(logits[row * vocabulary + j] / temperature);
      sum += std::exp(values.back());
    }
    for (double& value : values) {
      value -= std::log(sum);
    }
    return values;
  }
  std::vector<double> log_probabilities(double temperature) const {
    std::vector<double> values;
    for (std::int64_t i = 0; i < targets.size(); ++i) {
      values.push_back(
          targets[i] == kIgnoredTarget ? 0.0 : log_softmax(i, temperature)[static_cast<std::size_t>(targets[i])]);
    }
    return values;
  }
  TestTensor logits, targets, weights;
};

struct Case {
  std::int64_t rows, vocabulary, gap;
};

std::vector<Case> cases() {
  return {{0, 9, 0}, {3, 0, 0}, {2, 1, 0}, {5, 7, 2}, {4, 16, 0}, {130, 257, 3}, {9, 12289, 1}, {3, 50001, 0}};
}

TEST(LogProbability, IsTheLogSoftmaxAtTheTarget) {
  for (const Case& c : cases()) {
    const Operands operands(c.rows, c.vocabulary, c.gap);
    for (const float temperature : {1.0f, 0.6f, 3.0f}) {
      const std::vector<double> expected = operands.log_probabilities(static_cast<double>(temperature));
      for_each_configuration([&](const Configuration& configuration) {
        const TestTensor log_probability(DType::kF32, {c.rows});
        configuration.run(kernels::LogProbability{operands.logits, operands.targets, log_probability, temperature});
        expect_near(log_probability, expected, 1.0);
        return log_probability.contents();
      });
    }
  }
}

TEST(LogProbability, HoldsForExtremeLogits) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  TestTensor logits(DType::kF32, {5, 3}), targets(DType::kI32, {5});
  const std::vector<double> values = {1e30,  0,          0,          -1e30, -1e30,
                                      -1e30, 0,          -kInfinity, 0,     1000,
                                      999,   -kInfinity, 0,          0,     std::numeric_limits<double>::quiet_NaN()};
  for (std::int64_t i = 0; i < logits.size(); ++i) {
    logits.set(i, values[static_cast<std::size_t>(i)]);
  }
  targets.set(2, 1);
  for_each_configuration([&](const Configuration& configuration) {
    const TestTensor log_probability(DType::kF32, {5});
    configuration.run(kernels::LogProbability{logits, targets, log_probability, 1.0f});
    EXPECT_EQ(log_probability[0], 0.0);
    EXPECT_NEAR(log_probability[1], -std::log(3.0), 1e-7);
    EXPECT_EQ(log_probability[2], -kInfinity);
    EXPECT_NEAR(log_probability[3], -std::log1p(std::exp(-1.0)), 1e-7);
    EXPECT_TRUE(std::isnan(log_probability[4]));
    return log_probability.contents();
  });
}

TEST(LogProbability, ThoseOfLossTrainerAndGenerationHaveTheSameBits) {
  for (const Case& c : cases()) {
    if (c.rows == 0 || c.vocabulary == 0) {
      continue;
    }
    for (const float temperature : {1.0f, 0.7f}) {
      const Operands operands(c.rows, c.vocabulary, c.gap);
      for_each_configuration([&](const Configuration& configuration) {
        TestTensor temperatures(DType::kF32, {c.rows}), top_k(DType::kI32, {c.rows}), top_p(DType::kF32, {c.rows});
        TestTensor uniform(DType::kF32, {c.rows}), token(DType::kI32, {c.rows}), sampled(DType::kF32, {c.rows});
        for (std::int64_t i = 0; i < c.rows; ++i) {
          temperatures.set(i, static_cast<double>(temperature));
          top_k.set(i, static_cast<double>(i % 3));
          top_p.set(i, 0.9);
          uniform.set(i, static_cast<double>(i) / static_cast<double>(c.rows));
        }
        configuration.run(kernels::Sample{operands.logits, temperatures, top_k, top_p, uniform, token, sampled});
        const TestTensor trained(DType::kF32, {c.rows});
        configuration.run(kernels::LogProbability{operands.logits, token, trained, temperature});
        EXPECT_EQ(sampled.contents(), trained.contents());
        // One row alone, from other memory.
        const TestTensor alone(DType::kF32, {1});
        configuration.run(kernels::LogProbability{kernels::slice_rows(ConstView(operands.logits), c.rows - 1, 1),
                                                  kernels::slice_rows(ConstView(token), c.rows - 1, 1), alone,
                                                  temperature});
        EXPECT_EQ(alone[0], trained[c.rows - 1]);
        if (temperature == 1.0f) {
          const TestTensor loss(DType::kF32, {c.rows}), dlogits(DType::kBf16, {c.rows, c.vocabulary});
          configuration.run(kernels::CrossEntropy{operands.logits, token, operands.weights, loss, dlogits});
          EXPECT_EQ(loss.contents(), trained.contents());
        }
        return trained.contents();
      });
    }
  }
}

TEST(CrossEntropy, EqualsItsFormulaInF64) {
  for (const Case& c : cases()) {
    const Operands operands(c.rows, c.vocabulary, c.gap);
    std::vector<double> expected;
    for (std::int64_t i = 0; i < c.rows; ++i) {
      const std::vector<double> log_p = operands.log_softmax(i, 1.0);
      for (std::int64_t j = 0; j < c.vocabulary; ++j) {
        const double indicator = static_cast<double>(j) == operands.targets[i] ? 1.0 : 0.0;
        const bool ignored = operands.targets[i] == kIgnoredTarget;
        const double p = std::exp(log_p[static_cast<std::size_t>(j)]);
        expected.push_back(ignored ? 0.0 : operands.weights[i] * (p - indicator));
      }
    }
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      for_each_configuration([&](const Configuration& configuration) {
        const TestTensor log_probability(DType::kF32, {c.rows}), dlogits(dtype, {c.rows, c.vocabulary}, c.gap);
        configuration.run(
            kernels::CrossEntropy{operands.logits, operands.targets, operands.weights, log_probability, dlogits});
        expect_near(log_probability, operands.log_probabilities(1.0));
        expect_near(dlogits, expected, 0.1);
        return log_probability.contents() + dlogits.contents();
      });
    }
  }
}

TEST(CrossEntropy, MayOverwriteItsLogits) {
  const Operands operands(9, 1037, 3);
  for_each_configuration([&](const Configuration& configuration) {
    const TestTensor loss(DType::kF32, {9}), apart(DType::kF32, {9, 1037}), in_place(operands.logits);
    const TestTensor loss_in_place(DType::kF32, {9});
    configuration.run(kernels::CrossEntropy{operands.logits, operands.targets, operands.weights, loss, apart});
    configuration.run(kernels::CrossEntropy{in_place, operands.targets, operands.weights, loss_in_place, in_place});
    EXPECT_EQ(apart.contents(), in_place.contents());
    EXPECT_EQ(loss.contents(), loss_in_place.contents());
    return in_place.contents();
  });
}

TEST(CrossEntropy, AnIgnoredRowGetsZerosWhateverItHolds) {
  TestTensor logits(DType::kF32, {1, 20}), targets(DType::kI32, {1}), weights(DType::kF32, {1});
  for (std::int64_t j = 0; j < 20; ++j) {
    logits.set(j, std::numeric_limits<double>::quiet_NaN());
  }
  targets.set(0, kIgnoredTarget);
  weights.set(0, std::numeric_limits<double>::quiet_NaN());
  for_each_configuration([&](const Configuration& configuration) {
    TestTensor loss(DType::kF32, {1}), dlogits(DType::kBf16, {1, 20});
    loss.randomise(1);
    dlogits.randomise(2);
    configuration.run(kernels::CrossEntropy{logits, targets, weights, loss, dlogits});
    expect_near(loss, {0.0}, 0.0);
    expect_near(dlogits, std::vector<double>(20, 0.0), 0.0);
    return dlogits.contents();
  });
}

TEST(CrossEntropy, ATargetOutsideTheVocabularyIsRefused) {
  for (const double bad : {-2.0, 7.0, 2147483647.0}) {
    Operands operands(3, 7, 0);
    operands.targets.set(2, bad);
    const TestTensor loss(DType::kF32, {3}), dlogits(DType::kF32, {3, 7});
    const Configuration configuration{available_instruction_sets().back(), 2};
    EXPECT_THROW(
        configuration.run(kernels::CrossEntropy{operands.logits, operands.targets, operands.weights, loss, dlogits}),
        base::InternalError);
    EXPECT_THROW(configuration.run(kernels::LogProbability{operands.logits, operands.targets, loss, 1.0f}),
                 base::InternalError);
  }
}

TEST(WeightedSum, AddsTheScaledSumOfProducts) {
  for (const std::int64_t count : {0, 1, 15, 4096, 4097, 30011}) {
    TestTensor x(DType::kF32, {count}), weights(DType::kF32, {count}), start(DType::kF32, {1});
    x.randomise(1);
    weights.randomise(2);
    start.set(0, 0.5);
    double expected = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      expected += x[i] * weights[i];
    }
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor sum(start);
      configuration.run(kernels::WeightedSum{x, weights, sum, -2.5f});
      expect_near(sum, {0.5 - 2.5 * expected}, 10.0);
      return sum.contents();
    });
  }
}

}  // namespace
}  // namespace flyover::devices::cpu::test
