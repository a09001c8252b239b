// Answers of the mixture-of-experts kernels that are worked out by hand, on the reference device.
#include <limits>

#include "devices/reference/values.h"

namespace flyover::tests {
namespace {

using kernels::DType;
using kernels::RouterScore;
using kernels::View;

class ExpertAnswer : public KnownAnswer {};
INSTANTIATE_TEST_SUITE_P(Types, ExpertAnswer, testing::Values(DType::kF32, DType::kF64), DTypeName());

TEST_P(ExpertAnswer, SigmoidRouterChoosesWithBiasAndWeighsWithout) {
  // Scores 1/2, 3/4, 1/4 and 1/5: the bias lifts the last two before the first.
  const View logits = values({1, 4}, {0.0, std::log(3.0), -std::log(3.0), -std::log(4.0)});
  const View bias = values(DType::kF32, {4}, {0.0, 0.0, 0.375, 0.375});
  const View experts = blank(DType::kI32, {1, 3}), weights = blank({1, 3});
  run(kernels::RouterForward{logits, bias, std::nullopt, experts, weights, {RouterScore::kSigmoid, 1, 1, true, 2.0f}});
  expect_values(experts, {1, 2, 3});
  expect_values(weights, {2.0 * 0.75 / 1.2, 2.0 * 0.25 / 1.2, 2.0 * 0.2 / 1.2});
}

TEST_P(ExpertAnswer, SqrtSoftplusRouterWithoutNormalising) {
  // log(1 + exp(x)) is 1 at log(e - 1) and log 2 at 0.
  const View logits = values({1, 3}, {-60.0, 0.0, std::log(std::exp(1.0) - 1.0)});
  const View experts = blank(DType::kI32, {1, 3}), weights = blank({1, 3});
  run(kernels::RouterForward{
      logits, std::nullopt, std::nullopt, experts, weights, {RouterScore::kSqrtSoftplus, 1, 1, false, 1.0f}});
  expect_values(experts, {2, 1, 0});
  expect_values(weights, {1.0, std::sqrt(std::log(2.0)), std::exp(-30.0)});
  EXPECT_GT(element(weights, 2), 0.9 * std::exp(-30.0));
}

TEST_P(ExpertAnswer, SoftmaxRouterTakesTheLowerIndexOfEqualExperts) {
  const View logits = values({1, 5}, {0.0, std::log(2.0), 0.0, std::log(2.0), 0.0});
  const View experts = blank(DType::kI32, {1, 3}), weights = blank({1, 3});
  run(kernels::RouterForward{
      logits, std::nullopt, std::nullopt, experts, weights, {RouterScore::kSoftmax, 1, 1, false, 1.0f}});
  expect_values(experts, {1, 3, 0});
  expect_values(weights, {2.0 / 7, 2.0 / 7, 1.0 / 7});
}

TEST_P(ExpertAnswer, GroupsAreChosenByTheSumOfTheirTwoBest) {
  // Scores 1/5 1/2 | 3/4 1/5 | 1/2 1/2 | 1/5 1/5: sums 0.7, 0.95, 1, 0.4. The best expert of all is in the second
  // best group.
  const double low = -std::log(4.0), middle = 0.0, high = std::log(3.0);
  const View logits = values({1, 8}, {low, middle, high, low, middle, middle, low, low});
  const View experts = blank(DType::kI32, {1, 2}), weights = blank({1, 2});
  run(kernels::RouterForward{
      logits, std::nullopt, std::nullopt, experts, weights, {RouterScore::kSigmoid, 4, 1, false, 1.0f}});
  expect_values(experts, {4, 5});
  run(kernels::RouterForward{
      logits, std::nullopt, std::nullopt, experts, weights, {RouterScore::kSigmoid, 4, 2, false, 1.0f}});
  expect_values(experts, {2, 4});
  expect_values(weights, {0.75, 0.5});
}

TEST_P(ExpertAnswer, BalancedChoicesCostTheCoefficient) {
  // All scores equal: P_i = 1/4; every expert chosen as often: f_i = 1. Sum 1. Chosen twice as often: f = 2, 2, 0, 0,
  // still 1 for equal scores. The gradient pulls chosen experts down.
  const View logits = values({2, 4}, {0, 0, 0, 0, 0, 0, 0, 0}), dlogits = values({2, 4}, {1, 1, 1, 1, 0, 0, 0, 0});
  const View experts = values(DType::kI32, {2, 2}, {0, 1, 0, 1}), loss = values({1}, {5});
  run(kernels::RouterBalance{logits, experts, values(DType::kI32, {1, 4}, {0, 2, 0, 2}), values({1}, {0.5}), loss,
                             dlogits, RouterScore::kSigmoid, 0.25f});
  expect_values(loss, {5.125});
  // coefficient weight / T * (f_i - 1) / sum_j s_j * s (1 - s) = 0.125 / 2 * (+-1) / 2 * 0.25
  const double g = 0.125 / 2 / 2 * 0.25;
  expect_values(dlogits, {1 + g, 1 + g, 1 - g, 1 - g, g, g, -g, -g});
}

TEST(RouterBiasUpdate, LiftsTheIdleAndLowersTheBusy) {
  OperandMaker make(1, 5);
  const View load = make.uniform(DType::kF32, {4}, 0.0, 0.0), bias = make.uniform(DType::kF32, {4}, 1.0, 1.0);
  for (const auto& [expert, count] : {std::pair(0, 6), {1, 4}, {2, 2}}) {  // the mean is 3
    set_element(load, expert, count);
  }
  set_element(load, 3, 0.0);
  run(kernels::RouterBiasUpdate{load, bias, 0.25f});
  for (const auto& [expert, expected] : {std::pair(0, 0.75), {1, 0.75}, {2, 1.25}, {3, 1.25}}) {
    EXPECT_EQ(element(bias, expert), expected);
    EXPECT_EQ(element(load, expert), 0.0);
  }
  run(kernels::RouterBiasUpdate{load, bias, 0.25f});
  EXPECT_EQ(element(bias, 0), 0.75) << "where all are at the mean none moves";
}

TEST_P(ExpertAnswer, SortKeepsTheOrderOfPairsOfAnExpert) {
  const View experts = values(DType::kI32, {3, 2}, {2, 0, 0, 3, 2, 0});
  const View offsets = blank(DType::kI32, {6}), pair_of_row = blank(DType::kI32, {6}),
             token_of_row = blank(DType::kI32, {6}), row_of_pair = blank(DType::kI32, {3, 2}),
             load = values(DType::kF32, {5}, {1, 1, 1, 1, 1});
  run(kernels::ExpertSort{experts, offsets, pair_of_row, token_of_row, row_of_pair, load});
  expect_values(offsets, {0, 3, 3, 5, 6, 6});
  expect_values(pair_of_row, {1, 2, 5, 0, 4, 3});
  expect_values(token_of_row, {0, 1, 2, 0, 2, 1});
  expect_values(row_of_pair, {3, 0, 1, 5, 4, 2});
  expect_values(load, {4, 1, 3, 2, 1});
}

TEST_P(ExpertAnswer, GroupsOfRowsMeetTheirOwnMatrix) {
  const View a = values({3, 2}, {1, 2, 3, 4, 5, 6}), b = values({3, 1, 2}, {1, 10, 7, 7, 1, 0}),
             offsets = values(DType::kI32, {4}, {0, 1, 1, 2}), c = values({3, 1}, {100, 100, 100});
  run(kernels::GroupedMatMul{a, b, offsets, c, true});
  expect_values(c, {121, 103, 100});
  run(kernels::GroupedMatMul{a, b, offsets, c, false});
  expect_values(c, {21, 3, 100});
  const View dweights = values({3, 1, 2}, {0, 0, 1, 1, 0, 0});
  run(kernels::GroupedWeightGradient{c, a, offsets, dweights});
  expect_values(dweights, {21, 42, 1, 1, 9, 12});
}

TEST_P(ExpertAnswer, GatherSumAddsRowsInPlaceOfCopies) {
  const View x = values({3, 2}, {1, 10, 2, 20, 3, 30}), rows = values(DType::kI32, {2, 3}, {0, 2, 2, 1, 1, 0}),
             y = values({2, 2}, {100, 100, 100, 100});
  run(kernels::GatherSum{x, rows, y, true});
  expect_values(y, {107, 170, 105, 150});
  run(kernels::GatherSum{x, rows, y, false});
  expect_values(y, {7, 70, 5, 50});
}

TEST_P(ExpertAnswer, LimitCutsTheGateAboveAndUpOnBothSides) {
  // silu(0) = 0, so gates far below the limit show in their slope only.
  const View gate_up = values({1, 6}, {20, -20, 2, 3, -30, 30}), y = blank({1, 3}), row_weights = values({1}, {0.5}),
             dy = values({1, 3}, {1, 1, 1}), gradient = blank({1, 6}), drow_weights = blank({1});
  const auto silu = [](double x) { return x / (1.0 + std::exp(-x)); };
  run(kernels::SwiGluForward{gate_up, y, row_weights, 10.0f});
  const double first = silu(10) * 3, second = silu(-20) * -10, third = silu(2) * 10;
  expect_values(y, {first / 2, second / 2, third / 2});
  run(kernels::SwiGluBackward{gate_up, dy, gradient, row_weights, drow_weights, 10.0f});
  expect_values(drow_weights, {first + second + third});
  EXPECT_EQ(element(gradient, 0), 0.0) << "the gate is above the limit";
  EXPECT_EQ(element(gradient, 4), 0.0) << "up is below the limit";
  EXPECT_EQ(element(gradient, 5), 0.0) << "up is above the limit";
  EXPECT_NEAR(element(gradient, 3), silu(10) / 2, 1e-5);
  const double s = 1.0 / (1.0 + std::exp(-2.0));
  EXPECT_NEAR(element(gradient, 2), 0.5 * 10 * s * (1 + 2 * (1 - s)), 1e-5);
}

TEST_P(ExpertAnswer, WrongIndicesAreBugs) {
  const View logits = values({1, 3}, {0, 0, 0}), weights = blank({1, 1}), experts = values(DType::kI32, {1, 1}, {0});
  for (const double wrong : {-1.0, 3.0}) {
    const View chosen = values(DType::kI32, {1, 1}, {wrong});
    EXPECT_THROW(run(kernels::RouterForward{logits, std::nullopt, chosen, experts, weights, {}}), base::InternalError);
    EXPECT_THROW(run(kernels::RouterBackward{logits, chosen, weights, blank({1, 3}), {}}), base::InternalError);
    EXPECT_THROW(run(kernels::ExpertSort{chosen, blank(DType::kI32, {4}), blank(DType::kI32, {1}),
                                         blank(DType::kI32, {1}), blank(DType::kI32, {1, 1}), std::nullopt}),
                 base::InternalError);
    EXPECT_THROW(run(kernels::GatherSum{values({3, 1}, {0, 0, 0}), chosen, blank({1, 1}), false}), base::InternalError);
  }
  const View a = values({2, 1}, {1, 2}), b = values({2, 1, 1}, {1, 1}), c = blank({2, 1});
  for (const View& offsets : {values(DType::kI32, {3}, {0, 2, 1}), values(DType::kI32, {3}, {0, 1, 3}),
                              values(DType::kI32, {3}, {1, 1, 2})}) {
    EXPECT_THROW(run(kernels::GroupedMatMul{a, b, offsets, c, false}), base::InternalError);
    EXPECT_THROW(run(kernels::GroupedWeightGradient{a, a, offsets, blank(wide(), {2, 1, 1})}), base::InternalError);
  }
}

}  // namespace
}  // namespace flyover::tests
