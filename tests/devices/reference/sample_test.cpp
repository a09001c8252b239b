// Choosing the next token, on four tokens with probabilities 0.1, 0.4, 0.2 and 0.3.
#include "devices/reference/values.h"

namespace flyover::tests {
namespace {

using kernels::DType;
using kernels::View;

struct Choice {
  double token;
  double log_probability;
};

Choice choose(std::initializer_list<double> logits, double temperature, double top_k, double top_p, double uniform) {
  OperandMaker make(1, 5);
  const auto one = [&](DType dtype, double value) {
    const View view = make.blank(dtype, {1});
    set_element(view, 0, value);
    return view;
  };
  const View row = make.blank(DType::kF32, {1, static_cast<std::int64_t>(logits.size())});
  std::int64_t i = 0;
  for (const double logit : logits) {
    set_element(row, i++, logit);
  }
  const View token = make.blank(DType::kI32, {1}), log_probability = make.blank(DType::kF32, {1});
  run(kernels::Sample{row, one(DType::kF32, temperature), one(DType::kI32, top_k), one(DType::kF32, top_p),
                      one(DType::kF32, uniform), token, log_probability});
  return {element(token, 0), element(log_probability, 0)};
}

Choice choose(double temperature, double top_k, double top_p, double uniform) {
  return choose({std::log(0.1), std::log(0.4), std::log(0.2), std::log(0.3)}, temperature, top_k, top_p, uniform);
}

TEST(Sample, TemperatureZeroTakesTheLargest) {
  for (const double uniform : {0.0, 0.5, 0.99}) {
    EXPECT_EQ(choose(0, 0, 1, uniform).token, 1);
  }
  EXPECT_NEAR(choose(0, 0, 1, 0.5).log_probability, std::log(0.4), 1e-6);
  EXPECT_EQ(choose({1, 3, 3, 2}, 0, 0, 1, 0.9).token, 1) << "the lowest index of a tie";
  EXPECT_EQ(choose({0, 1e-30, 2e-30, 0}, 0, 0, 1, 0.9).token, 2) << "almost a tie is none";
}

TEST(Sample, InvertsTheCumulativeSumByIndex) {
  EXPECT_EQ(choose(1, 0, 1, 0.0).token, 0);
  EXPECT_EQ(choose(1, 0, 1, 0.09).token, 0);
  EXPECT_EQ(choose(1, 0, 1, 0.11).token, 1);
  EXPECT_EQ(choose(1, 0, 1, 0.49).token, 1);
  EXPECT_EQ(choose(1, 0, 1, 0.51).token, 2);
  EXPECT_EQ(choose(1, 0, 1, 0.69).token, 2);
  EXPECT_EQ(choose(1, 0, 1, 0.71).token, 3);
  EXPECT_EQ(choose(1, 0, 1, 0.999).token, 3);
}

TEST(Sample, TemperatureSharpens) {
  // Squares of the probabilities: 1, 16, 4, 9 of 30.
  EXPECT_EQ(choose(0.5, 0, 1, 0.9 / 30).token, 0);
  EXPECT_EQ(choose(0.5, 0, 1, 1.1 / 30).token, 1);
  EXPECT_EQ(choose(0.5, 0, 1, 20.9 / 30).token, 2);
  EXPECT_NEAR(choose(0.5, 0, 1, 20.9 / 30).log_probability, std::log(4.0 / 30), 1e-6);
}

TEST(Sample, TopKKeepsTheMostLikely) {
  EXPECT_EQ(choose(1, 1, 1, 0.99).token, 1);
  EXPECT_EQ(choose(1, 2, 1, 4.0 / 7 - 0.01).token, 1);
  EXPECT_EQ(choose(1, 2, 1, 4.0 / 7 + 0.01).token, 3);
  EXPECT_NEAR(choose(1, 2, 1, 0.99).log_probability, std::log(0.3), 1e-6) << "the probability before top-k";
  EXPECT_EQ(choose(1, 100, 1, 0.05).token, 0);
  EXPECT_EQ(choose({1, 1, 1, 1}, 1, 2, 1, 0.99).token, 1) << "of a tie the lowest indices are kept";
}

TEST(Sample, TopPKeepsTheSmallestSetThatReachesIt) {
  EXPECT_EQ(choose(1, 0, 0.39, 0.99).token, 1);
  EXPECT_EQ(choose(1, 0, 0.0, 0.99).token, 1) << "one token is always kept";
  EXPECT_EQ(choose(1, 0, 0.41, 4.0 / 7 - 0.01).token, 1);
  EXPECT_EQ(choose(1, 0, 0.41, 4.0 / 7 + 0.01).token, 3);
  EXPECT_EQ(choose(1, 0, 0.69, 4.0 / 7 + 0.01).token, 3);
  EXPECT_EQ(choose(1, 0, 0.71, 4.5 / 9).token, 2);
}

TEST(Sample, TopPCountsWithinTheTopK) {
  // Within the top three, 0.4 / 0.9 and 0.3 / 0.9 already reach 0.75.
  EXPECT_EQ(choose(1, 3, 0.75, 0.5).token, 1);
  EXPECT_EQ(choose(1, 3, 0.8, 0.5).token, 2);
}

TEST(Sample, LogProbabilityHasTheBitsOfLogProbability) {
  OperandMaker make(3, 5);
  const std::int64_t rows = 20, vocabulary = 50;
  const View logits = make.random(DType::kF32, {rows, vocabulary}, Layout::kGaps, 3.0);
  const View token = make.blank(DType::kI32, {rows}), sampled = make.blank(DType::kF32, {rows}),
             top_k = make.indices(rows, 10), computed = make.blank(DType::kF32, {rows});
  for (const double temperature : {1.0, 0.7}) {
    run(kernels::Sample{logits, make.uniform(DType::kF32, {rows}, temperature, temperature), top_k,
                        make.uniform(DType::kF32, {rows}, 0.5, 1.0), make.uniform(DType::kF32, {rows}, 0.0, 1.0), token,
                        sampled});
    run(kernels::LogProbability{logits, token, computed, static_cast<float>(temperature)});
    for (std::int64_t i = 0; i < rows; ++i) {
      EXPECT_EQ(element(sampled, i), element(computed, i));
    }
  }
  run(kernels::CrossEntropy{logits, token, make.uniform(DType::kF32, {rows}, 1.0, 1.0), sampled,
                            make.blank(DType::kF32, {rows, vocabulary})});
  run(kernels::LogProbability{logits, token, computed, 1.0f});
  for (std::int64_t i = 0; i < rows; ++i) {
    EXPECT_EQ(element(sampled, i), element(computed, i));
  }
}

TEST(Sample, ALogitThatIsNotANumberGivesSomeToken) {
  const Choice choice = choose({1, std::nan(""), 2, std::nan("")}, 1, 2, 0.9, 0.5);
  EXPECT_GE(choice.token, 0);
  EXPECT_LT(choice.token, 4);
}

}  // namespace
}  // namespace flyover::tests
