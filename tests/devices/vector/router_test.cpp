#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/vector/test_tensor.h"

namespace flyover::devices::cpu::test {
namespace {

using kernels::RouterScore;

constexpr RouterScore kScores[] = {RouterScore::kSoftmax, RouterScore::kSigmoid, RouterScore::kSqrtSoftplus};
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TestTensor tensor_of(std::vector<std::int64_t> shape, const std::vector<double>& values, DType dtype = DType::kF32) {
  TestTensor tensor(dtype, std::move(shape));
  for (std::int64_t i = 0; i < tensor.size(); ++i) {
    tensor.set(i, values[static_cast<std::size_t>(i)]);
  }
  return tensor;
}

TEST(RouterForward, SqrtSoftplusHoldsOverTheWholeRange) {
  std::vector<double> logits = {-kInfinity, kInfinity, 0.0, -0.0, 1e30, 88.0, 89.0, -19.999, -20.0, -20.001};
  for (double x = -170.0; x < 60.0; x += 0.37) {
    logits.push_back(static_cast<double>(static_cast<float>(x)));
  }
  const auto count = static_cast<std::int64_t>(logits.size());
  const TestTensor rows = tensor_of({count, 1}, logits);
  for_each_configuration([&](const Configuration& configuration) {
    const TestTensor experts(DType::kI32, {count, 1}), weights(DType::kF32, {count, 1});
    configuration.run(kernels::RouterForward{
        rows, std::nullopt, std::nullopt, experts, weights, {RouterScore::kSqrtSoftplus, 1, 1, false, 1.0f}});
    for (std::int64_t i = 0; i < count; ++i) {
      const double x = logits[static_cast<std::size_t>(i)];
      const double expected = std::sqrt(x > 50 ? x : std::log1p(std::exp(x)));
      if (std::isinf(expected)) {
        EXPECT_EQ(weights[i], expected);
      } else {
        EXPECT_NEAR(weights[i], expected, 1e-6 * expected + 1e-37) << x;
      }
    }
    return weights.contents();
  });
}

TEST(RouterForward, EqualScoresGoToTheLowerIndex) {
  // 45 experts of only three different scores; the two best scores have 9 and 18 experts.
  std::vector<double> logits(45);
  std::vector<double> expected;
  for (std::size_t i = 0; i < 45; ++i) {
    logits[i] = i % 5 == 3 ? 2.0 : i % 5 < 2 ? 1.0 : 0.0;
  }
  for (const double wanted : {2.0, 1.0}) {
    for (std::size_t i = 0; i < 45; ++i) {
      if (logits[i] == wanted) {
        expected.push_back(static_cast<double>(i));
      }
    }
  }
  const TestTensor row = tensor_of({1, 45}, logits);
  for (const RouterScore score : kScores) {
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor experts(DType::kI32, {1, 20}), weights(DType::kF32, {1, 20});
      configuration.run(
          kernels::RouterForward{row, std::nullopt, std::nullopt, experts, weights, {score, 1, 1, true, 1.0f}});
      for (std::int64_t i = 0; i < 20; ++i) {
        EXPECT_EQ(experts[i], expected[static_cast<std::size_t>(i)]);
      }
      return experts.contents() + weights.contents();
    });
  }
}

TEST(RouterForward, LogitsThatAreNoNumbersShowInTheWeightsAndNowhereElse) {
  constexpr std::int64_t kExperts = 24;
  TestTensor logits(DType::kF32, {4, kExperts});
  logits.randomise(1);
  logits.set(17, kNaN);                          // one in row 0
  for (std::int64_t i = 0; i < kExperts; ++i) {  // all of row 1
    logits.set(kExperts + i, kNaN);
    logits.set(2 * kExperts + i, i == 3 ? kNaN : -kInfinity);
  }
  for (const RouterScore score : kScores) {
    for (const std::int64_t groups : {1, 4}) {
      for_each_configuration([&](const Configuration& configuration) {
        const TestTensor experts(DType::kI32, {4, 6}), weights(DType::kF32, {4, 6});
        configuration.run(kernels::RouterForward{
            logits, std::nullopt, std::nullopt, experts, weights, {score, groups, groups == 1 ? 1 : 2, true, 1.0f}});
        for (std::int64_t token = 0; token < 4; ++token) {
          std::set<double> chosen;
          for (std::int64_t i = 0; i < 6; ++i) {
            const double expert = experts[token * 6 + i];
            EXPECT_TRUE(expert >= 0 && expert < kExperts) << expert;
            chosen.insert(expert);
            EXPECT_EQ(std::isnan(weights[token * 6 + i]), token < 3);
          }
          EXPECT_EQ(chosen.size(), 6u);
        }
        return experts.contents() + weights.contents();
      });
    }
  }
}

TEST(RouterForward, RowHasTheSameBitsAloneInABatchAndWithItsExpertsFixed) {
  TestTensor logits(DType::kF32, {33, 130}, 3), bias(DType::kF32, {130});
  logits.randomise(1, 3.0);
  bias.randomise(2, 0.1);
  for (const RouterScore score : kScores) {
    const kernels::RouterRule rule{score, 10, 4, true, 1.5f};
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor experts(DType::kI32, {33, 7}), weights(DType::kF32, {33, 7}),
          fixed_experts(DType::kI32, {33, 7}), fixed_weights(DType::kF32, {33, 7}), one_expert(DType::kI32, {1, 7}),
          one_weight(DType::kF32, {1, 7});
      configuration.run(kernels::RouterForward{logits, bias.view(), std::nullopt, experts, weights, rule});
      configuration.run(
          kernels::RouterForward{logits, std::nullopt, experts.view(), fixed_experts, fixed_weights, rule});
      EXPECT_TRUE(fixed_experts.contents() == experts.contents());
      EXPECT_TRUE(fixed_weights.contents() == weights.contents());
      configuration.run(kernels::RouterForward{kernels::slice_rows(ConstView(logits), 31, 1), bias.view(), std::nullopt,
                                               one_expert, one_weight, rule});
      for (std::int64_t i = 0; i < 7; ++i) {
        EXPECT_EQ(one_expert[i], experts[31 * 7 + i]);
        EXPECT_EQ(one_weight[i], weights[31 * 7 + i]);
      }
      return experts.contents() + weights.contents();
    });
  }
}

TEST(RouterBackward, IsFiniteWhereAllScoresVanish) {
  const TestTensor logits = tensor_of({1, 4}, {-400.0, -400.0, -300.0, 0.0});
  const TestTensor experts = tensor_of({1, 2}, {0, 1}, DType::kI32), dweights = tensor_of({1, 2}, {1.0, -2.0});
  for (const RouterScore score : kScores) {
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor dlogits(DType::kF32, {1, 4});
      configuration.run(kernels::RouterBackward{logits, experts, dweights, dlogits, {score, 1, 1, true, 1.0f}});
      for (std::int64_t i = 0; i < 4; ++i) {
        EXPECT_EQ(dlogits[i], 0.0);
      }
      return dlogits.contents();
    });
  }
}

TEST(Router, ExpertsAndDocumentsThatAreNoneAreBugs) {
  const TestTensor logits(DType::kF32, {2, 3}), weights(DType::kF32, {2, 1}), experts(DType::kI32, {2, 1}),
      loss(DType::kF32, {1}), one(DType::kF32, {1});
  const TestTensor document = tensor_of({1, 4}, {0, 2, 0, 0}, DType::kI32);
  for (const double wrong : {-1.0, 3.0}) {
    const TestTensor chosen = tensor_of({2, 1}, {0.0, wrong}, DType::kI32);
    const TestTensor outside = tensor_of({1, 4}, {wrong, 2.0, 0, 0}, DType::kI32);
    for_each_configuration([&](const Configuration& configuration) {
      EXPECT_THROW(configuration.run(kernels::RouterForward{logits, std::nullopt, chosen.view(), experts, weights, {}}),
                   base::InternalError);
      EXPECT_THROW(configuration.run(kernels::RouterBackward{logits, chosen, weights, logits, {}}),
                   base::InternalError);
      for (const auto& [table, documents] : {std::pair(&chosen, &document), {&experts, &outside}}) {
        EXPECT_THROW(configuration.run(kernels::RouterBalance{logits, *table, *documents, one, loss, logits}),
                     base::InternalError);
      }
      return loss.contents();
    });
  }
}

TEST(RouterBalance, LongDocumentEqualsItsFormulaInF64) {
  constexpr std::int64_t kTokens = 3000, kExperts = 40, kChoices = 3;
  TestTensor logits(DType::kF32, {kTokens, kExperts}), experts(DType::kI32, {kTokens, kChoices});
  logits.randomise(1);
  std::vector<double> f(kExperts), mean(kExperts);
  for (std::int64_t token = 0; token < kTokens; ++token) {
    double sum = 0;
    std::vector<double> scores;
    for (std::int64_t i = 0; i < kExperts; ++i) {
      scores.push_back(1.0 / (1.0 + std::exp(-logits[token * kExperts + i])));
      sum += scores.back();
    }
    for (std::size_t i = 0; i < kExperts; ++i) {
      mean[i] += scores[i] / sum / kTokens;
    }
    for (std::int64_t choice = 0; choice < kChoices; ++choice) {
      const std::int64_t expert = (token * token + choice) % kExperts;
      experts.set(token * kChoices + choice, static_cast<double>(expert));
      f[static_cast<std::size_t>(expert)] += 1.0 * kExperts / kChoices / kTokens;
    }
  }
  double expected = 0;
  for (std::size_t i = 0; i < kExperts; ++i) {
    expected += 0.5 * f[i] * mean[i];
  }
  const TestTensor document = tensor_of({1, 4}, {0, kTokens, 0, 0}, DType::kI32), weight = tensor_of({1}, {2.0});
  for_each_configuration([&](const Configuration& configuration) {
    const TestTensor loss(DType::kF32, {1}), dlogits(DType::kF32, {kTokens, kExperts});
    configuration.run(
        kernels::RouterBalance{logits, experts, document, weight, loss, dlogits, RouterScore::kSigmoid, 0.25f});
    EXPECT_NEAR(loss[0], expected, 1e-6);
    return loss.contents() + dlogits.contents();
  });
}

}  // namespace
}  // namespace flyover::devices::cpu::test
