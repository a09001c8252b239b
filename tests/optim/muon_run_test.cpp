// What holds of training with Muon besides its formula: bits, memory, state, and the parameters that are not its own.
#include <algorithm>

#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/cpu/device.h"
#include "devices/delayed/device.h"
#include "devices/meta/device.h"
#include "devices/reference/device.h"
#include "optim/muon.h"
#include "optim/parameters.h"

namespace flyover::optim::test {
namespace {

/// Of every role, Muon's in several shapes.
std::vector<ParameterSpec> all_roles() {
  ParameterSpec exact = spec_of("fn", {24, 50}, ParameterRole::kMatrix, {4, 4, 16});
  exact.storage = autograd::ParameterStorage::kExact;
  return {spec_of("embedding", {30, 16}, ParameterRole::kEmbedding),
          spec_of("gate_up", {5, 40, 48}, ParameterRole::kMatrix, {20, 20}),
          spec_of("norm", {16}, ParameterRole::kNorm),
          spec_of("down", {5, 48, 20}),
          spec_of("bias", {7}, ParameterRole::kBias),
          spec_of("gates", {7, 3}, ParameterRole::kBias),
          exact,
          spec_of("balance", {6}, ParameterRole::kBalance),
          spec_of("output", {30, 16}, ParameterRole::kOutput)};
}

std::vector<ParameterSettings> settings() {
  std::vector<ParameterSettings> result;
  for (std::size_t i = 0; i < all_roles().size(); ++i) {
    result.push_back({0.01 + 0.001 * static_cast<double>(i), i % 2 == 0 ? 0.1 : 0.0});
  }
  return result;
}

void run_steps(Parameters& parameters, Optimizer& optimizer, std::int64_t first, std::int64_t last) {
  for (std::int64_t step = first; step <= last; ++step) {
    parameters.set_gradients(step);
    optimizer.step(step, 1.0 / static_cast<double>(step), parameters.scale(0.8));
  }
}

/// The bytes of all weights after three steps.
std::vector<std::byte> trained(std::unique_ptr<devices::Device> device, DType compute,
                               const MuonOptimizer::Options& options) {
  Parameters parameters(std::move(device), compute, all_roles());
  MuonOptimizer optimizer(parameters.stream, parameters.set, settings(), options);
  run_steps(parameters, optimizer, 1, 3);
  return parameters.all_bytes();
}

TEST(MuonRun, GivesTheSameBitsWithAnyNumberOfThreadsAndSizeOfBatches) {
  for (const devices::cpu::InstructionSet set : devices::cpu::available_instruction_sets()) {
    for (const DType compute : {DType::kF32, DType::kBf16}) {
      const auto expected = trained(devices::cpu::make_device(1, set), compute, {});
      EXPECT_EQ(trained(devices::cpu::make_device(2, set), compute, {}), expected);
      MuonOptimizer::Options options;
      options.temporary_bytes = 1;  // one matrix at a time
      EXPECT_EQ(trained(devices::cpu::make_device(3, set), compute, options), expected);
      options.temporary_bytes = 3 * newton_schulz_bytes(20, 48, compute);
      EXPECT_EQ(trained(devices::cpu::make_device(2, set), compute, options), expected);
    }
  }
}

TEST(MuonRun, GivesTheSameBitsOnTheDeviceThatDelaysEverything) {
  MuonOptimizer::Options options;
  options.temporary_bytes = 3 * newton_schulz_bytes(20, 48, DType::kBf16);
  EXPECT_EQ(trained(devices::delayed::make_device(1, 64 << 20), DType::kBf16, options),
            trained(devices::reference::make_device(), DType::kBf16, options));
}

TEST(MuonRun, UpdatesWhatIsNoMatrixExactlyAsAdamWDoes) {
  for (const StateStorage state : {StateStorage::kExact, StateStorage::kBf16}) {
    Parameters parameters(cpu(2), DType::kBf16, all_roles()), with_adamw(cpu(), DType::kBf16, all_roles());
    AdamWOptimizer::Options adamw;
    adamw.beta1 = 0.8;
    adamw.beta2 = 0.93;
    adamw.epsilon = 1e-20;
    adamw.state = state;
    MuonOptimizer::Options options;
    options.adamw = adamw;
    MuonOptimizer optimizer(parameters.stream, parameters.set, settings(), options);
    AdamWOptimizer plain(with_adamw.stream, with_adamw.set, settings(), adamw);
    run_steps(parameters, optimizer, 1, 3);
    run_steps(with_adamw, plain, 1, 3);
    for (const autograd::Parameter& parameter : parameters.set.all()) {
      const std::string& name = parameter.spec.name;
      const bool same = parameters.bytes(parameter.value) == with_adamw.bytes(with_adamw[name].value);
      EXPECT_EQ(same, parameter.spec.role != ParameterRole::kMatrix) << name;
    }
  }
}

TEST(MuonRun, LeavesFrozenParametersAlone) {
  const std::vector<std::string> frozen = {"embedding", "gate_up", "fn"};
  Parameters parameters(cpu(), DType::kBf16, all_roles(), frozen);
  const auto start = [&](const std::string& name) { return parameters.bytes(parameters[name].value); };
  std::vector<std::vector<std::byte>> before;
  for (const auto& spec : all_roles()) {
    before.push_back(start(spec.name));
  }
  MuonOptimizer optimizer(parameters.stream, parameters.set, settings(), {});
  run_steps(parameters, optimizer, 1, 2);
  for (std::size_t i = 0; i < before.size(); ++i) {
    const std::string name = all_roles()[i].name;
    const bool untouched = std::find(frozen.begin(), frozen.end(), name) != frozen.end() || name == "balance";
    EXPECT_EQ(start(name) == before[i], untouched) << name;
  }
  for (const StateTensor& entry : optimizer.state()) {
    for (const std::string& name : frozen) {
      EXPECT_FALSE(entry.name.ends_with("/" + name)) << entry.name;
    }
  }
}

TEST(MuonRun, ResumesFromItsStateToTheSameBits) {
  for (const StateStorage state : {StateStorage::kExact, StateStorage::kBf16}) {
    MuonOptimizer::Options options;
    options.state = state;
    options.adamw.state = state;
    Parameters whole(cpu(2), DType::kBf16, all_roles()), resumed(cpu(), DType::kBf16, all_roles());
    MuonOptimizer first(whole.stream, whole.set, settings(), options);
    run_steps(whole, first, 1, 2);
    MuonOptimizer second(resumed.stream, resumed.set, settings(), options);
    const auto from = first.state(), to = second.state();
    ASSERT_EQ(from.size(), to.size());
    for (std::size_t i = 0; i < from.size(); ++i) {
      EXPECT_EQ(from[i].name, to[i].name);
      resumed.stream.write(to[i].tensor, whole.bytes(from[i].tensor));
    }
    for (const autograd::Parameter& parameter : whole.set.all()) {
      autograd::Parameter& other = resumed[parameter.spec.name];
      resumed.stream.write(other.value, whole.bytes(parameter.value));
      if (parameter.master.defined()) {
        resumed.stream.write(other.master, whole.bytes(parameter.master));
      }
    }
    run_steps(whole, first, 3, 4);
    run_steps(resumed, second, 3, 4);
    EXPECT_EQ(whole.all_bytes(), resumed.all_bytes());
  }
}

TEST(MuonRun, NamesItsStateAfterTheParameters) {
  Parameters parameters(cpu(), DType::kBf16, all_roles());
  std::vector<std::string> names;
  for (const StateTensor& entry : MuonOptimizer(parameters.stream, parameters.set, settings(), {}).state()) {
    names.push_back(entry.name);
    const std::string name = entry.name.substr(entry.name.find('/') + 1);
    EXPECT_EQ(entry.tensor.shape(), parameters[name].spec.shape) << entry.name;
    EXPECT_EQ(entry.tensor.dtype(), DType::kF32) << entry.name;
  }
  EXPECT_EQ(names,
            (std::vector<std::string>{"momentum/gate_up", "momentum/down", "momentum/fn", "first_moment/embedding",
                                      "second_moment/embedding", "first_moment/norm", "second_moment/norm",
                                      "first_moment/bias", "second_moment/bias", "first_moment/gates",
                                      "second_moment/gates", "first_moment/output", "second_moment/output"}));
}

TEST(MuonRun, StateInBf16TakesHalfTheMemory) {
  const auto bytes = [](StateStorage state) {
    Parameters parameters(cpu(), DType::kBf16, all_roles());
    MuonOptimizer::Options options;
    options.state = state;
    options.adamw.state = state;
    std::uint64_t total = 0;
    for (const StateTensor& entry : MuonOptimizer(parameters.stream, parameters.set, settings(), options).state()) {
      total += entry.tensor.bytes();
    }
    return total;
  };
  EXPECT_EQ(bytes(StateStorage::kExact), 2 * bytes(StateStorage::kBf16));
}

TEST(MuonRun, SecondMomentsInBf16NeedABeta2WithWhichTheyCanFall) {
  Parameters parameters(cpu(), DType::kBf16, all_roles());
  AdamWOptimizer::Options options;
  options.beta2 = 0.999;
  EXPECT_NO_THROW(AdamWOptimizer(parameters.stream, parameters.set, settings(), options));
  options.state = StateStorage::kBf16;
  EXPECT_THROW(AdamWOptimizer(parameters.stream, parameters.set, settings(), options), base::Error);

  // The largest that is allowed: without gradients the moments go on falling from any value.
  options.beta2 = 0.995;
  AdamWOptimizer optimizer(parameters.stream, parameters.set, settings(), options);
  parameters.set_gradients(1);
  optimizer.step(1, 1.0, parameters.scale(1.0));
  const tensor::Tensor moment = optimizer.state()[1].tensor;
  const auto before = parameters.read(moment);
  for (std::int64_t step = 2; step <= 4; ++step) {
    optimizer.step(step, 1.0, parameters.scale(0.0));
  }
  const auto after = parameters.read(moment);
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_LT(after[i], before[i]);
  }
}

TEST(MuonRun, TemporariesOfALargeModelStayWithinTheirBytes) {
  const auto set = devices::cpu::available_instruction_sets().back();
  auto device = devices::meta::make_device(devices::cpu::kernel_table(set), 2, "");
  tensor::Allocator allocator(*device);
  tensor::Stream stream(*device, allocator);
  autograd::ParameterSet parameters;
  parameters.add(spec_of("experts", {256, 2048, 1024}, ParameterRole::kMatrix, {1024, 1024}));
  parameters.allocate(stream, DType::kBf16, autograd::ParameterUse::kTraining);
  MuonOptimizer optimizer(stream, parameters, {{0.01, 0.1}}, {});
  allocator.reset_peaks();
  optimizer.step(1, 1.0, stream.empty({1}, DType::kF32));
  const auto peak = [&](tensor::MemoryKind kind) {
    return allocator.statistics().peak_by_kind[static_cast<std::size_t>(kind)];
  };
  constexpr std::uint64_t kPacking = 16 << 20;  // what products need for themselves
  EXPECT_LE(peak(tensor::MemoryKind::kWorkspace), MuonOptimizer::Options{}.temporary_bytes + kPacking);
  EXPECT_GE(peak(tensor::MemoryKind::kOptimizer), parameters.elements() * 4u);
  EXPECT_LT(peak(tensor::MemoryKind::kActivations), 1u << 20);
}

}  // namespace
}  // namespace flyover::optim::test
