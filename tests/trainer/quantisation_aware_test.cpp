// Quantisation-aware training: what is computed with in training is what an FP4 checkpoint holds.
#include <algorithm>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "checkpoint/block_quantisation.h"
#include "checkpoint/convert.h"
#include "checkpoint/model_output.h"
#include "checkpoint/model_weights.h"
#include "models/fp4_experts.h"
#include "nn/batch.h"
#include "ops/linear.h"
#include "support/shared_data.h"
#include "trainer/training.h"

namespace flyover::trainer {
namespace {

namespace fs = std::filesystem;
using autograd::ParameterUse;
using optim::OptimizerKind;

constexpr const char* kVariant = "deepseek_v4_fp4";

constexpr std::int64_t kFirstDocument = 195, kLastDocument = 90, kTokens = kFirstDocument + 1 + kLastDocument;

/// Documents in which the indexers choose so often that rounding must change some of the choices.
nn::PackedTokens documents() {
  nn::PackedTokens packed;
  const base::Random random(6, base::RandomPurpose::kTest);
  packed.document_lengths = {kFirstDocument, 1, kLastDocument};
  for (std::uint64_t i = 0; i < kTokens; ++i) {
    packed.tokens.push_back(static_cast<std::int32_t>(random.below(i, 11)));
    packed.targets.push_back(kernels::kIgnoredTarget);
    packed.weights.push_back(0.0f);
  }
  return packed;
}

std::vector<double> logits(models::LanguageModel& model, tensor::Stream& stream) {
  autograd::Tape tape(stream, model.parameters(), {false, autograd::RecomputePolicy::kNone, nullptr});
  const auto hidden = model.hidden_states(tape, nn::upload(stream, documents()));
  return tests::read_doubles(stream, ops::linear(tape, hidden, model.output_weight()).value);
}

/// The logits of a model directory, loaded as any other; or with an indexer that rounds nothing.
std::vector<double> logits_of(const fs::path& path, DType dtype, bool fp4_indexer = true) {
  tests::Machine machine(cpu_device());
  const auto directory = checkpoint::ModelDirectory::open(path);
  base::Json config = directory.config();
  if (!fp4_indexer) {
    config.erase("expert_dtype");
  }
  const auto model = models::make_model(config, "config.json", checkpoint::stored_names(directory));
  checkpoint::load_weights(directory, *model, machine.stream, dtype, ParameterUse::kInference);
  return logits(*model, machine.stream);
}

/// The values that a checkpoint in FP4 would hold for these.
std::vector<double> as_stored(const std::vector<double>& values) {
  const checkpoint::BlockRow row{checkpoint::WeightFormat::kFp4, checkpoint::TensorType::kF8E8M0, 1,
                                 static_cast<std::int64_t>(values.size())};
  std::vector<float> numbers(values.begin(), values.end());
  std::vector<std::byte> elements(static_cast<std::size_t>(row.element_bytes())), scales(row.scale_bytes());
  EXPECT_EQ(checkpoint::quantise(row, numbers, {}, elements, scales), std::nullopt);
  EXPECT_EQ(checkpoint::dequantise(row, elements, scales, numbers), std::nullopt);
  return {numbers.begin(), numbers.end()};
}

struct Case {
  DType dtype;
  OptimizerKind optimizer;
};

class QuantisationAware : public testing::TestWithParam<Case> {
 protected:
  Training trained(const fs::path& path) {
    return {cpu_device(), GetParam().dtype, path, 6, kVariant, GetParam().optimizer};
  }
  tests::TemporaryDirectory directory_;
};

TEST_P(QuantisationAware, TheFp4ModelGivesTheTrainersLogitsBitForBit) {
  Training training = trained(directory_.path());
  ASSERT_EQ(training.run(false), Outcome::kCompleted);
  const std::vector<double> expected = logits(*training.model, training.machine.stream);

  const base::Json config = base::parse_json(tests::tiny_config(kVariant), "config.json");
  const fs::path plain = directory_.path() / "plain", fp4 = directory_.path() / "fp4";
  checkpoint::write_model(plain, config, *training.model, training.machine.stream, {});
  EXPECT_EQ(logits_of(plain, GetParam().dtype), expected);
  EXPECT_NE(logits_of(plain, GetParam().dtype, false), expected) << "the indexers' rounding makes no difference";

  checkpoint::ConvertRequest request;
  request.source = plain;
  request.target = fp4;
  request.to = checkpoint::ConvertTo::kFp4Experts;
  checkpoint::convert_model(request);
  const auto stored = checkpoint::ModelDirectory::open(fp4);
  for (const char* matrix : {"layers.2.ffn.experts.4.w1", "layers.0.ffn.experts.0.w2", "mtp.0.ffn.experts.1.w3"}) {
    EXPECT_NE(stored.find(std::string(matrix) + ".scale"), nullptr) << matrix;
  }
  EXPECT_EQ(stored.find("layers.1.attn.wq_a.scale"), nullptr);
  EXPECT_EQ(stored.config()["expert_dtype"], "fp4");
  EXPECT_EQ(logits_of(fp4, GetParam().dtype), expected);
}

TEST_P(QuantisationAware, MastersKeepWhatTheValuesDoNotShow) {
  Training training = trained(directory_.path());
  const auto masters = [&] {
    std::vector<std::vector<double>> result;
    for (const auto& parameter : training.model->parameters().all()) {
      if (parameter.rounds_to_fp4) {
        result.push_back(tests::read_doubles(training.machine.stream, parameter.master));
        EXPECT_EQ(parameter.spec.shape.rank(), 3);
        EXPECT_NE(result.back(), tests::read_doubles(training.machine.stream, parameter.value));
      }
    }
    return result;
  };
  const auto before = masters();
  ASSERT_EQ(before.size(), 8u);  // two of each layer and of the prediction block
  ASSERT_EQ(training.run(false), Outcome::kCompleted);
  const auto after = masters();
  for (std::size_t i = 0; i < after.size(); ++i) {
    EXPECT_NE(after[i], before[i]);
  }
  for (const auto& parameter : training.model->parameters().all()) {
    if (parameter.rounds_to_fp4) {
      EXPECT_EQ(tests::read_doubles(training.machine.stream, parameter.value),
                as_stored(tests::read_doubles(training.machine.stream, parameter.master)))
          << parameter.spec.name;
    }
  }
}

TEST_P(QuantisationAware, QueriesAndEntriesOfEveryIndexerAreTransformedAndRounded) {
  // The tokens have queries of 2 heads, each whole window of 2 an entry of one head, in the one layer with an indexer.
  constexpr std::int64_t kHeads = kTokens * 2 + (kFirstDocument / 2 + 0 + kLastDocument / 2), kElements = kHeads * 32;
  Training training = trained(directory_.path());
  training.machine.stream.reset_statistics();
  logits(*training.model, training.machine.stream);
  const auto& rounding = training.machine.stream.statistics(kernels::kernel_id<kernels::RoundToFp4>);
  const auto& transform = training.machine.stream.statistics(kernels::kernel_id<kernels::Hadamard>);
  EXPECT_EQ(rounding.launches, 2);
  EXPECT_EQ(transform.launches, 2);
  const auto size = static_cast<std::int64_t>(kernels::size_of(GetParam().dtype));
  EXPECT_EQ(rounding.cost.bytes, 2 * kElements * size);
  EXPECT_EQ(transform.cost.bytes, 2 * kElements * size);
}

TEST_P(QuantisationAware, GradientsAreThoseOfTheRoundedWeightsAndReachTheIndexers) {
  // The same weights in a model that rounds none: rounding must be all that it lacks.
  tests::Machine machine(cpu_device());
  const auto aware = tests::tiny_model(kVariant);
  const auto other = models::make_model(base::parse_json(tests::tiny_config(kVariant), "config.json"), "config.json");
  for (const auto& model : {aware.get(), other.get()}) {
    model->parameters().allocate(machine.stream, GetParam().dtype, ParameterUse::kTraining);
    tests::randomise(*model, machine.stream, 0.2, 1);
  }
  for (std::size_t i = 0; i < aware->parameters().all().size(); ++i) {
    const auto &from = aware->parameters().all()[i], &to = other->parameters().all()[i];
    if (from.rounds_to_fp4) {
      EXPECT_NE(tests::read_doubles(machine.stream, from.value), tests::read_doubles(machine.stream, to.value));
      tests::write_doubles(machine.stream, to.value, tests::read_doubles(machine.stream, from.value));
    }
  }
  nn::PackedTokens packed = documents();
  for (std::size_t i = 0; i + 1 < kFirstDocument; ++i) {
    packed.targets[i] = packed.tokens[i + 1];
    packed.weights[i] = 1.0f / static_cast<float>(kFirstDocument - 1);
  }
  StepOptions options;
  options.auxiliary = {.further_weight = 0.1, .balance_coefficient = 1e-3, .indexer_coefficient = 1.0};
  compute_gradients(*aware, machine.stream, {packed}, options);
  compute_gradients(*other, machine.stream, {packed}, options);
  for (std::size_t i = 0; i < aware->parameters().all().size(); ++i) {
    const autograd::Parameter& parameter = aware->parameters().all()[i];
    if (!parameter.gradient.defined()) {
      continue;
    }
    const auto gradient = tests::read_doubles(machine.stream, parameter.gradient);
    EXPECT_EQ(gradient, tests::read_doubles(machine.stream, other->parameters().all()[i].gradient));
    EXPECT_TRUE(std::any_of(gradient.begin(), gradient.end(), [](double value) { return value != 0; }))
        << parameter.spec.name;
  }
}

TEST_P(QuantisationAware, ResumesToTheSameBits) {
  fs::create_directories(directory_.path() / "whole");
  Training whole = trained(directory_.path() / "whole");
  ASSERT_EQ(whole.run(false), Outcome::kCompleted);
  fs::create_directories(directory_.path() / "cut");
  {
    Training first(cpu_device(), GetParam().dtype, directory_.path() / "cut", 3, kVariant, GetParam().optimizer);
    first.run(false);
    CheckpointInfo info = first.last;
    info.data_fingerprint = whole.plan.fingerprint();
    first.checkpoints.save(info, *first.model, *first.optimizer, first.machine.stream);
  }
  Training second = trained(directory_.path() / "cut");
  ASSERT_EQ(second.run(true), Outcome::kCompleted);
  EXPECT_EQ(second.state(), whole.state());
}

INSTANTIATE_TEST_SUITE_P(Types, QuantisationAware,
                         testing::Values(Case{DType::kF32, OptimizerKind::kAdamW},
                                         Case{DType::kBf16, OptimizerKind::kAdamW},
                                         Case{DType::kF32, OptimizerKind::kMuon},
                                         Case{DType::kBf16, OptimizerKind::kMuon}),
                         [](const auto& one) {
                           return std::string(kernels::name_of(one.param.dtype)) +
                                  (one.param.optimizer == OptimizerKind::kMuon ? "Muon" : "AdamW");
                         });

}  // namespace
}  // namespace flyover::trainer
