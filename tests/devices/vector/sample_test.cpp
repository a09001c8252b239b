#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/vector/test_tensor.h"

namespace flyover::devices::cpu::test {
namespace {

struct Limits {
  double temperature = 1.0;
  std::int64_t top_k = 0;
  double top_p = 1.0;
};

/// The probability of each token: softmax, restricted by a full sort.
std::vector<double> exact_probabilities(const std::vector<double>& logits, const Limits& limits) {
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  if (limits.top_k > 0 && static_cast<std::size_t>(limits.top_k) < order.size()) {
    order.resize(static_cast<std::size_t>(limits.top_k));
  }
  std::vector<double> weights(logits.size(), 0.0);
  double total = 0;
  for (const std::size_t token : order) {
    weights[token] = std::exp((logits[token] - logits[order.front()]) / limits.temperature);
    total += weights[token];
  }
  double reached = 0, kept = 0;
  for (const std::size_t token : order) {
    const bool keeps = token == order.front() || reached < limits.top_p * total;
    reached += weights[token];
    weights[token] = keeps ? weights[token] : 0.0;
    kept += weights[token];
  }
  for (double& weight : weights) {
    weight /= kept;
  }
  return weights;
}

/// The tokens drawn from one row of logits at `points` equally spaced numbers in [0, 1).
std::vector<std::int64_t> draw(const Configuration& configuration, const std::vector<double>& logits,
                               const Limits& limits, std::int64_t points) {
  TestTensor row(DType::kF32, {1, static_cast<std::int64_t>(logits.size())});
  for (std::size_t j = 0; j < logits.size(); ++j) {
    row.set(static_cast<std::int64_t>(j), logits[j]);
  }
  TestTensor temperature(DType::kF32, {points}), top_k(DType::kI32, {points}), top_p(DType::kF32, {points});
  TestTensor uniform(DType::kF32, {points}), token(DType::kI32, {points}), log_probability(DType::kF32, {points});
  for (std::int64_t i = 0; i < points; ++i) {
    temperature.set(i, limits.temperature);
    top_k.set(i, static_cast<double>(limits.top_k));
    top_p.set(i, limits.top_p);
    uniform.set(i, static_cast<double>(i) / static_cast<double>(points));
  }
  // Every row is the same memory.
  const ConstView repeated{row.view().data, DType::kF32, kernels::Dims{points, row.size()}, kernels::Dims{0, 1}};
  configuration.run(kernels::Sample{repeated, temperature, top_k, top_p, uniform, token, log_probability});
  std::vector<std::int64_t> tokens;
  for (std::int64_t i = 0; i < points; ++i) {
    tokens.push_back(static_cast<std::int64_t>(token[i]));
    const double scale = limits.temperature == 0 ? 1.0 : limits.temperature;
    double sum = 0;
    for (const double logit : logits) {
      sum += std::exp((logit - logits[static_cast<std::size_t>(tokens.back())]) / scale);
    }
    EXPECT_NEAR(log_probability[i], -std::log(sum), 1e-5);
  }
  return tokens;
}

std::vector<std::byte> bytes_of(const std::vector<std::int64_t>& tokens) {
  const auto bytes = std::as_bytes(std::span(tokens));
  return {bytes.begin(), bytes.end()};
}

std::vector<double> normal_logits(std::int64_t count, double scale) {
  TestTensor values(DType::kF32, {count});
  values.randomise(11, scale);
  std::vector<double> logits;
  for (std::int64_t j = 0; j < count; ++j) {
    logits.push_back(values[j]);
  }
  return logits;
}

TEST(Sample, EveryTokenHasTheMeasureOfItsProbability) {
  constexpr std::int64_t kPoints = 2048;
  for (const std::int64_t vocabulary : {1, 2, 17, 300}) {
    const std::vector<double> logits = normal_logits(vocabulary, 2.0);
    for (const Limits& limits : std::initializer_list<Limits>{{},
                                                              {0.5},
                                                              {2.0, 5},
                                                              {1.0, 1},
                                                              {1.0, 100000},
                                                              {1.0, 0, 0.9},
                                                              {1.5, 0, 0.999},
                                                              {0.8, 12, 0.7},
                                                              {1.0, 0, 0.0},
                                                              {1.0, 0, 1e-6}}) {
      const std::vector<double> exact = exact_probabilities(logits, limits);
      for_each_configuration([&](const Configuration& configuration) {
        const std::vector<std::int64_t> tokens = draw(configuration, logits, limits, kPoints);
        EXPECT_TRUE(std::is_sorted(tokens.begin(), tokens.end()));
        for (std::int64_t j = 0; j < vocabulary; ++j) {
          const double probability = exact[static_cast<std::size_t>(j)];
          const auto drawn = static_cast<double>(std::count(tokens.begin(), tokens.end(), j));
          // An interval of length p holds p * points equally spaced numbers, give or take one.
          EXPECT_NEAR(drawn, probability * kPoints, 1.01) << "token " << j << " of " << vocabulary;
          EXPECT_TRUE(probability > 0 || drawn == 0) << "token " << j << " is excluded";
        }
        return bytes_of(tokens);
      });
    }
  }
}

TEST(Sample, LimitsFarIntoALargeVocabularyStopAtTheSameToken) {
  const std::vector<double> logits = normal_logits(5000, 1.0);
  for (const Limits& limits : std::initializer_list<Limits>{{1.0, 0, 0.3},
                                                            {1.0, 0, 0.9},
                                                            {1.0, 0, 0.9999},
                                                            {3.0, 40},
                                                            {1.0, 256},
                                                            {1.0, 257},
                                                            {1.0, 4999},
                                                            {1.0, 300, 0.8}}) {
    const std::vector<double> exact = exact_probabilities(logits, limits);
    for_each_configuration([&](const Configuration& configuration) {
      const std::vector<std::int64_t> tokens = draw(configuration, logits, limits, 131);
      double cumulative = 0;
      std::size_t at = 0;
      for (std::size_t i = 0; i < tokens.size(); ++i) {
        const double uniform = static_cast<double>(i) / 131.0;
        while (cumulative + exact[at] <= uniform) {
          cumulative += exact[at++];
        }
        EXPECT_EQ(tokens[i], static_cast<std::int64_t>(at));
      }
      return bytes_of(tokens);
    });
  }
}

TEST(Sample, TiesGoToTheLowestTokens) {
  const std::vector<double> logits = {0.0, 1.0, 1.0, -2.0, 1.0, 1.0};
  for_each_configuration([&](const Configuration& configuration) {
    const auto distinct = [&](const Limits& limits) {
      std::vector<std::int64_t> tokens = draw(configuration, logits, limits, 64);
      tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
      return tokens;
    };
    EXPECT_EQ(distinct({1.0, 2}), (std::vector<std::int64_t>{1, 2}));
    EXPECT_EQ(distinct({1.0, 4}), (std::vector<std::int64_t>{1, 2, 4, 5}));
    EXPECT_EQ(distinct({1.0, 4, 0.5}), (std::vector<std::int64_t>{1, 2}));
    EXPECT_EQ(distinct({1.0, 4, 0.51}), (std::vector<std::int64_t>{1, 2, 4}));
    EXPECT_EQ(distinct({1.0, 0, 0.0}), (std::vector<std::int64_t>{1}));
    EXPECT_EQ(distinct({0.0}), (std::vector<std::int64_t>{1}));
    return std::vector<std::byte>();
  });
}

TEST(Sample, GreedyTakesTheLargestLogitWhateverTheLimits) {
  const std::vector<double> logits = normal_logits(3001, 3.0);
  const auto largest = std::max_element(logits.begin(), logits.end()) - logits.begin();
  for_each_configuration([&](const Configuration& configuration) {
    for (const std::int64_t token : draw(configuration, logits, {0.0, 7, 0.5}, 5)) {
      EXPECT_EQ(token, largest);
    }
    return std::vector<std::byte>();
  });
}

TEST(Sample, AnImpossibleTokenIsNeverDrawn) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::vector<double> logits = {-kInfinity, 0.0, -kInfinity, 0.0, -kInfinity};
  for_each_configuration([&](const Configuration& configuration) {
    for (const Limits& limits : std::initializer_list<Limits>{{}, {1.0, 4}, {1.0, 0, 0.99}}) {
      for (const std::int64_t token : draw(configuration, logits, limits, 33)) {
        EXPECT_TRUE(token == 1 || token == 3) << token;
      }
    }
    return std::vector<std::byte>();
  });
}

TEST(Sample, NotANumberStaysVisibleAndTheTokenInRange) {
  TestTensor logits(DType::kF32, {2, 40}), temperature(DType::kF32, {2}), top_k(DType::kI32, {2});
  TestTensor top_p(DType::kF32, {2}), uniform(DType::kF32, {2}), token(DType::kI32, {2}), log_p(DType::kF32, {2});
  for (std::int64_t j = 0; j < 40; ++j) {
    logits.set(j, std::numeric_limits<double>::quiet_NaN());
    logits.set(40 + j, j == 20 ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(j));
  }
  for (std::int64_t i = 0; i < 2; ++i) {
    temperature.set(i, 1.0);
    top_k.set(i, 5);
    top_p.set(i, 0.9);
    uniform.set(i, 0.5);
  }
  for_each_configuration([&](const Configuration& configuration) {
    configuration.run(kernels::Sample{logits, temperature, top_k, top_p, uniform, token, log_p});
    for (std::int64_t i = 0; i < 2; ++i) {
      EXPECT_GE(token[i], 0.0);
      EXPECT_LT(token[i], 40.0);
      EXPECT_TRUE(std::isnan(log_p[i]));
    }
    return token.contents();
  });
}

TEST(Sample, MeaninglessLimitsAreRefused) {
  const Configuration configuration{available_instruction_sets().back(), 1};
  EXPECT_THROW(draw(configuration, {0.0, 1.0}, {-1.0}, 1), base::InternalError);
  EXPECT_THROW(draw(configuration, {0.0, 1.0}, {1.0, -1}, 1), base::InternalError);
  EXPECT_THROW(draw(configuration, {0.0, 1.0}, {1.0, 0, std::nan("")}, 1), base::InternalError);
  EXPECT_THROW(draw(configuration, {}, {}, 1), base::InternalError);
}

}  // namespace
}  // namespace flyover::devices::cpu::test
