// Which copies of parameters exist, and what a set refuses.
#include "autograd/parameter.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/reference/device.h"
#include "support/model_fixture.h"

namespace flyover::autograd {
namespace {

using tensor::MemoryKind;

ParameterSpec matrix(const std::string& name, std::int64_t rows) {
  return {name, {rows, 16}, ParameterRole::kMatrix, {{name, {rows, 16}, 0}}};
}

std::uint64_t current(const tests::Machine& machine, MemoryKind kind) {
  return machine.allocator.statistics().current_by_kind[static_cast<std::size_t>(kind)];
}

TEST(ParameterSet, SlicesMustCoverAParameterExactly) {
  ParameterSet set;
  ParameterSpec spec{"ab", {5, 4}, ParameterRole::kMatrix, {{"a", {2, 4}, 0}, {"b", {3, 4}, 8}}};
  EXPECT_EQ(set[set.add(spec)].spec.slices.size(), 2u);
  EXPECT_THROW(set.add(spec), base::InternalError) << "the name is taken";
  const auto refused = [&](std::vector<CheckpointSlice> slices) {
    EXPECT_THROW(set.add({"other", {5, 4}, ParameterRole::kMatrix, std::move(slices)}), base::InternalError);
  };
  refused({});
  refused({{"a", {2, 4}, 0}});                     // a gap at the end
  refused({{"a", {2, 4}, 0}, {"b", {2, 4}, 12}});  // a gap within
  refused({{"a", {2, 4}, 0}, {"b", {4, 4}, 4}});   // an overlap
  refused({{"a", {6, 4}, 0}});                     // too many rows
  refused({{"a", {5}, 0}});                        // too few elements
  EXPECT_EQ(set.elements(), 20);
}

TEST(ParameterSet, TrainingIn16BitsHasMastersAndGradientsOfWhatIsTrainedOnly) {
  tests::Machine machine(devices::reference::make_device());
  ParameterSet set;
  const ParameterId trained = set.add(matrix("trained", 8)), frozen = set.add(matrix("frozen", 32));
  set[frozen].trainable = false;
  set.allocate(machine.stream, DType::kBf16, ParameterUse::kTraining);
  EXPECT_EQ(current(machine, MemoryKind::kWeights), 8u * 16 * (2 + 4) + 32u * 16 * 2);
  EXPECT_EQ(current(machine, MemoryKind::kGradients), 8u * 16 * 4);
  EXPECT_FALSE(set[frozen].master.defined());
  EXPECT_FALSE(set[frozen].gradient.defined());
  EXPECT_EQ(set[trained].master.dtype(), DType::kF32);
  EXPECT_EQ(tests::read_doubles(machine.stream, set[trained].gradient), std::vector<double>(8 * 16, 0.0));
}

TEST(ParameterSet, TrainingIn32BitsUpdatesTheValuesThemselves) {
  tests::Machine machine(devices::reference::make_device());
  ParameterSet set;
  const ParameterId id = set.add(matrix("trained", 8));
  set.allocate(machine.stream, DType::kF32, ParameterUse::kTraining);
  EXPECT_EQ(current(machine, MemoryKind::kWeights), 8u * 16 * 4);
  EXPECT_EQ(set[id].master.storage(), set[id].value.storage());
}

TEST(ParameterSet, InferenceHasValuesOnly) {
  tests::Machine machine(devices::reference::make_device());
  ParameterSet set;
  set.add(matrix("a", 8));
  set.allocate(machine.stream, DType::kBf16, ParameterUse::kInference);
  EXPECT_EQ(machine.allocator.statistics().current, 8u * 16 * 2);
}

TEST(ParameterSet, GradientsAreSetToZero) {
  tests::Machine machine(devices::reference::make_device());
  ParameterSet set;
  const ParameterId id = set.add(matrix("a", 4)), frozen = set.add(matrix("frozen", 4));
  set[frozen].trainable = false;
  set.allocate(machine.stream, DType::kF32, ParameterUse::kTraining);
  tests::write_doubles(machine.stream, set[id].gradient, std::vector<double>(64, 3.0));
  set.zero_gradients(machine.stream);
  EXPECT_EQ(tests::read_doubles(machine.stream, set[id].gradient), std::vector<double>(64, 0.0));
}

TEST(ParameterSet, RoundedValuesHaveMastersOfTheirOwnAndFrozenOnesAreRoundedInPlace) {
  tests::Machine machine(devices::reference::make_device());
  ParameterSet set;
  const auto blocks = [&](const std::string& name) {
    return set.add({name, {1, 1, 32}, ParameterRole::kMatrix, {{name, {1, 1, 32}, 0}}});
  };
  const ParameterId trained = blocks("trained"), frozen = blocks("frozen"), plain = blocks("plain");
  set[trained].rounds_to_fp4 = set[frozen].rounds_to_fp4 = true;
  set[frozen].trainable = false;
  set.allocate(machine.stream, DType::kF32, ParameterUse::kTraining);
  EXPECT_EQ(current(machine, MemoryKind::kWeights), 4u * 32 * 4);
  std::vector<double> values(32, 0.0), rounded(32, 0.0);
  values[0] = rounded[0] = 6.0;
  values[1] = 2.25;
  rounded[1] = 2.0;
  for (const tensor::Tensor& tensor : {set[trained].master, set[frozen].value, set[plain].value}) {
    tests::write_doubles(machine.stream, tensor, values);
  }
  set.round_values(machine.stream);
  EXPECT_EQ(tests::read_doubles(machine.stream, set[trained].value), rounded);
  EXPECT_EQ(tests::read_doubles(machine.stream, set[trained].master), values);
  EXPECT_EQ(tests::read_doubles(machine.stream, set[frozen].value), rounded);
  EXPECT_EQ(tests::read_doubles(machine.stream, set[plain].value), values);
}

}  // namespace
}  // namespace flyover::autograd
