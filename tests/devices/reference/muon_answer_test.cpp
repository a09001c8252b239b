// The kernels of Muon, and AdamW's moments in bf16, against numbers worked out by hand.
#include "devices/reference/values.h"

namespace flyover::tests {
namespace {

using kernels::DType;
using kernels::View;

class Muon : public KnownAnswer {};
INSTANTIATE_TEST_SUITE_P(Types, Muon, testing::Values(DType::kF32, DType::kBf16, DType::kF64), DTypeName());

TEST_P(Muon, MomentumGathersGradientsAndLooksAhead) {
  // g = (2, -1): M = M / 2 + g = (4, -1), ahead of it M / 2 + g = (4, -1.5).
  const View momentum = values(wide(), {1, 2}, {4, 0}), direction = blank({1, 2});
  run(kernels::MuonMomentum{values(wide(), {1, 2}, {8, -4}), values(wide(), {1}, {0.25}), momentum, direction, 0.5f});
  expect_values(momentum, {4, -1});
  expect_values(direction, {4, -1.5});
}

TEST_P(Muon, DirectionComesFromTheMomentumBeforeItIsRounded) {
  // M = 0.5 + 1/256 + 1/1024 needs more than the eight bits of bf16: it becomes 0.5 + 1/256. M / 2 + g keeps the rest.
  const double g = 0.25 + 0x1p-8 + 0x1p-10;
  const View momentum = values(DType::kBf16, {1, 1}, {0.5}), direction = blank(wide(), {1, 1});
  run(kernels::MuonMomentum{values(wide(), {1, 1}, {g}), values(wide(), {1}, {1}), momentum, direction, 0.5f});
  EXPECT_EQ(element(momentum, 0), 0.5 + 0x1p-8);
  EXPECT_EQ(element(direction, 0), (0.25 + g) / 2 + g);
}

TEST_P(Muon, EveryMatrixIsDividedByItsOwnNorm) {
  const View x = values({3, 2, 2}, {3, 0, 0, -4, 1, 1, 1, 1, 0, 0, 0, 0}), y = blank({3, 2, 2});
  run(kernels::NormaliseMatrices{x, y});
  expect_values(y, {0.6, 0, 0, -0.8, 0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0});
}

TEST_P(Muon, NormalisedMatricesMayBeStoredByColumns) {
  const View x = values({1, 2, 3}, {2, 0, 0, 0, 0, 0}), y = blank({1, 3, 2});
  set_element(x, 2, 1.5);
  run(kernels::NormaliseMatrices{x, {y.data, y.dtype, {1, 2, 3}, {6, 1, 2}}});
  expect_values(y, {0.8, 0, 0, 0, 0.6, 0});
}

TEST_P(Muon, LinearCombinationMayTakeThePlaceOfATerm) {
  const View x = values({1, 3}, {1, 2, 3}), z = values({1, 3}, {4, 0, -2});
  run(kernels::LinearCombination{x, z, z, 3.0f, -0.5f});
  expect_values(z, {1, 6, 10});
}

TEST_P(Muon, UpdateMovesAndDecaysTheWeights) {
  // 1 - 0.5 (4 * 0.25 + 0.125 * 1) = 0.4375; 2 - 0.5 (4 * -0.5 + 0.125 * 2) = 2.875.
  kernels::MuonUpdate kernel;
  kernel.direction = values({1, 1, 2}, {0.25, -0.5});
  kernel.weight = values(wide(), {1, 1, 2}, {1, 2});
  kernel.parameter = blank(dtype() == DType::kF64 ? DType::kF32 : dtype(), {1, 1, 2});
  kernel.learning_rate = 0.5f;
  kernel.weight_decay = 0.125f;
  kernel.scale = 4.0f;
  run(kernel);
  expect_values(kernel.weight, {0.4375, 2.875});
  expect_values(*kernel.parameter, {0.4375, 2.875});
}

TEST_P(Muon, AdamWComputesTheStepFromMomentsBeforeTheyAreRounded) {
  // m = 0.5 * 1 + 0.5 * (1 + 1/64) = 1 + 1/128 fits into bf16; v = 0.5 * 1 + 0.5 * (1 + 1/64)^2 does not.
  const double g = 1 + 0x1p-6, m = 1 + 0x1p-7, v = 0.5 + 0.5 * g * g;
  kernels::AdamW kernel;
  kernel.gradient = values(wide(), {1}, {g});
  kernel.gradient_scale = values(wide(), {1}, {1});
  kernel.weight = values(wide(), {1}, {0});
  kernel.first_moment = values(DType::kBf16, {1}, {1});
  kernel.second_moment = values(DType::kBf16, {1}, {1});
  kernel.learning_rate = 1.0f;
  kernel.beta1 = 0.5f;
  kernel.beta2 = 0.5f;
  kernel.epsilon = 0.0f;
  run(kernel);
  expect_values(kernel.weight, {-m / std::sqrt(v)});
  EXPECT_EQ(element(kernel.first_moment, 0), m);
  EXPECT_EQ(element(kernel.second_moment, 0), 1 + 0x1p-6);  // 1 + 2^-6 + 2^-13
}

}  // namespace
}  // namespace flyover::tests
