// Accuracy and limits of the vector exponential, for each instruction set.
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "devices/cpu/instruction_set.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/vector/math_test.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

void exponentials(const std::vector<float>& x, std::vector<float>& y) {
  for_each_vector(static_cast<std::int64_t>(x.size()), [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
    store(exponential(load(x.data() + i, lanes)), y.data() + i, lanes);
  });
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {
namespace {

std::vector<float> exponentials(InstructionSet set, const std::vector<float>& x) {
  std::vector<float> y(x.size());
  set == InstructionSet::kAvx2 ? N_AVX2::exponentials(x, y) : N_AVX3::exponentials(x, y);
  return y;
}

TEST(VectorExponential, IsWithinTwoTenMillionthsOfTheF64One) {
  std::vector<float> x;
  for (double value = -87.3; value < 88.72; value += 0.00037) {
    x.push_back(static_cast<float>(value));
  }
  for (float value = 1e-30f; value < 1; value *= 3) {
    x.push_back(value);
    x.push_back(-value);
  }
  for (const InstructionSet set : available_instruction_sets()) {
    const std::vector<float> y = exponentials(set, x);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double exact = std::exp(static_cast<double>(x[i]));
      worst = std::max(worst, std::fabs(static_cast<double>(y[i]) - exact) / exact);
    }
    EXPECT_LT(worst, 2e-7) << name_of(set);
  }
}

TEST(VectorExponential, HasTheLimitsOfTheFunction) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> x = {-kInfinity, kInfinity, nan, -nan, 0.0f, -0.0f, 88.73f, 1e30f, -1e30f, -104.0f};
  for (const InstructionSet set : available_instruction_sets()) {
    const std::vector<float> y = exponentials(set, x);
    EXPECT_EQ(y[0], 0.0f);
    EXPECT_EQ(y[1], kInfinity);
    EXPECT_TRUE(std::isnan(y[2]) && std::isnan(y[3]));
    EXPECT_EQ(y[4], 1.0f);
    EXPECT_EQ(y[5], 1.0f);
    EXPECT_EQ(y[6], kInfinity);
    EXPECT_EQ(y[7], kInfinity);
    EXPECT_EQ(y[8], 0.0f);
    EXPECT_EQ(y[9], 0.0f);
  }
}

TEST(VectorExponential, ReachesSubnormalNumbers) {
  const std::vector<float> x = {-88.0f, -90.0f, -95.5f, -100.0f, -103.0f};
  for (const InstructionSet set : available_instruction_sets()) {
    const std::vector<float> y = exponentials(set, x);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double exact = std::exp(static_cast<double>(x[i]));
      EXPECT_NEAR(static_cast<double>(y[i]), exact, 2e-7 * exact + 0.51 * std::ldexp(1.0, -149)) << x[i];
    }
  }
}

TEST(VectorExponential, DoesNotDependOnTheLane) {
  for (const InstructionSet set : available_instruction_sets()) {
    for (const float value : {-3.7f, 0.3f, 11.2f, -80.0f}) {
      const float alone = exponentials(set, {value})[0];
      for (const float y : exponentials(set, std::vector<float>(37, value))) {
        EXPECT_EQ(y, alone);
      }
    }
  }
}

}  // namespace
}  // namespace flyover::devices::cpu
#endif
