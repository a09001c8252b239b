#include "base/random.h"

#include <cmath>
#include <set>

#include <gtest/gtest.h>

namespace flyover::base {
namespace {

// Known-answer vectors published with the Random123 library (kat_vectors, philox4x32 10).
TEST(Random, PhiloxMatchesPublishedVectors) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<std::uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, MomentsAreThoseOfTheDistribution) {
  const Random random(1, RandomPurpose::kTest);
  constexpr int kCount = 200000;
  double uniform_sum = 0, normal_sum = 0, normal_square = 0;
  for (int i = 0; i < kCount; ++i) {
    uniform_sum += random.uniform(static_cast<std::uint64_t>(i));
    const double normal = random.normal(static_cast<std::uint64_t>(i));
    normal_sum += normal;
    normal_square += normal * normal;
  }
  EXPECT_NEAR(uniform_sum / kCount, 0.5, 0.003);
  EXPECT_NEAR(normal_sum / kCount, 0.0, 0.01);
  EXPECT_NEAR(normal_square / kCount, 1.0, 0.02);
}

TEST(Random, EveryPartOfTheKeyMatters) {
  std::set<std::uint64_t> seen;
  for (std::uint64_t seed : {0u, 1u}) {
    for (auto purpose : {RandomPurpose::kDataOrder, RandomPurpose::kSampling}) {
      for (std::uint64_t step : {0u, 1u}) {
        for (std::uint64_t sample : {0u, 1u}) {
          seen.insert(Random(seed, purpose, step, sample).bits(0));
          seen.insert(Random(seed, purpose, step, sample).bits(1));
        }
      }
    }
  }
  EXPECT_EQ(seen.size(), 32u);
}

TEST(Permutation, IsABijectionAndDependsOnTheKey) {
  for (const std::uint64_t size : {1u, 2u, 3u, 17u, 256u, 1000u}) {
    const Permutation permutation(Random(5, RandomPurpose::kDataOrder), size);
    std::set<std::uint64_t> seen;
    for (std::uint64_t i = 0; i < size; ++i) {
      seen.insert(permutation(i));
    }
    EXPECT_EQ(seen.size(), size);
    EXPECT_LT(*seen.rbegin(), size);
  }
  const Permutation first(Random(1, RandomPurpose::kDataOrder), 1000),
      second(Random(2, RandomPurpose::kDataOrder), 1000);
  int equal = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    equal += first(i) == second(i);
  }
  EXPECT_LT(equal, 20);
}

}  // namespace
}  // namespace flyover::base
