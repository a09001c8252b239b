#include <cmath>
#include <limits>
#include <optional>

#include <gtest/gtest.h>

#include "devices/vector/test_tensor.h"

namespace flyover::devices::cpu::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<std::int64_t> counts() {
  return {0, 1, 7, 16, 33, 16384, 50001};
}

TEST(AdamW, EqualsItsFormulaInF64) {
  for (const std::int64_t count : counts()) {
    TestTensor gradient(DType::kF32, {count}), scale(DType::kF32, {1}), weight(DType::kF32, {count});
    TestTensor first(DType::kF32, {count}), second(DType::kF32, {count});
    gradient.randomise(1);
    weight.randomise(2);
    first.randomise(3, 0.1);
    second.randomise(4, 0.1);
    scale.set(0, 0.25);
    for (std::int64_t i = 0; i < count; ++i) {
      second.set(i, second[i] * second[i]);
    }
    const float learning_rate = 0.01f, beta1 = 0.9f, beta2 = 0.95f, epsilon = 1e-8f, decay = 0.1f;
    const float correction1 = 0.271f, correction2 = 0.142625f;
    std::vector<double> weights, firsts, seconds;
    for (std::int64_t i = 0; i < count; ++i) {
      const double g = gradient[i] * 0.25;
      firsts.push_back(double{beta1} * first[i] + (1 - double{beta1}) * g);
      seconds.push_back(double{beta2} * second[i] + (1 - double{beta2}) * g * g);
      const double step =
          firsts.back() / double{correction1} / (std::sqrt(seconds.back() / double{correction2}) + double{epsilon});
      weights.push_back(weight[i] - double{learning_rate} * (step + double{decay} * weight[i]));
    }
    for (const auto parameter_type :
         {std::optional<DType>(), std::optional(DType::kBf16), std::optional(DType::kF32)}) {
      for_each_configuration([&](const Configuration& configuration) {
        const TestTensor w(weight), m(first), v(second), parameter(parameter_type.value_or(DType::kF32), {count});
        kernels::AdamW kernel{gradient, scale, w, m, v, std::nullopt};
        if (parameter_type.has_value()) {
          kernel.parameter = parameter.view();
        }
        kernel.learning_rate = learning_rate;
        kernel.beta1 = beta1;
        kernel.beta2 = beta2;
        kernel.epsilon = epsilon;
        kernel.weight_decay = decay;
        kernel.correction1 = correction1;
        kernel.correction2 = correction2;
        configuration.run(kernel);
        expect_near(w, weights);
        expect_near(m, firsts, 0.1);
        expect_near(v, seconds, 0.1);
        for (std::int64_t i = 0; i < count && parameter_type.has_value(); ++i) {
          const float wanted = static_cast<float>(w[i]);
          EXPECT_EQ(parameter[i], parameter_type == DType::kF32
                                      ? w[i]
                                      : static_cast<double>(kernels::to_float(kernels::to_bf16(wanted))));
        }
        return w.contents() + m.contents() + v.contents() + parameter.contents();
      });
    }
  }
}

TEST(SumOfSquares, EqualsTheSumInF64) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const std::int64_t count : counts()) {
      TestTensor x(dtype, {count});
      x.randomise(1);
      double expected = 0;
      for (std::int64_t i = 0; i < count; ++i) {
        expected += x[i] * x[i];
      }
      for_each_configuration([&](const Configuration& configuration) {
        const TestTensor sum(DType::kF32, {1});
        configuration.run(kernels::SumOfSquares{x, sum});
        expect_near(sum, {expected}, 0.0);
        return sum.contents();
      });
    }
  }
}

TEST(ClipCoefficient, ScalesTheNormToItsLimit) {
  for_each_configuration([](const Configuration& configuration) {
    TestTensor sums(DType::kF32, {3});
    sums.set(0, 9.0);
    sums.set(1, 12.0);
    sums.set(2, 4.0);
    const TestTensor norm(DType::kF32, {1}), coefficient(DType::kF32, {1});
    const auto run = [&](float max_norm) {
      configuration.run(kernels::ClipCoefficient{sums, norm, coefficient, max_norm});
      EXPECT_EQ(norm[0], 5.0);
      return coefficient[0];
    };
    EXPECT_NEAR(run(1.0f), 0.2, 1e-8);
    EXPECT_EQ(run(5.0f), 1.0);
    EXPECT_EQ(run(50.0f), 1.0);
    EXPECT_EQ(run(0.0f), 1.0);
    EXPECT_EQ(run(-1.0f), 1.0);
    const TestTensor none(DType::kF32, {0});
    configuration.run(kernels::ClipCoefficient{none, norm, coefficient, 1.0f});
    EXPECT_EQ(norm[0], 0.0);
    EXPECT_EQ(coefficient[0], 1.0);
    return coefficient.contents();
  });
}

TEST(FindNonFinite, NamesTheFirstOne) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const std::int64_t count : {1, 7, 16385, 50001}) {
      TestTensor clean(dtype, {count});
      clean.randomise(1);
      clean.set(0, 3.3e38);
      clean.set(count / 2, 1e-39);
      for (const std::int64_t at : {std::int64_t{-1}, std::int64_t{0}, count / 2, count - 1}) {
        for (const double value : {kInfinity, -kInfinity, kNan}) {
          TestTensor x(clean);
          if (at >= 0) {
            x.set(at, value);
            x.set(count - 1, kNan);
          }
          for_each_configuration([&](const Configuration& configuration) {
            const TestTensor index(DType::kI64, {1});
            configuration.run(kernels::FindNonFinite{x, index});
            EXPECT_EQ(index[0], static_cast<double>(at));
            return index.contents();
          });
        }
      }
    }
  }
}

TEST(FindNonFinite, FindsNothingInNothing) {
  for_each_configuration([](const Configuration& configuration) {
    const TestTensor x(DType::kBf16, {0}), index(DType::kI64, {1});
    configuration.run(kernels::FindNonFinite{x, index});
    EXPECT_EQ(index[0], -1.0);
    return index.contents();
  });
}

}  // namespace
}  // namespace flyover::devices::cpu::test
