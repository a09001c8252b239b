// The kernels of a model's layers against numbers worked out by hand.
#include <limits>

#include "devices/reference/values.h"

namespace flyover::tests {
namespace {

using kernels::DType;
using kernels::View;

class Layers : public KnownAnswer {};
INSTANTIATE_TEST_SUITE_P(Types, Layers, testing::Values(DType::kF32, DType::kBf16, DType::kF64), DTypeName());

TEST_P(Layers, MatMulOfTwoByTwo) {
  const View a = values({2, 2}, {1, 2, 3, 4}), b = values({2, 2}, {5, 6, 7, 8}), c = blank({2, 2});
  run(kernels::MatMul{a, b, c, false});
  expect_values(c, {17, 23, 39, 53});
  run(kernels::MatMul{a, b, c, true});
  expect_values(c, {34, 46, 78, 106});
  run(kernels::MatMul{kernels::transpose(a), kernels::transpose(b), c, false});
  expect_values(c, {1 * 5 + 3 * 7, 1 * 6 + 3 * 8, 2 * 5 + 4 * 7, 2 * 6 + 4 * 8});
}

TEST_P(Layers, MatMulWithoutDepthIsZero) {
  const View c = blank({1, 2});
  run(kernels::MatMul{blank({1, 0}), blank({2, 0}), c, false});
  expect_values(c, {0, 0});
}

TEST_P(Layers, RmsNormOfThreeFour) {
  const View x = values({1, 2}, {3, 4}), weight = values({2}, {2, -1}), y = blank({1, 2}), rstd = blank(wide(), {1});
  run(kernels::RmsNormForward{x, std::nullopt, y, rstd, 0.0f});
  expect_values(rstd, {1 / std::sqrt(12.5)});
  expect_values(y, {3 / std::sqrt(12.5), 4 / std::sqrt(12.5)});
  run(kernels::RmsNormForward{x, weight, y, rstd, 0.0f});
  expect_values(y, {6 / std::sqrt(12.5), -4 / std::sqrt(12.5)});
}

TEST_P(Layers, RmsNormOfZerosIsBoundedByEpsilon) {
  const View x = values({1, 2}, {0, 0}), y = blank({1, 2}), rstd = blank(wide(), {1});
  run(kernels::RmsNormForward{x, std::nullopt, y, rstd, 0.25f});
  expect_values(rstd, {2});
  expect_values(y, {0, 0});
}

TEST_P(Layers, RmsNormBackwardOfThreeFour) {
  // With rstd = 1: g = (1, 0), mean(g x) = 1.5, dx = (1 - 3 * 1.5, 0 - 4 * 1.5).
  const View x = values({1, 2}, {3, 4}), rstd = values(wide(), {1}, {1}), dy = values({1, 2}, {1, 0});
  const View dx = values({1, 2}, {10, 10}), dweight = values(wide(), {2}, {1, 1});
  run(kernels::RmsNormBackward{x, std::nullopt, rstd, dy, dx, true});
  expect_values(dx, {10 - 3.5, 10 - 6.0});
  run(kernels::RmsNormWeightGradient{x, rstd, dy, dweight});
  expect_values(dweight, {1 + 3, 1});
}

TEST_P(Layers, AttentionOfTwoTokens) {
  // The second query's scores are 0 and log 3 (through the scale), so its weights are 1/4 and 3/4.
  const float scale = static_cast<float>(std::log(3.0));
  const View q = values({2, 1, 1}, {1, 1}), k = values({2, 1, 1}, {0, 1}), v = values({2, 1, 1}, {2, 6});
  const View y = blank({2, 1, 1}), log_sum_exp = blank(wide(), {2, 1});
  const View sequences = values(DType::kI32, {1, 4}, {0, 2, 0, 2});
  run(kernels::AttentionForward{q, k, v, sequences, y, log_sum_exp, scale, 3});
  EXPECT_NEAR(element(y, 0), 2, 1e-6);
  EXPECT_NEAR(element(y, 1), 5, 1e-6);
  EXPECT_NEAR(element(log_sum_exp, 0), 0, 1e-6);
  EXPECT_NEAR(element(log_sum_exp, 1), std::log(4.0), 1e-6);

  // dy = (0, 1): ds_1 = 3/4 (6 - 5) = 3/4, ds_0 = 1/4 (2 - 5) = -3/4.
  const View dy = values({2, 1, 1}, {0, 1}), dq = blank({2, 1, 1}), dk = blank({2, 1, 1}), dv = blank({2, 1, 1});
  run(kernels::AttentionBackward{q, k, v, y, log_sum_exp, dy, sequences, dq, dk, dv, scale, 3});
  const double slope = 0.75 * std::log(3.0);
  const double tolerance = dtype() == DType::kBf16 ? 0x1p-8 : 1e-6;
  EXPECT_NEAR(element(dq, 0), 0, tolerance);
  EXPECT_NEAR(element(dq, 1), slope, tolerance);
  EXPECT_NEAR(element(dk, 0), -slope, tolerance);
  EXPECT_NEAR(element(dk, 1), slope, tolerance);
  EXPECT_NEAR(element(dv, 0), 0.25, tolerance);
  EXPECT_NEAR(element(dv, 1), 0.75, tolerance);
}

TEST_P(Layers, AttentionValuesMayBeWiderThanKeys) {
  const View q = values({1, 1, 1}, {1}), k = values({2, 1, 1}, {0, 0}), v = values({2, 1, 3}, {1, 2, 3, 5, 6, 7});
  const View y = blank({1, 1, 3}), log_sum_exp = blank(wide(), {1, 1});
  run(kernels::AttentionForward{q, k, v, values(DType::kI32, {1, 4}, {0, 1, 0, 2}), y, log_sum_exp, 1.0f, 2});
  expect_values(y, {3, 4, 5});
}

TEST_P(Layers, HeadsAreJoinedFromTheirOwnPartAndTheSharedOne) {
  const View own = values({1, 2, 1}, {1, 2}), shared = values({1, 2}, {3, 4}), y = blank({1, 2, 3});
  run(kernels::JoinHeads{own, shared, y});
  expect_values(y, {1, 3, 4, 2, 3, 4});
  const View dy = values({1, 2, 3}, {1, 2, 3, 4, 5, 6}), down = blank({1, 2, 1}), dshared = blank({1, 2});
  run(kernels::JoinHeadsBackward{dy, down, dshared});
  expect_values(down, {1, 4});
  expect_values(dshared, {7, 9});
}

TEST_P(Layers, AttentionHeadsOfAGroupShareTheirKeys) {
  const View q = values({1, 4, 1}, {1, 2, 3, 4}), k = values({1, 2, 1}, {1, 1}), v = values({1, 2, 1}, {10, 20});
  const View y = blank({1, 4, 1}), log_sum_exp = blank(wide(), {1, 4});
  run(kernels::AttentionForward{q, k, v, values(DType::kI32, {1, 4}, {0, 1, 0, 1}), y, log_sum_exp, 0.5f, 1});
  expect_values(y, {10, 10, 20, 20});
  expect_values(log_sum_exp, {0.5, 1.0, 1.5, 2.0});
}

TEST_P(Layers, AttentionSeesItsOwnDocumentAndTheLastKeyAtMost) {
  // One query of a cache of three keys (rows 1 to 3), then a document of one token; row 1 of q is in neither.
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  const View q = values({3, 1, 1}, {0, kNaN, 0});
  const View k = values({6, 1, 1}, {kNaN, 1, 2, 3, kNaN, 5}), v = values({6, 1, 1}, {kNaN, 3, 6, 12, kNaN, 7});
  const View y = values({3, 1, 1}, {-1, -1, -1}), log_sum_exp = values(wide(), {3, 1}, {-1, -1, -1});
  const View sequences = values(DType::kI32, {2, 4}, {0, 1, 1, 3, 2, 1, 5, 1});
  run(kernels::AttentionForward{q, k, v, sequences, y, log_sum_exp, 1.0f, 4});
  expect_values(y, {7, -1, 7});
  expect_values(log_sum_exp, {std::log(3.0), -1, 0});
}

TEST_P(Layers, RopeTableReducesLargeAnglesInDoublePrecision) {
  const View positions = integers({0, 1, 1000000}), cosine = blank(wide(), {3, 2}), sine = blank(wide(), {3, 2});
  run(kernels::RopeTable{positions, values(DType::kF64, {2}, {std::acos(0.0), 0.1}), cosine, sine});
  // cos and sin of 100,000 radians to 15 digits (100,000 - 15915 * 2 pi in exact fractions, then the series).
  EXPECT_NEAR(element(cosine, 5), -0.999360807438212, 1e-7);
  EXPECT_NEAR(element(sine, 5), 0.035748797972017, 1e-8);
  EXPECT_NEAR(element(cosine, 2), 0.0, 1e-15);
  EXPECT_EQ(element(sine, 2), 1.0);
  EXPECT_EQ(element(cosine, 0), 1.0);
  EXPECT_EQ(element(sine, 0), 0.0);
}

TEST_P(Layers, RopeByNinetyDegrees) {
  const View cosine = values(wide(), {1, 2}, {0, 0}), sine = values(wide(), {1, 2}, {1, 1});
  const auto rotated = [&](kernels::RopePairing pairing, bool inverse) {
    const View x = values({1, 1, 4}, {1, 2, 3, 4});
    run(kernels::RopeApply{x, cosine, sine, pairing, inverse, 0});
    return x;
  };
  expect_values(rotated(kernels::RopePairing::kHalves, false), {-3, -4, 1, 2});
  expect_values(rotated(kernels::RopePairing::kHalves, true), {3, 4, -1, -2});
  expect_values(rotated(kernels::RopePairing::kInterleaved, false), {-2, 1, -4, 3});
  expect_values(rotated(kernels::RopePairing::kInterleaved, true), {2, -1, 4, -3});
}

TEST_P(Layers, RopeLeavesTheOtherDimensionsAlone) {
  const View x = values({1, 1, 4}, {1, 2, 3, 4});
  const View cosine = values(wide(), {1, 1}, {0}), sine = values(wide(), {1, 1}, {1});
  run(kernels::RopeApply{x, cosine, sine, kernels::RopePairing::kHalves, false, 1});
  expect_values(x, {1, -3, 2, 4});
}

TEST_P(Layers, SwiGluOfLogThree) {
  // The sigmoid of 2 log 3 is 9/10; of 0, 1/2; of -1000, 0.
  const double gate = 2 * std::log(3.0);
  const View gate_up = values({3, 2}, {gate, 10, 0, 3, -1000, 5}), y = blank({3, 1});
  run(kernels::SwiGluForward{gate_up, y});
  const double tolerance = dtype() == DType::kBf16 ? 0.1 : 1e-5;
  EXPECT_NEAR(element(y, 0), 9 * gate, tolerance);
  EXPECT_EQ(element(y, 1), 0.0);
  EXPECT_EQ(element(y, 2), 0.0);
  const View dy = values({3, 1}, {1, 1, 1}), gradient = blank({3, 2});
  run(kernels::SwiGluBackward{gate_up, dy, gradient});
  EXPECT_NEAR(element(gradient, 0), 9 * (1 + 0.1 * gate), tolerance);
  EXPECT_NEAR(element(gradient, 1), 0.9 * gate, tolerance);
  EXPECT_NEAR(element(gradient, 2), 1.5, tolerance);
  EXPECT_EQ(element(gradient, 3), 0.0);
  EXPECT_EQ(element(gradient, 4), 0.0);
  EXPECT_EQ(element(gradient, 5), 0.0);
}

TEST_P(Layers, RowsAreGatheredAndScatteredByIndex) {
  const View table = values({3, 2}, {1, 2, 3, 4, 5, 6}), y = blank({2, 2});
  run(kernels::GatherRows{table, integers({2, 0}), y});
  expect_values(y, {5, 6, 1, 2});
  run(kernels::ScatterRows{y, integers({1, 2}), table});
  expect_values(table, {1, 2, 5, 6, 1, 2});
  const View sums = values(wide(), {2, 2}, {100, 100, 200, 200});
  run(kernels::ScatterAddRows{values({3, 2}, {1, 2, 3, 4, 5, 6}), integers({1, 0, 1}), sums});
  expect_values(sums, {103, 104, 206, 208});
}

TEST_P(Layers, RowsOutsideTheTableAreABug) {
  const View table = values({3, 1}, {1, 2, 3}), y = blank({1, 1});
  EXPECT_THROW(run(kernels::GatherRows{table, integers({3}), y}), base::InternalError);
  EXPECT_THROW(run(kernels::ScatterRows{y, integers({-1}), table}), base::InternalError);
}

}  // namespace
}  // namespace flyover::tests
