// With real operations: the tape holds handles of parameters and not their storage; and when weight gradients are
// computed, and what is recomputed, changes no bit.
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "devices/cpu/device.h"
#include "devices/reference/device.h"
#include "nn/batch.h"
#include "ops/loss.h"
#include "support/model_fixture.h"

namespace flyover::autograd {
namespace {

struct Device {
  const char* name;
  DType dtype;
};

std::unique_ptr<devices::Device> make_device(const std::string& name) {
  return name == "reference" ? devices::reference::make_device()
                             : devices::cpu::make_device(2, devices::cpu::choose_instruction_set(""));
}

/// A model of two blocks with one forward and backward pass.
struct Pass {
  Pass(const Device& device, TapeOptions options)
      : machine(make_device(device.name)),
        model(tests::tiny_llama(false)),
        tape(machine.stream, model->parameters(), options) {
    model->parameters().allocate(machine.stream, device.dtype, ParameterUse::kTraining);
    tests::randomise(*model, machine.stream, 0.3, 1);
  }

  Variable forward() {
    batch = nn::upload(machine.stream, tests::tiny_batch());
    total = machine.stream.zeros({1}, DType::kF32);
    const Variable hidden = model->hidden_states(tape, batch);
    return ops::linear_cross_entropy(tape, hidden, model->output_weight(), batch.targets, total, 3).loss;
  }
  /// The loss and all gradients.
  std::vector<std::vector<double>> results() {
    std::vector<std::vector<double>> values = {tests::read_doubles(machine.stream, total)};
    for (const Parameter& parameter : model->parameters().all()) {
      values.push_back(tests::read_doubles(machine.stream, parameter.gradient));
    }
    return values;
  }

  tests::Machine machine;
  std::unique_ptr<models::LanguageModel> model;
  nn::TokenBatch batch;
  Tensor total;
  Tape tape;
};

std::vector<std::vector<double>> plain_results(const Device& device) {
  Pass pass(device, {});
  pass.tape.backward(pass.forward(), {});
  return pass.results();
}

class TapeBits : public testing::TestWithParam<Device> {};

TEST_P(TapeBits, SplitBackwardAndEveryRecomputePolicyGiveTheBitsOfTheJointOne) {
  const auto expected = plain_results(GetParam());
  for (const auto policy : {RecomputePolicy::kNone, RecomputePolicy::kSelective, RecomputePolicy::kBlock}) {
    for (const auto when : {WeightGradients::kWithInputs, WeightGradients::kLater}) {
      Pass pass(GetParam(), {true, policy, nullptr});
      pass.tape.backward(pass.forward(), {}, when);
      if (when == WeightGradients::kLater) {
        EXPECT_NE(pass.results(), expected) << "the weight gradients were not to be computed yet";
        pass.tape.run_weight_gradients();
      }
      EXPECT_EQ(pass.results(), expected) << name_of(policy) << (when == WeightGradients::kLater ? ", split" : "");
    }
  }
}

TEST_P(TapeBits, StorageOfParametersMayChangeBetweenForwardAndBackward) {
  const auto expected = plain_results(GetParam());
  Pass pass(GetParam(), {});
  const Variable loss = pass.forward();
  for (Parameter& parameter : pass.model->parameters().all()) {
    const std::weak_ptr<tensor::Storage> old = parameter.value.storage();
    parameter.master = Tensor();
    const auto values = tests::read_doubles(pass.machine.stream, parameter.value);
    parameter.value = pass.machine.stream.empty(parameter.spec.shape, GetParam().dtype);
    EXPECT_TRUE(old.expired()) << "something holds the storage of " << parameter.spec.name;
    tests::write_doubles(pass.machine.stream, parameter.value, values);
  }
  pass.tape.backward(loss, {});
  EXPECT_EQ(pass.results(), expected);
}

TEST_P(TapeBits, ParametersOfABlockNeedToExistBetweenItsHooksOnly) {
  const auto expected = plain_results(GetParam());
  for (const auto policy : {RecomputePolicy::kNone, RecomputePolicy::kSelective, RecomputePolicy::kBlock}) {
    BlockHooks hooks;
    Pass pass(GetParam(), {true, policy, &hooks});
    tensor::Stream& stream = pass.machine.stream;
    std::map<std::string, std::vector<double>> stored;  // the shards of other ranks, so to speak
    const auto visit_block = [&](std::string_view block, const auto& action) {
      int visited = 0;
      for (Parameter& parameter : pass.model->parameters().all()) {
        if (parameter.spec.name.starts_with("model.layers." + std::string(block.substr(6)) + ".")) {
          action(parameter);
          ++visited;
        }
      }
      EXPECT_GT(visited, 3) << block;
    };
    const auto gather = [&](std::string_view block) {
      visit_block(block, [&](Parameter& parameter) {
        EXPECT_FALSE(parameter.value.defined());
        parameter.value = stream.empty(parameter.spec.shape, GetParam().dtype);
        tests::write_doubles(stream, parameter.value, stored.at(parameter.spec.name));
      });
    };
    const auto release = [&](std::string_view block) {
      visit_block(block, [&](Parameter& parameter) { parameter.value = Tensor(); });
    };
    for (const char* block : {"layer.0", "layer.1"}) {
      visit_block(block, [&](Parameter& parameter) {
        stored[parameter.spec.name] = tests::read_doubles(stream, parameter.value);
        parameter.master = Tensor();
      });
      release(block);
    }
    hooks = {gather, release, gather, release};
    pass.tape.backward(pass.forward(), {});
    EXPECT_EQ(pass.results(), expected) << name_of(policy);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, TapeBits,
                         testing::Values(Device{"reference", DType::kF32}, Device{"reference", DType::kBf16},
                                         Device{"cpu", DType::kF32}, Device{"cpu", DType::kBf16}),
                         [](const auto& parameters) {
                           return std::string(parameters.param.name) + "_" +
                                  std::string(kernels::name_of(parameters.param.dtype));
                         });

}  // namespace
}  // namespace flyover::autograd
