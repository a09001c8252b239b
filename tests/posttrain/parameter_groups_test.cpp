// Parameter groups: which parameters a pattern means, and what freezing and own learning rates do to them.
#include "posttrain/parameter_groups.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/cpu/device.h"
#include "support/model_fixture.h"
#include "trainer/step.h"

namespace flyover::posttrain {
namespace {

using recipe::ParameterGroup;
using tensor::DType;
using tensor::MemoryKind;
using testing::HasSubstr;

recipe::Stage stage_with(std::vector<ParameterGroup> groups) {
  recipe::Stage stage;
  stage.optimizer.learning_rate = 1e-3;
  stage.optimizer.weight_decay = 0.1;
  stage.optimizer.parameter_groups = std::move(groups);
  return stage;
}

ParameterGroup frozen(const std::string& pattern) {
  return {.pattern = pattern, .frozen = true};
}

/// Names of the parameters that the groups freeze.
std::vector<std::string> frozen_names(const std::vector<ParameterGroup>& groups) {
  const auto model = tests::tiny_llama(false);
  const ParameterDecisions decisions = decide_parameters(model->parameters(), stage_with(groups));
  std::vector<std::string> names;
  for (std::size_t i = 0; i < decisions.frozen.size(); ++i) {
    if (decisions.frozen[i]) {
      names.push_back(model->parameters().all()[i].spec.name);
    }
  }
  return names;
}

std::string message_of(const std::vector<ParameterGroup>& groups) {
  try {
    frozen_names(groups);
  } catch (const base::Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(ParameterGroups, PatternsMatchWholeNames) {
  EXPECT_THAT(frozen_names({frozen("model.norm.weight")}), testing::ElementsAre("model.norm.weight"));
  EXPECT_THAT(frozen_names({frozen("*o_proj.weight")}),
              testing::ElementsAre("model.layers.0.self_attn.o_proj.weight", "model.layers.1.self_attn.o_proj.weight"));
  EXPECT_THAT(
      frozen_names({frozen("model.layers.1.*_layernorm.*")}),
      testing::ElementsAre("model.layers.1.input_layernorm.weight", "model.layers.1.post_attention_layernorm.weight"));
  EXPECT_THAT(frozen_names({frozen("*e*b*d*.weight*")}), testing::ElementsAre("model.embed_tokens.weight"));
  EXPECT_THAT(message_of({frozen("model.norm")}), HasSubstr("matches no parameter"));
  EXPECT_THAT(message_of({frozen("norm*")}), HasSubstr("matches no parameter"));
  EXPECT_THAT(message_of({frozen("*")}), HasSubstr("every parameter is frozen"));
  // A search that tried every way to share the name among the stars would not come to an end.
  EXPECT_THAT(message_of({frozen("*e*e*e*e*e*e*e*e*e*e*e*e*e*e*e*e*e*e*e*e*e*e*e*e*?")}),
              HasSubstr("matches no parameter"));
}

TEST(ParameterGroups, StackedParametersAreMatchedByAllTheirTensorsOrByTheirOwnName) {
  const auto both_layers =
      testing::ElementsAre("model.layers.0.mlp.gate_up_proj.weight", "model.layers.1.mlp.gate_up_proj.weight");
  EXPECT_THAT(frozen_names({frozen("*gate_up_proj*")}), both_layers);
  EXPECT_THAT(frozen_names({frozen("*.self_attn.*_proj.bias")}), testing::SizeIs(4));
  // "gate_up_proj" ends in "up_proj", but the gate is not meant.
  EXPECT_THAT(message_of({frozen("*up_proj*")}),
              testing::AllOf(HasSubstr("optimizer.parameter_groups[0]"), HasSubstr("layers.0.mlp.up_proj.weight"),
                             HasSubstr("not model.layers.0.mlp.gate_proj.weight"), HasSubstr("gate_up_proj")));
  EXPECT_THAT(message_of({frozen("*norm*"), frozen("*v_proj*")}),
              testing::AllOf(HasSubstr("optimizer.parameter_groups[1]"), HasSubstr("v_proj.weight but not")));
}

TEST(ParameterGroups, AGroupMayChooseBetweenMuonAndAdamW) {
  tests::Machine machine{devices::cpu::make_device(1, devices::cpu::choose_instruction_set(""))};
  const auto model = tests::tiny_llama(false);
  const std::vector<ParameterGroup> groups = {{.pattern = "*o_proj*", .optimizer = recipe::OptimizerName::kAdamW},
                                              {.pattern = "*embed*", .optimizer = recipe::OptimizerName::kMuon}};
  const ParameterDecisions decisions = decide_parameters(model->parameters(), stage_with(groups));
  model->parameters().allocate(machine.stream, DType::kF32, autograd::ParameterUse::kTraining);
  const auto optimizer = optim::make_optimizer(machine.stream, model->parameters(), decisions.settings,
                                               {.kind = optim::OptimizerKind::kMuon, .options = {}});
  std::vector<std::string> names;
  for (const optim::StateTensor& state : optimizer->state()) {
    names.push_back(state.name);
  }
  EXPECT_THAT(names, testing::IsSupersetOf({"first_moment/model.layers.0.self_attn.o_proj.weight",
                                            "momentum/model.layers.0.mlp.down_proj.weight",
                                            "momentum/model.embed_tokens.weight"}));
  EXPECT_THAT(message_of({{.pattern = "model.norm.weight", .optimizer = recipe::OptimizerName::kMuon}}),
              HasSubstr("optimizer is muon, but model.norm.weight is no matrix"));
}

TEST(ParameterGroups, TheFirstMatchingGroupCountsAndTheRestIsTheOptimizers) {
  const auto model = tests::tiny_llama(false);
  const ParameterDecisions decisions = decide_parameters(
      model->parameters(), stage_with({{.pattern = "*layers.0*norm*", .learning_rate = 1e-5},
                                       {.pattern = "*norm*", .weight_decay = 0.3},
                                       {.pattern = "lm_head*", .learning_rate = 2e-3, .weight_decay = 0.0}}));
  for (std::size_t i = 0; i < decisions.settings.size(); ++i) {
    const std::string& name = model->parameters().all()[i].spec.name;
    double learning_rate = 1e-3, weight_decay = 0.1;
    if (name.ends_with("bias")) {
      weight_decay = 0.0;
    } else if (name.find("norm") != std::string::npos) {
      const bool first = name.find("layers.0") != std::string::npos;
      learning_rate = first ? 1e-5 : 1e-3;
      weight_decay = first ? 0.0 : 0.3;
    } else if (name == "lm_head.weight") {
      learning_rate = 2e-3;
      weight_decay = 0.0;
    }
    EXPECT_EQ(decisions.settings[i].learning_rate, learning_rate) << name;
    EXPECT_EQ(decisions.settings[i].weight_decay, weight_decay) << name;
    EXPECT_FALSE(decisions.frozen[i]) << name;
  }
}

/// A model after one step of training with these groups.
struct Step {
  Step(const std::vector<ParameterGroup>& groups, DType dtype, double factor = 1.0) : model(tests::tiny_llama(true)) {
    decisions = decide_parameters(model->parameters(), stage_with(groups));
    auto& parameters = model->parameters().all();
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      parameters[i].trainable = !decisions.frozen[i];
    }
    model->parameters().allocate(machine.stream, dtype, autograd::ParameterUse::kTraining);
    tests::randomise(*model, machine.stream, 0.3, 1);
    for (const auto& parameter : parameters) {
      before.push_back(weights(parameter));
    }
    optimizer = std::make_unique<optim::AdamWOptimizer>(machine.stream, model->parameters(), decisions.settings,
                                                        optim::AdamWOptimizer::Options{0.9, 0.95, 1e-12});
    const auto gradients = trainer::compute_gradients(*model, machine.stream, {tests::tiny_batch()}, {});
    optimizer->step(1, factor, gradients.coefficient);
  }
  /// The exact weights: the masters, or the values where there are none.
  std::vector<double> weights(const autograd::Parameter& parameter) {
    return tests::read_doubles(machine.stream, parameter.master.defined() ? parameter.master : parameter.value);
  }
  std::uint64_t in_use(MemoryKind kind) const {
    return machine.allocator.statistics().current_by_kind[static_cast<std::size_t>(kind)];
  }

  tests::Machine machine{devices::cpu::make_device(1, devices::cpu::choose_instruction_set(""))};
  std::unique_ptr<models::LanguageModel> model;
  ParameterDecisions decisions;
  std::vector<std::vector<double>> before;
  std::unique_ptr<optim::AdamWOptimizer> optimizer;
};

std::uint64_t aligned(std::int64_t bytes) {
  return static_cast<std::uint64_t>((bytes + 63) / 64 * 64);
}

TEST(ParameterGroups, FrozenParametersKeepTheirBitsAndCostNoTrainingMemory) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    Step step({frozen("*embed_tokens*"), frozen("*mlp*"), frozen("*layers.0.input_layernorm*")}, dtype);
    std::uint64_t gradients = 0;
    int unchanged = 0;
    for (std::size_t i = 0; i < step.before.size(); ++i) {
      const autograd::Parameter& parameter = step.model->parameters().all()[i];
      const bool same = step.weights(parameter) == step.before[i];
      EXPECT_EQ(same, step.decisions.frozen[i]) << parameter.spec.name;
      EXPECT_EQ(parameter.gradient.defined(), !step.decisions.frozen[i]) << parameter.spec.name;
      unchanged += same;
      gradients += step.decisions.frozen[i] ? 0 : aligned(4 * parameter.spec.shape.elements());
    }
    EXPECT_EQ(unchanged, 1 + 4 + 1);
    EXPECT_EQ(step.in_use(MemoryKind::kGradients), gradients);
    EXPECT_EQ(step.in_use(MemoryKind::kOptimizer), 2 * gradients);
    for (const optim::StateTensor& entry : step.optimizer->state()) {
      EXPECT_EQ(entry.name.find("mlp"), std::string::npos) << entry.name;
    }
  }
}

/// AdamW's first step from zero moments: the corrected moments are g and g^2, so that every weight moves by
/// -learning_rate * (sign(g) + weight_decay * weight), whatever the gradient.
TEST(ParameterGroups, TheFirstStepIsAsLongAsTheGroupsLearningRate) {
  constexpr double kFactor = 0.5;
  Step step({{.pattern = "*o_proj.weight", .learning_rate = 4e-3}, {.pattern = "*down_proj*", .weight_decay = 0.7}},
            DType::kF32, kFactor);
  std::size_t checked = 0;
  for (std::size_t i = 0; i < step.before.size(); ++i) {
    const autograd::Parameter& parameter = step.model->parameters().all()[i];
    const std::string& name = parameter.spec.name;
    const double rate = kFactor * (name.ends_with("o_proj.weight") ? 4e-3 : 1e-3);
    const bool decays = !name.ends_with("bias") && name.find("norm") == std::string::npos;
    const double decay = name.find("down_proj") != std::string::npos ? 0.7 : decays ? 0.1 : 0.0;
    const auto after = step.weights(parameter);
    const auto gradient = tests::read_doubles(step.machine.stream, parameter.gradient);
    for (std::size_t k = 0; k < after.size(); ++k) {
      if (std::abs(gradient[k]) > 1e-6) {  // far above epsilon
        const double expected = -rate * (std::copysign(1.0, gradient[k]) + decay * step.before[i][k]);
        EXPECT_NEAR(after[k] - step.before[i][k], expected, 1e-6 * (rate + std::abs(step.before[i][k]))) << name;
        ++checked;
      }
    }
  }
  EXPECT_GT(checked, 500u);
}

}  // namespace
}  // namespace flyover::posttrain
