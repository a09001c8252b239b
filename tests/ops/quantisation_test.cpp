// Gradients of the operations of quantisation-aware training.
#include "ops/quantisation.h"

#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "base/random.h"
#include "devices/cpu/device.h"
#include "support/model_fixture.h"

namespace flyover::ops {
namespace {

using autograd::Tape;
using autograd::Tensor;
using autograd::Variable;
using tensor::DType;

class QuantisationOps : public testing::Test {
 protected:
  QuantisationOps() : machine_(devices::cpu::make_device(1, devices::cpu::available_instruction_sets().back())) {}

  Tensor random(std::uint64_t stream) {
    const base::Random random(stream, base::RandomPurpose::kTest);
    std::vector<float> values;
    for (std::uint64_t i = 0; i < 3 * 64; ++i) {
      values.push_back(static_cast<float>(random.normal(i)));
    }
    return machine_.stream.upload(values, {3, 64});
  }
  std::vector<double> read(const Tensor& tensor) { return tests::read_doubles(machine_.stream, tensor); }

  tests::Machine machine_;
  autograd::ParameterSet parameters_;
};

double product(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

TEST_F(QuantisationOps, RoundingLeavesTheGradientAlone) {
  Tape tape(machine_.stream, parameters_, {});
  const Variable x = tape.leaf(random(1));
  const Variable y = round_to_fp4(tape, x);
  EXPECT_NE(read(y.value), read(x.value));
  EXPECT_EQ(read(x.value), read(random(1))) << "its input stays";
  const Tensor gradient = random(2);
  tape.backward(y, gradient);
  EXPECT_EQ(read(tape.gradient_of(x)), read(gradient));
}

TEST_F(QuantisationOps, TheGradientOfTheTransformIsItsAdjoint) {
  for (const std::int64_t width : {2, 32, 64}) {
    Tape tape(machine_.stream, parameters_, {});
    const Variable x = tape.leaf(random(1));
    const Variable y = hadamard(tape, x, width);
    const Tensor gradient = random(2);
    tape.backward(y, gradient);
    const auto expected = product(read(y.value), read(gradient));
    EXPECT_NEAR(product(read(x.value), read(tape.gradient_of(x))), expected, 1e-4) << width;
    EXPECT_NEAR(product(read(y.value), read(y.value)), product(read(x.value), read(x.value)), 1e-3) << width;
    EXPECT_GT(std::abs(product(read(x.value), read(gradient)) - expected), 0.1) << "not the identity, " << width;
  }
}

TEST_F(QuantisationOps, NarrowHeadsAreTransformedOneByOne) {
  Tape tape(machine_.stream, parameters_, {});
  const std::vector<float> values = {1, 2, 3, 4};
  const Variable x{machine_.stream.upload(values, {1, 4}), -1};
  const double half = std::sqrt(0.5);
  const std::vector<double> expected = {3 * half, -half, 7 * half, -half};
  const std::vector<double> found = read(hadamard(tape, x, 2).value);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(found[i], expected[i], 1e-6);
  }
}

}  // namespace
}  // namespace flyover::ops
