// The kernels of loss, optimizer and plain arithmetic against numbers worked out by hand.
#include <limits>

#include "devices/reference/values.h"

namespace flyover::tests {
namespace {

using kernels::DType;
using kernels::View;

class Training : public KnownAnswer {};
INSTANTIATE_TEST_SUITE_P(Types, Training, testing::Values(DType::kF32, DType::kBf16, DType::kF64), DTypeName());

TEST_P(Training, LogProbabilityOfUniformLogitsIsMinusLogOfTheVocabulary) {
  const View logits = values(wide(), {2, 4}, {7, 7, 7, 7, 7, 7, 7, 7}), log_probability = blank(wide(), {2});
  run(kernels::LogProbability{logits, integers({3, kernels::kIgnoredTarget}), log_probability, 0.5f});
  expect_values(log_probability, {-std::log(4.0), 0});
}

TEST_P(Training, LogProbabilityDividesByTheTemperature) {
  // At temperature 1/2 the odds of log 4 are 16 to 1.
  const View logits = values(wide(), {1, 2}, {0, std::log(4.0)}), log_probability = blank(wide(), {1});
  run(kernels::LogProbability{logits, integers({1}), log_probability, 0.5f});
  expect_values(log_probability, {std::log(16.0 / 17.0)});
}

TEST_P(Training, LogProbabilityOfHugeLogitsIsFinite) {
  const View logits = values(wide(), {1, 2}, {3000, 2000}), log_probability = blank(wide(), {1});
  run(kernels::LogProbability{logits, integers({1}), log_probability, 1.0f});
  expect_values(log_probability, {-1000});
}

TEST_P(Training, CrossEntropyOfUniformLogits) {
  const View logits = values(wide(), {2, 4}, {1, 1, 1, 1, 9, 9, 9, 9}), weights = values(wide(), {2}, {0.5, 0.5});
  const View log_probability = blank(wide(), {2}), dlogits = blank({2, 4});
  run(kernels::CrossEntropy{logits, integers({2, kernels::kIgnoredTarget}), weights, log_probability, dlogits});
  expect_values(log_probability, {-std::log(4.0), 0});
  expect_values(dlogits, {0.125, 0.125, -0.375, 0.125, 0, 0, 0, 0});
}

TEST_P(Training, TargetsOutsideTheVocabularyAreABug) {
  const View logits = values(wide(), {1, 2}, {0, 0}), log_probability = blank(wide(), {1});
  EXPECT_THROW(run(kernels::LogProbability{logits, integers({2}), log_probability, 1.0f}), base::InternalError);
  EXPECT_THROW(run(kernels::LogProbability{logits, integers({-2}), log_probability, 1.0f}), base::InternalError);
}

TEST_P(Training, WeightedSumAddsToTheSum) {
  const View sum = values(wide(), {1}, {10});
  run(kernels::WeightedSum{values(wide(), {2}, {1, 2}), values(wide(), {2}, {3, 4}), sum, 2.0f});
  expect_values(sum, {10 + 2 * (3 + 8)});
}

TEST_P(Training, AdamWFirstStepIsTheSignOfTheGradient) {
  // With both moments zero and both corrections, m / sqrt(v) is the sign; 0.1 of the weight decays beside it.
  kernels::AdamW kernel;
  kernel.gradient = values(wide(), {3}, {4, -0.004, 0});
  kernel.gradient_scale = values(wide(), {1}, {0.5});
  kernel.weight = values(wide(), {3}, {1, 1, 1});
  kernel.first_moment = values(wide(), {3}, {0, 0, 0});
  kernel.second_moment = values(wide(), {3}, {0, 0, 0});
  kernel.learning_rate = 0.25f;
  kernel.beta1 = 0.5f;
  kernel.beta2 = 0.75f;
  kernel.epsilon = 0.0f;
  kernel.weight_decay = 0.125f;
  kernel.correction1 = 0.5f;
  kernel.correction2 = 0.25f;
  kernel.epsilon = 1e-20f;
  if (dtype() == DType::kBf16) {
    kernel.parameter = blank({3});
  }
  run(kernel);
  const double decay = 0.25 * 0.125;
  expect_values(kernel.weight, {1 - 0.25 - decay, 1 + 0.25 - decay, 1 - decay});
  expect_values(kernel.first_moment, {1, -0.001, 0});
  expect_values(kernel.second_moment, {1, 1e-6, 0});
  if (kernel.parameter.has_value()) {
    // 0.71875, 1.21875 and 0.96875 are numbers of bf16.
    expect_values(*kernel.parameter, {0.71875, 1.21875, 0.96875});
  }
}

TEST_P(Training, AdamWSecondStepMixesTheMoments) {
  // m = 0.5 * 1 + 0.5 * 3 = 2, v = 0.75 * 4 + 0.25 * 9 = 5.25; corrections 0.75 and 0.4375: 12 under the root.
  kernels::AdamW kernel;
  kernel.gradient = values(wide(), {1}, {3});
  kernel.gradient_scale = values(wide(), {1}, {1});
  kernel.weight = values(wide(), {1}, {0});
  kernel.first_moment = values(wide(), {1}, {1});
  kernel.second_moment = values(wide(), {1}, {4});
  kernel.learning_rate = 1.0f;
  kernel.beta1 = 0.5f;
  kernel.beta2 = 0.75f;
  kernel.epsilon = 0.5f;
  kernel.correction1 = 0.75f;
  kernel.correction2 = 0.4375f;
  run(kernel);
  expect_values(kernel.weight, {-(2 / 0.75) / (std::sqrt(12.0) + 0.5)});
}

TEST_P(Training, SumOfSquaresAndClipping) {
  const View sum = blank(wide(), {1});
  run(kernels::SumOfSquares{values({2}, {3, -4}), sum});
  expect_values(sum, {25});
  const View sums = values(wide(), {2}, {9, 16}), norm = blank(wide(), {1}), coefficient = blank(wide(), {1});
  run(kernels::ClipCoefficient{sums, norm, coefficient, 1.0f});
  expect_values(norm, {5});
  expect_values(coefficient, {0.2});
  run(kernels::ClipCoefficient{sums, norm, coefficient, 10.0f});
  expect_values(coefficient, {1});
  run(kernels::ClipCoefficient{sums, norm, coefficient, 0.0f});
  expect_values(coefficient, {1});
  run(kernels::ClipCoefficient{blank(wide(), {0}), norm, coefficient, 1.0f});
  expect_values(norm, {0});
  expect_values(coefficient, {1});
}

TEST_P(Training, FindNonFiniteGivesTheFirst) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const View index = blank(DType::kI64, {1});
  run(kernels::FindNonFinite{values({4}, {1, -kInfinity, std::nan(""), 2}), index});
  EXPECT_EQ(element(index, 0), 1);
  run(kernels::FindNonFinite{values({3}, {0, 1, std::nan("")}), index});
  EXPECT_EQ(element(index, 0), 2);
  run(kernels::FindNonFinite{values({2}, {0, 1e30}), index});
  EXPECT_EQ(element(index, 0), -1);
}

TEST_P(Training, FillOfEveryRank) {
  for (const kernels::Dims& shape : {kernels::Dims{}, kernels::Dims{3}, kernels::Dims{2, 3}}) {
    const View y = blank(shape);
    run(kernels::Fill{y, -1.5});
    for (std::int64_t i = 0; i < y.elements(); ++i) {
      EXPECT_EQ(element(y, i), -1.5);
    }
  }
}

TEST_P(Training, Sums) {
  const View a = values({2, 2}, {1, 2, 3, 4}), b = values({2, 2}, {10, 20, 30, 40}), y = blank({2, 2});
  run(kernels::Add{a, b, y});
  expect_values(y, {11, 22, 33, 44});
  run(kernels::Add{a, b, a});
  expect_values(a, {11, 22, 33, 44});
  run(kernels::AddBias{values({2}, {100, 1}), y});
  expect_values(y, {111, 23, 133, 45});
  const View sum = values(wide(), {2}, {1000, 0});
  run(kernels::SumRows{b, sum});
  expect_values(sum, {1040, 60});
}

TEST(Convert, RoundsOnceToNearestTiesToEven) {
  OperandMaker make(1, 5);
  const View x = make.blank(DType::kF64, {1, 5}), y = make.blank(DType::kBf16, {1, 5});
  // 1 + 1/256 lies half-way between 1 and 1 + 1/128; 2^-40 above it is no tie, although it is one in f32.
  const double given[] = {1 + 0x1p-8, 1 + 0x3p-8, 1 + 0x1p-8 + 0x1p-40, -(1 + 0x1p-8 + 0x1p-40), 1e300};
  const double expected[] = {1, 1 + 0x4p-8, 1 + 0x2p-8, -(1 + 0x2p-8), std::numeric_limits<double>::infinity()};
  for (std::int64_t i = 0; i < 5; ++i) {
    set_element(x, i, given[i]);
  }
  run(kernels::Copy{x, y});
  for (std::int64_t i = 0; i < 5; ++i) {
    EXPECT_EQ(element(y, i), expected[i]) << i;
  }
}

TEST(Convert, IntegersAreCopiedAndFilledExactly) {
  OperandMaker make(1, 5);
  const View x = make.blank(DType::kI64, {1, 2}), y = make.blank(DType::kI64, {1, 2}),
             bytes = make.blank(DType::kU8, {2});
  set_element(x, 0, -0x1p52);
  set_element(x, 1, 3);
  run(kernels::Copy{x, y});
  EXPECT_EQ(element(y, 0), -0x1p52);
  EXPECT_EQ(element(y, 1), 3);
  run(kernels::Fill{bytes, 255.0});
  EXPECT_EQ(element(bytes, 1), 255);
  EXPECT_THROW(run(kernels::Fill{bytes, 256.0}), base::InternalError);
}

}  // namespace
}  // namespace flyover::tests
