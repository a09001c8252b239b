// What is not finite stops a run, or skips a step, and is named: step, rows and the first tensor affected.
#include "trainer/non_finite.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "support/model_fixture.h"
#include "support/shared_data.h"
#include "trainer/training.h"

namespace flyover::trainer {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr double kHuge = 3e38;  // finite, as f32 and bf16

autograd::Parameter& parameter_of(models::LanguageModel& model, const std::string& name) {
  auto& all = model.parameters().all();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const autograd::Parameter& each) { return each.spec.name == name; });
  base::check(found != all.end(), "no parameter {}", name);
  return *found;
}

/// Changes the elements of a parameter: `change(index, value)` gives the new one.
template <typename Change>
void change(models::LanguageModel& model, tensor::Stream& stream, const std::string& name, const Change& change) {
  const autograd::Parameter& parameter = parameter_of(model, name);
  for (const tensor::Tensor& tensor : {parameter.value, parameter.master}) {
    if (tensor.defined()) {
      std::vector<double> values = tests::read_doubles(stream, tensor);
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = change(i, values[i]);
      }
      tests::write_doubles(stream, tensor, values);
    }
  }
}

void fill(models::LanguageModel& model, tensor::Stream& stream, const std::string& name, double value) {
  change(model, stream, name, [&](std::size_t, double) { return value; });
}

std::string message_of(Training& training, const TrainerOptions& options = trainer_options()) {
  try {
    training.run(false, options);
  } catch (const base::Error& error) {
    return error.what();
  }
  return "completed";
}

/// Finite weights with which the MLP of a layer overflows, whatever the document.
void make_mlp_overflow(models::LanguageModel& model, tensor::Stream& stream, const std::string& norm,
                       const std::string& down) {
  fill(model, stream, norm, 1e3);
  fill(model, stream, down, kHuge);
}

/// DeepSeek-V4's hash layers have tables of expert numbers among their parameters.
class Nonfinite : public testing::TestWithParam<std::string> {
 protected:
  static bool is_v4() { return GetParam() == "deepseek_v4"; }
  static std::string norm_name() { return is_v4() ? "norm.weight" : "model.norm.weight"; }
  std::unique_ptr<Training> make_training(std::int64_t max_steps = 0, DType dtype = DType::kF32) const {
    return std::make_unique<Training>(cpu_device(), dtype, directory_.path(), max_steps, GetParam());
  }
  std::unique_ptr<Training> overflowing_training() const {
    auto training = make_training();
    make_mlp_overflow(*training->model, training->machine.stream,
                      is_v4() ? "layers.1.ffn_norm.weight" : "model.layers.1.post_attention_layernorm.weight",
                      is_v4() ? "layers.1.ffn.shared_experts.w2.weight" : "model.layers.1.mlp.down_proj.weight");
    return training;
  }
  /// A training whose first update makes every weight infinite.
  std::unique_ptr<Training> breaking_training(std::int64_t max_steps, DType dtype) const {
    auto training = make_training(max_steps, dtype);
    training->optimizer = optim::make_optimizer(
        training->machine.stream, training->model->parameters(),
        std::vector<optim::ParameterSettings>(training->model->parameters().all().size(), {1e-2, 1e300}), {});
    return training;
  }

  tests::TemporaryDirectory directory_;
};

TEST_P(Nonfinite, StopsNamingStepRowsAndTheFirstOutput) {
  const auto training = overflowing_training();
  const std::size_t rows = training->plan.batch(0).size();
  EXPECT_THAT(message_of(*training),
              AllOf(HasSubstr("step 1: loss "), HasSubstr("first tensor affected: the output of layer 1 (element "),
                    HasSubstr(fmt::format("rows that give it alone ({} of {}): generated:", rows, rows)),
                    HasSubstr("The weights are those of step 0")));
  EXPECT_TRUE(training->checkpoints.steps().empty());
}

TEST_P(Nonfinite, SkippedStepsAreCountedAndChangeNothing) {
  const auto training = overflowing_training();
  training->validation = nullptr;
  const auto before = training->state();
  TrainerOptions options = trainer_options();
  options.skip_nonfinite = true;
  EXPECT_EQ(training->run(false, options), Outcome::kCompleted);
  EXPECT_EQ(training->last.skipped_steps, training->plan.steps());
  EXPECT_EQ(training->state(), before);
  EXPECT_EQ(training->run(true, options), Outcome::kCompleted) << "its checkpoint can be read";
}

TEST_P(Nonfinite, AModelThatIsBrokenIsNotStartedFrom) {
  for (const bool skip : {false, true}) {
    const auto training = make_training();
    change(*training->model, training->machine.stream, norm_name(),
           [](std::size_t i, double value) { return i == 2 ? std::numeric_limits<double>::quiet_NaN() : value; });
    TrainerOptions options = trainer_options();
    options.skip_nonfinite = skip;
    EXPECT_THAT(message_of(*training, options),
                AllOf(HasSubstr("step 0"), HasSubstr("parameter " + norm_name() + " (element 2)"),
                      HasSubstr("Check the model")));
    EXPECT_FALSE(std::filesystem::exists(training->checkpoints.path()));
  }
}

TEST_P(Nonfinite, WeightsThatTheLastUpdateBrokeAreNotSaved) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    const auto training = breaking_training(1, dtype);
    training->validation = nullptr;
    EXPECT_THAT(message_of(*training), AllOf(HasSubstr("step 1: the weights are not finite"), HasSubstr("parameter "),
                                             HasSubstr("weight_decay")));
    EXPECT_FALSE(std::filesystem::exists(training->checkpoints.path()));
  }
}

TEST_P(Nonfinite, WeightsThatAnEarlierUpdateBrokeStopTheRunAlsoWhereStepsAreSkipped) {
  for (const bool skip : {false, true}) {
    const auto training = breaking_training(0, DType::kF32);
    TrainerOptions options = trainer_options();
    options.skip_nonfinite = skip;
    EXPECT_THAT(message_of(*training, options),
                AllOf(HasSubstr("step 2: loss "), HasSubstr("first tensor affected: parameter "),
                      HasSubstr("its rows are not the cause: generated:"), HasSubstr("weight_decay")));
    EXPECT_FALSE(std::filesystem::exists(training->checkpoints.path()));
  }
}

TEST_P(Nonfinite, AValidationLossThatBrokenWeightsGiveNamesThem) {
  const auto training = breaking_training(1, DType::kF32);
  EXPECT_THAT(message_of(*training), AllOf(HasSubstr("step 1: validation loss "),
                                           HasSubstr("first tensor affected: parameter "), HasSubstr("weight_decay")));
  EXPECT_FALSE(std::filesystem::exists(training->checkpoints.path()));
}

INSTANTIATE_TEST_SUITE_P(Families, Nonfinite, testing::Values("llama_tied", "deepseek_v4"),
                         [](const auto& test) { return test.param; });

constexpr std::int32_t kBadToken = 10;

/// Makes the attention scores of a model of tests::tiny_llama overflow in documents that hold the bad token, and in no
/// others: only that token has anything in the first column of the embeddings, which the first layer's queries and keys
/// multiply by 2e19.
void make_token_bad(models::LanguageModel& model, tensor::Stream& stream) {
  const auto width = static_cast<std::size_t>(model.summary().hidden_size);
  constexpr std::size_t kQueriesAndKeys = (4 + 2) * 6;
  change(model, stream, "model.embed_tokens.weight", [&](std::size_t i, double value) {
    return i % width != 0 ? value : i / width == kBadToken ? 1.0 : 0.0;
  });
  change(model, stream, "model.layers.0.self_attn.qkv_proj.weight",
         [&](std::size_t i, double value) { return i % width == 0 && i / width < kQueriesAndKeys ? 2e19 : value; });
}

/// The bad token becomes the first of these sequences, and another token everywhere else.
void place_bad_token(data::Dataset& dataset, const std::vector<std::size_t>& sequences) {
  for (data::Sequence& sequence : dataset.sequences) {
    std::replace(sequence.tokens.begin(), sequence.tokens.end(), kBadToken, 0);
  }
  for (const std::size_t sequence : sequences) {
    dataset.sequences[sequence].tokens[0] = kBadToken;
  }
}

/// A training of such a model, which keeps the weights that matter.
class BadToken : public testing::Test {
 protected:
  BadToken() : training_(cpu_device(), DType::kF32, directory_.path(), 2, "llama") {
    make_token_bad(*training_.model, training_.machine.stream);
    training_.optimizer =
        optim::make_optimizer(training_.machine.stream, training_.model->parameters(),
                              std::vector<optim::ParameterSettings>(training_.model->parameters().all().size()), {});
    options_.micro_batch_tokens = 60;
  }

  tests::TemporaryDirectory directory_;
  Training training_;
  TrainerOptions options_ = trainer_options();
};

TEST_F(BadToken, OnlyTheRowsThatHoldItAreNamed) {
  const auto batch = training_.plan.batch(1);
  ASSERT_GE(batch.size(), 4u);
  place_bad_token(training_.dataset, {batch[1], batch[3]});
  for (const std::uint32_t index : training_.plan.batch(0)) {
    ASSERT_NE(training_.dataset.sequences[index].tokens[0], kBadToken) << "this test needs a first step that is fine";
  }
  training_.validation = nullptr;
  const auto row = [&](std::size_t i) { return training_.dataset.sequences[batch[i]].row; };
  EXPECT_THAT(
      message_of(training_, options_),
      AllOf(HasSubstr("step 2: loss "), HasSubstr("first tensor affected: the output of layer 0 (element "),
            HasSubstr(fmt::format("; rows that give it alone (2 of {}): generated:{}, generated:{}. The weights",
                                  batch.size(), row(1), row(3)))));
}

TEST_F(BadToken, InAValidationSetStopsTheRun) {
  data::Dataset validation = make_dataset();
  validation.source_names = {"held-out"};
  place_bad_token(training_.dataset, {});
  place_bad_token(validation, {6});
  training_.validation = &validation;
  for (const bool skip : {false, true}) {
    options_.skip_nonfinite = skip;
    for (const auto& [every, step] : {std::pair(1, 0), std::pair(0, 2)}) {
      options_.validation_every = every;
      EXPECT_THAT(message_of(training_, options_),
                  AllOf(HasSubstr(fmt::format("step {}: validation loss ", step)),
                        HasSubstr("nan; first tensor affected: the output of layer 0"),
                        HasSubstr("; rows that give it alone (1 of 20): held-out:7. ")));
      EXPECT_FALSE(std::filesystem::exists(training_.checkpoints.path()));
    }
  }
}

/// Causes of what a Llama of four layers gives.
class Cause : public testing::Test {
 protected:
  Cause() {
    base::Json config = base::parse_json(tests::tiny_config("llama"), "config.json");
    config["num_hidden_layers"] = 4;
    model_ = models::make_model(config, "config.json");
    for (autograd::Parameter& parameter : model_->parameters().all()) {
      parameter.trainable = true;
    }
    model_->parameters().allocate(stream(), DType::kF32, autograd::ParameterUse::kTraining);
    tests::randomise(*model_, stream(), 0.2, 1);
  }
  tensor::Stream& stream() { return machine_.stream; }
  NonFiniteCause find(const std::vector<nn::PackedTokens>& micro_batches, NonFinitePass pass) {
    return find_non_finite_cause(*model_, stream(), micro_batches, {}, pass);
  }
  /// Documents of the same four tokens, the last of which is the target, with these weights.
  static nn::PackedTokens pack(const std::vector<float>& weights) {
    nn::PackedTokens packed;
    for (const float weight : weights) {
      packed.document_lengths.push_back(4);
      packed.tokens.insert(packed.tokens.end(), {1, 5, 2, 7});
      const std::int32_t ignored = kernels::kIgnoredTarget;
      packed.targets.insert(packed.targets.end(), {ignored, ignored, 7, ignored});
      packed.weights.insert(packed.weights.end(), {0.0f, 0.0f, weight, 0.0f});
    }
    return packed;
  }

  tests::Machine machine_{cpu_device()};
  std::unique_ptr<models::LanguageModel> model_;
};

TEST_F(Cause, IsTheFirstOutputThatOverflows) {
  make_mlp_overflow(*model_, stream(), "model.layers.2.post_attention_layernorm.weight",
                    "model.layers.2.mlp.down_proj.weight");
  for (const NonFinitePass pass : {NonFinitePass::kTraining, NonFinitePass::kValidation}) {
    const NonFiniteCause cause = find({tests::tiny_batch()}, pass);
    EXPECT_THAT(cause.tensor, HasSubstr("the output of layer 2 (element "));
    EXPECT_EQ(cause.share, DocumentShare::kAlone);
    EXPECT_THAT(cause.documents, ElementsAre(0, 1));
  }
}

TEST_F(Cause, AfterTheLastBlockIsTheNormOrTheLoss) {
  fill(*model_, stream(), "model.norm.weight", kHuge);
  EXPECT_THAT(find({tests::tiny_batch()}, NonFinitePass::kTraining).tensor,
              HasSubstr("the hidden states after the last norm (element "));
  fill(*model_, stream(), "model.norm.weight", 1e10);
  fill(*model_, stream(), "lm_head.weight", kHuge);
  EXPECT_THAT(find({tests::tiny_batch()}, NonFinitePass::kTraining).tensor, HasSubstr("the loss"));
}

TEST_F(Cause, DocumentsAreCountedOverAllMicroBatches) {
  const NonFiniteCause cause =
      find({pack({1, 1, 1}), pack({1, 1, std::nanf(""), 1, std::nanf("")}), pack({1}), pack({std::nanf("")})},
           NonFinitePass::kTraining);
  EXPECT_EQ(cause.share, DocumentShare::kAlone);
  EXPECT_THAT(cause.documents, ElementsAre(5, 7, 9));
  EXPECT_THAT(cause.tensor, HasSubstr("the loss"));
}

TEST_F(Cause, OfGradientsIsTheFirstInTheOrderOfTheBackwardPass) {
  // The loss is 1e38 times a few; gradients are that times hidden states of 10 and more. An output layer of a tenth
  // keeps logits small, and small embeddings make the norms' gradients large.
  fill(*model_, stream(), "model.norm.weight", 10.0);
  for (const char* name : {"lm_head.weight", "model.embed_tokens.weight"}) {
    change(*model_, stream(), name, [](std::size_t, double value) { return 0.1 * value; });
  }
  const nn::PackedTokens packed = pack({1e38f});
  const Gradients gradients = compute_gradients(*model_, stream(), {packed}, {});
  ASSERT_TRUE(std::isfinite(gradients.loss)) << "this test needs a loss that is finite";
  const auto embedding = tests::read_doubles(stream(), parameter_of(*model_, "model.embed_tokens.weight").gradient);
  ASSERT_TRUE(std::any_of(embedding.begin(), embedding.end(), [](double value) { return !std::isfinite(value); }))
      << "this test needs several gradients that are not";
  const NonFiniteCause cause = find({pack({1e-3f}), packed}, NonFinitePass::kTraining);
  EXPECT_THAT(cause.tensor, HasSubstr("the gradient of lm_head.weight (element "));
  EXPECT_EQ(cause.share, DocumentShare::kAlone);
  EXPECT_THAT(cause.documents, ElementsAre(1));
}

TEST_F(Cause, ThatNoDocumentIsAloneIsTheMicroBatch) {
  // Squares of a norm up to 1.8e19 can be summed in f32.
  const double norm = compute_gradients(*model_, stream(), {pack({1})}, {}).grad_norm;
  const auto weight = static_cast<float>(1.5e19 / norm);
  const NonFiniteCause cause =
      find({pack({1}), pack(std::vector<float>(8, weight)), pack({1})}, NonFinitePass::kTraining);
  EXPECT_EQ(cause.share, DocumentShare::kTogether);
  EXPECT_THAT(cause.documents, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_THAT(cause.tensor, HasSubstr("only the sum"));
}

TEST_F(Cause, OfAWeightIsTheWeight) {
  fill(*model_, stream(), "model.layers.1.mlp.down_proj.weight", std::numeric_limits<double>::infinity());
  const NonFiniteCause cause = find({pack({1, 1}), pack({1})}, NonFinitePass::kTraining);
  EXPECT_EQ(cause.tensor, "parameter model.layers.1.mlp.down_proj.weight (element 0)");
  EXPECT_EQ(cause.share, DocumentShare::kNone);
  EXPECT_THAT(cause.documents, ElementsAre(0, 1, 2));
}

TEST(DescribeRows, NamesTwentyAtMost) {
  data::Dataset dataset = make_dataset();
  dataset.sequences.push_back(dataset.sequences.front());
  std::vector<std::uint32_t> sequences(21);
  NonFiniteCause cause{"", std::vector<std::size_t>(21), DocumentShare::kTogether};
  for (std::size_t i = 0; i < 21; ++i) {
    sequences[i] = static_cast<std::uint32_t>(20 - i);
    cause.documents[i] = i;
  }
  EXPECT_THAT(describe_rows(cause, dataset, sequences),
              AllOf(HasSubstr("no row gives it alone, but these together: generated:1, generated:20, generated:19, "),
                    HasSubstr("generated:2 and 1 more"), Not(HasSubstr("generated:1 "))));
}

}  // namespace
}  // namespace flyover::trainer
