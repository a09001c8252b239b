// The whole model against finite differences in fp64 on the reference device.
#include <cmath>

#include <gtest/gtest.h>

#include "devices/reference/device.h"
#include "nn/batch.h"
#include "ops/loss.h"
#include "support/model_fixture.h"

namespace flyover::models {
namespace {

using autograd::RecomputePolicy;
using autograd::Tape;
using autograd::TapeOptions;
using autograd::WeightGradients;
using tensor::DType;

struct Trained {
  tests::Machine machine{devices::reference::make_device()};
  std::unique_ptr<LanguageModel> model;

  explicit Trained(const std::string& variant) {
    model = tests::tiny_model(variant);
    model->parameters().allocate(machine.stream, DType::kF64, autograd::ParameterUse::kTraining);
    tests::randomise(*model, machine.stream, 0.3, 1);
  }

  double loss(bool differentiate, RecomputePolicy policy = RecomputePolicy::kNone,
              WeightGradients when = WeightGradients::kWithInputs) {
    tensor::Stream& stream = machine.stream;
    Tape tape(stream, model->parameters(), TapeOptions{differentiate, policy, nullptr});
    nn::TokenBatch batch = nn::upload(stream, tests::tiny_batch(), DType::kF64);
    batch.auxiliary.further = nn::further_targets(stream, tests::tiny_batch(), 0.4f, DType::kF64);
    const tensor::Tensor total = stream.zeros({1}, DType::kF64);
    const TrainingStates states = model->training_states(tape, batch);
    const auto cross_entropy = [&](const autograd::Variable& hidden, const ops::LossTargets& targets) {
      return ops::linear_cross_entropy(tape, hidden, model->output_weight(), targets, total, 3).loss;
    };
    autograd::Variable last = cross_entropy(states.hidden, batch.targets);
    if (states.further.value.defined()) {
      last = cross_entropy(states.further, batch.auxiliary.further.targets);
    }
    if (differentiate) {
      tape.backward(last, {}, when);
      if (when == WeightGradients::kLater) {
        tape.run_weight_gradients();
      }
    }
    return tests::read_doubles(stream, total)[0];
  }

  std::vector<std::vector<double>> gradients() {
    std::vector<std::vector<double>> result;
    for (const auto& parameter : model->parameters().all()) {
      result.push_back(parameter.gradient.defined() ? tests::read_doubles(machine.stream, parameter.gradient)
                                                    : std::vector<double>());
    }
    return result;
  }
};

class ModelGradient : public testing::TestWithParam<std::string> {};

TEST_P(ModelGradient, EqualsCentralDifferencesForEveryParameter) {
  Trained trained(GetParam());
  trained.loss(true);
  const auto gradients = trained.gradients();
  constexpr double kStep = 1e-4;
  std::size_t index = 0;
  for (auto& parameter : trained.model->parameters().all()) {
    const std::vector<double>& gradient = gradients[index++];
    if (gradient.empty() || parameter.spec.trained_by == autograd::TrainedBy::kIndexer) {
      continue;  // not moved by these losses
    }
    std::vector<double> values = tests::read_doubles(trained.machine.stream, parameter.value);
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < values.size(); i += 1 + values.size() / 24) {
      const double original = values[i];
      const auto loss_at = [&](double offset) {
        values[i] = original + offset;
        tests::write_doubles(trained.machine.stream, parameter.value, values);
        return trained.loss(false);
      };
      // Five points: the error is of the fourth order in the step.
      const double near = loss_at(kStep) - loss_at(-kStep), far = loss_at(2 * kStep) - loss_at(-2 * kStep);
      loss_at(0.0);
      const double expected = (8.0 * near - far) / (12.0 * kStep);
      error += (gradient[i] - expected) * (gradient[i] - expected);
      norm += expected * expected;
    }
    EXPECT_GT(norm, 0) << parameter.spec.name;
    EXPECT_LT(std::sqrt(error), 1e-7 * std::sqrt(norm) + 1e-11) << parameter.spec.name;
  }
}

TEST_P(ModelGradient, RecomputationAndPostponedWeightGradientsGiveTheSameBits) {
  Trained plain(GetParam());
  const double loss = plain.loss(true);
  const auto expected = plain.gradients();
  for (const auto policy : {RecomputePolicy::kNone, RecomputePolicy::kSelective, RecomputePolicy::kBlock}) {
    for (const auto when : {WeightGradients::kWithInputs, WeightGradients::kLater}) {
      Trained other(GetParam());
      EXPECT_EQ(other.loss(true, policy, when), loss);
      EXPECT_EQ(other.gradients(), expected) << name_of(policy) << (when == WeightGradients::kLater ? " later" : "");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, ModelGradient,
                         testing::Values("llama", "llama_tied", "qwen3_moe", "deepseek_v3", "deepseek_v4"),
                         [](const auto& parameters) { return parameters.param; });

}  // namespace
}  // namespace flyover::models
