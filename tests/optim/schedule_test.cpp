// The learning rate of every step, held to closed forms.
#include "optim/schedule.h"

#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

namespace flyover::optim {
namespace {

constexpr double kClose = 1e-15;
constexpr Decay kDecays[] = {Decay::kConstant, Decay::kLinear, Decay::kCosine};

TEST(Schedule, WarmUpRisesByEqualStepsToThePeakWhateverFollows) {
  for (const Decay decay : kDecays) {
    const Schedule schedule{.decay = decay, .warmup_steps = 4, .total_steps = 20, .minimum_ratio = 0.1};
    EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 0), 0.25);
    EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 1), 0.5);
    EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 2), 0.75);
    EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 3), 1.0) << "the last of the warm-up";
    EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 4), 1.0) << "the first of the decay";
  }
}

TEST(Schedule, WithoutWarmUpTheFirstStepHasThePeak) {
  for (const Decay decay : kDecays) {
    EXPECT_DOUBLE_EQ(learning_rate_factor({.decay = decay, .warmup_steps = 0, .total_steps = 7}, 0), 1.0);
  }
}

TEST(Schedule, ConstantStaysAtThePeak) {
  const Schedule schedule{.decay = Decay::kConstant, .warmup_steps = 3, .total_steps = 10, .minimum_ratio = 0.2};
  for (std::int64_t step = 3; step < 10; ++step) {
    EXPECT_EQ(learning_rate_factor(schedule, step), 1.0);
  }
}

TEST(Schedule, LinearFallsByEqualStepsTowardsTheMinimum) {
  const Schedule schedule{.decay = Decay::kLinear, .warmup_steps = 2, .total_steps = 12, .minimum_ratio = 0.2};
  EXPECT_NEAR(learning_rate_factor(schedule, 3), 0.92, kClose);
  EXPECT_NEAR(learning_rate_factor(schedule, 7), 0.6, kClose) << "half-way between 1 and 0.2";
  EXPECT_NEAR(learning_rate_factor(schedule, 11), 0.28, kClose) << "the last step";
  EXPECT_NEAR(learning_rate_factor(schedule, 12), 0.2, kClose) << "the minimum would be the next";
}

TEST(Schedule, CosineIsHalfAPeriodBetweenPeakAndMinimum) {
  const Schedule schedule{.decay = Decay::kCosine, .warmup_steps = 2, .total_steps = 14, .minimum_ratio = 0.1};
  // 12 steps of decay: cos of 30, 60, 90, 120, 150 and 165 degrees.
  EXPECT_NEAR(learning_rate_factor(schedule, 4), 0.1 + 0.45 * (1 + std::numbers::sqrt3 / 2), kClose);
  EXPECT_NEAR(learning_rate_factor(schedule, 6), 0.1 + 0.45 * 1.5, kClose);
  EXPECT_NEAR(learning_rate_factor(schedule, 8), 0.1 + 0.45, kClose) << "half-way";
  EXPECT_NEAR(learning_rate_factor(schedule, 10), 0.1 + 0.45 * 0.5, kClose);
  EXPECT_NEAR(learning_rate_factor(schedule, 12), 0.1 + 0.45 * (1 - std::numbers::sqrt3 / 2), kClose);
  const double cos_15_degrees = (std::sqrt(6.0) + std::sqrt(2.0)) / 4;
  EXPECT_NEAR(learning_rate_factor(schedule, 13), 0.1 + 0.45 * (1 - cos_15_degrees), kClose) << "the last step";
  EXPECT_NEAR(learning_rate_factor(schedule, 14), 0.1, kClose) << "the minimum would be the next";
}

TEST(Schedule, AMinimumOfOneIsThePeakThroughout) {
  for (const Decay decay : kDecays) {
    const Schedule schedule{.decay = decay, .warmup_steps = 0, .total_steps = 9, .minimum_ratio = 1.0};
    for (std::int64_t step = 0; step < 9; ++step) {
      EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, step), 1.0);
    }
  }
}

TEST(Schedule, WarmUpAsLongAsTheRunEndsAtThePeak) {
  for (const Decay decay : kDecays) {
    const Schedule schedule{.decay = decay, .warmup_steps = 5, .total_steps = 5};
    for (std::int64_t step = 0; step < 5; ++step) {
      EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, step), static_cast<double>(step + 1) / 5);
    }
  }
}

TEST(Schedule, WarmUpLongerThanTheRunEndsBelowThePeak) {
  for (const Decay decay : kDecays) {
    const Schedule schedule{.decay = decay, .warmup_steps = 100, .total_steps = 3};
    EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 0), 0.01);
    EXPECT_DOUBLE_EQ(learning_rate_factor(schedule, 2), 0.03);
  }
}

TEST(Schedule, ARunOfOneStepHasThePeakWithAndWithoutItsOneStepOfWarmUp) {
  for (const Decay decay : kDecays) {
    EXPECT_DOUBLE_EQ(learning_rate_factor({.decay = decay, .warmup_steps = 0, .total_steps = 1}, 0), 1.0);
    EXPECT_DOUBLE_EQ(learning_rate_factor({.decay = decay, .warmup_steps = 1, .total_steps = 1}, 0), 1.0);
  }
}

}  // namespace
}  // namespace flyover::optim
