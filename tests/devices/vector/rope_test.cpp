#include <cmath>

#include <gtest/gtest.h>

#include "devices/vector/test_tensor.h"

namespace flyover::devices::cpu::test {
namespace {

using kernels::RopePairing;

TEST(RopeTable, IsTheCosineAndSineOfTheAngleInF64) {
  for (const DType frequency_type : {DType::kF32, DType::kF64}) {
    for (const auto& [tokens, pairs] :
         std::initializer_list<std::pair<std::int64_t, std::int64_t>>{{0, 4}, {1, 1}, {5, 32}, {300, 17}}) {
      TestTensor positions(DType::kI32, {tokens}), frequencies(frequency_type, {pairs});
      for (std::int64_t t = 0; t < tokens; ++t) {
        positions.set(t, static_cast<double>(t * 7919 % 131072));
      }
      for (std::int64_t i = 0; i < pairs; ++i) {
        frequencies.set(i, std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(pairs)));
      }
      for_each_configuration([&](const Configuration& configuration) {
        const TestTensor cosine(DType::kF32, {tokens, pairs}), sine(DType::kF32, {tokens, pairs});
        configuration.run(kernels::RopeTable{positions, frequencies, cosine, sine});
        for (std::int64_t i = 0; i < cosine.size(); ++i) {
          const long double angle =
              static_cast<long double>(positions[i / pairs]) * static_cast<long double>(frequencies[i % pairs]);
          EXPECT_NEAR(cosine[i], static_cast<double>(std::cos(angle)), 6e-8);
          EXPECT_NEAR(sine[i], static_cast<double>(std::sin(angle)), 6e-8);
        }
        return cosine.contents() + sine.contents();
      });
    }
  }
}

struct Case {
  std::int64_t tokens, heads, head_dim, pairs, first_dimension, gap;
};

TEST(RopeApply, RotatesThePairsAndLeavesTheRest) {
  for (const Case& c : std::initializer_list<Case>{{0, 3, 8, 4, 0, 0},
                                                   {2, 1, 2, 1, 0, 0},
                                                   {3, 2, 10, 5, 0, 3},
                                                   {2, 3, 64, 32, 0, 0},
                                                   {2, 3, 70, 17, 35, 1},
                                                   {5, 0, 8, 4, 0, 0},
                                                   {90, 9, 64, 32, 0, 2}}) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      for (const RopePairing pairing : {RopePairing::kHalves, RopePairing::kInterleaved}) {
        for (const bool inverse : {false, true}) {
          TestTensor x(dtype, {c.tokens, c.heads, c.head_dim}, c.gap);
          TestTensor cosine(DType::kF32, {c.tokens, c.pairs}), sine(DType::kF32, {c.tokens, c.pairs});
          x.randomise(1);
          for (std::int64_t i = 0; i < cosine.size(); ++i) {
            cosine.set(i, std::cos(0.37 * static_cast<double>(i)));
            sine.set(i, std::sin(0.37 * static_cast<double>(i)));
          }
          std::vector<double> expected;
          for (std::int64_t i = 0; i < x.size(); ++i) {
            expected.push_back(x[i]);
          }
          for (std::int64_t i = 0; i < c.tokens * c.heads * c.pairs; ++i) {
            const std::int64_t pair = i % c.pairs, head = i / c.pairs, token = head / c.heads;
            const std::int64_t start = head * c.head_dim + c.first_dimension;
            const std::int64_t a = pairing == RopePairing::kHalves ? start + pair : start + 2 * pair;
            const std::int64_t b = pairing == RopePairing::kHalves ? start + pair + c.pairs : start + 2 * pair + 1;
            const double cos = cosine[token * c.pairs + pair];
            const double sin = (inverse ? -1.0 : 1.0) * sine[token * c.pairs + pair];
            expected[static_cast<std::size_t>(a)] = x[a] * cos - x[b] * sin;
            expected[static_cast<std::size_t>(b)] = x[a] * sin + x[b] * cos;
          }
          for_each_configuration([&](const Configuration& configuration) {
            const TestTensor rotated(x);
            configuration.run(kernels::RopeApply{rotated, cosine, sine, pairing, inverse, c.first_dimension});
            expect_near(rotated, expected);
            return rotated.contents();
          });
        }
      }
    }
  }
}

TEST(RopeApply, TokenHasTheSameBitsAloneAndInABatch) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    TestTensor x(dtype, {60, 5, 38}), cosine(DType::kF32, {60, 19}), sine(DType::kF32, {60, 19});
    x.randomise(1);
    cosine.randomise(2);
    sine.randomise(3);
    for_each_configuration([&](const Configuration& configuration) {
      const TestTensor batch(x), alone(x);
      configuration.run(kernels::RopeApply{batch, cosine, sine});
      configuration.run(kernels::RopeApply{kernels::slice_rows(alone.view(), 59, 1),
                                           kernels::slice_rows(ConstView(cosine), 59, 1),
                                           kernels::slice_rows(ConstView(sine), 59, 1)});
      for (std::int64_t i = 59 * 5 * 38; i < x.size(); ++i) {
        EXPECT_EQ(alone[i], batch[i]);
      }
      return batch.contents();
    });
  }
}

}  // namespace
}  // namespace flyover::devices::cpu::test
