// Order of training and splitting into micro-batches.
#include "data/batches.h"

#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <string>

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/reference/device.h"
#include "support/model_fixture.h"
#include "trainer/step.h"

namespace flyover::data {
namespace {

Dataset dataset_of(std::int64_t count, std::int64_t sources = 1) {
  Dataset dataset;
  for (std::int64_t source = 0; source < sources; ++source) {
    dataset.source_names.push_back("s");
    dataset.source_weights.push_back(1.0);
  }
  for (std::int64_t i = 0; i < count; ++i) {
    Sequence sequence;
    const auto length = static_cast<std::size_t>(3 + i % 5);
    for (std::size_t t = 0; t < length; ++t) {
      sequence.tokens.push_back(static_cast<std::int32_t>((static_cast<std::size_t>(i) + t) % 11));
    }
    sequence.trained.assign(length, 1);
    sequence.trained[0] = 0;
    sequence.source = i % sources;
    dataset.sequences.push_back(sequence);
  }
  return dataset;
}

TEST(BatchPlan, EveryEpochVisitsEverySequenceOnce) {
  const Dataset dataset = dataset_of(23);
  BatchOptions options;
  options.batch_sequences = 4;
  options.epochs = 3;
  const BatchPlan plan(dataset, options);
  std::map<std::uint32_t, int> visits;
  std::vector<std::uint32_t> order;
  for (std::int64_t step = 0; step < plan.steps(); ++step) {
    for (const std::uint32_t index : plan.batch(step)) {
      ++visits[index];
      order.push_back(index);
    }
    EXPECT_TRUE(plan.batch(step).size() == 4u || step + 1 == plan.steps());
  }
  EXPECT_EQ(visits.size(), 23u);
  for (const auto& [index, count] : visits) {
    EXPECT_EQ(count, 3) << index;
  }
  const std::vector<std::uint32_t> first(order.begin(), order.begin() + 23),
      second(order.begin() + 23, order.begin() + 46);
  EXPECT_NE(first, second);
}

TEST(BatchPlan, TokensBoundTheBatch) {
  const Dataset dataset = dataset_of(40);
  BatchOptions options;
  options.batch_tokens = 16;
  options.max_steps = 30;
  const BatchPlan plan(dataset, options);
  EXPECT_EQ(plan.steps(), 30);
  for (std::int64_t step = 0; step < plan.steps(); ++step) {
    std::int64_t tokens = 0;
    for (const std::uint32_t index : plan.batch(step)) {
      tokens += dataset.sequences[index].length();
    }
    EXPECT_LE(tokens, 16);
    EXPECT_GE(tokens, 16 - 7 + 1);
  }
  options.batch_tokens = 5;
  EXPECT_THROW(BatchPlan(dataset, options), base::Error);
}

TEST(BatchPlan, WeightsScaleHowOftenASourceIsSeen) {
  Dataset dataset = dataset_of(40, 2);
  dataset.source_weights = {0.5, 2.0};
  BatchOptions options;
  options.batch_sequences = 5;
  options.epochs = 1;
  const BatchPlan plan(dataset, options);
  std::map<std::int64_t, int> seen;
  for (std::int64_t step = 0; step < plan.steps(); ++step) {
    for (const std::uint32_t index : plan.batch(step)) {
      ++seen[dataset.sequences[index].source];
    }
  }
  EXPECT_EQ(seen[0], 10);
  EXPECT_EQ(seen[1], 40);
}

TEST(BatchPlan, RunsThatNoMemoryHoldsAreRefusedByTheKeyThatMakesThemSo) {
  Dataset dataset = dataset_of(2);
  const auto message = [&](const BatchOptions& options) {
    try {
      const BatchPlan plan(dataset, options);
    } catch (const base::Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  BatchOptions options;
  const auto at = [](std::string_view key) { return fmt::format("r.yaml:7: stages[0].{}", key); };
  options.at = at;
  options.batch_sequences = 1;
  for (const std::int64_t max_steps : {std::int64_t{1'000'000'000}, std::numeric_limits<std::int64_t>::max()}) {
    options.max_steps = max_steps;
    EXPECT_THAT(message(options),
                testing::StartsWith(fmt::format("r.yaml:7: stages[0].schedule.max_steps {} ", max_steps)));
  }
  options = {.batch_tokens = 8, .max_steps = 1'000'000'000};
  EXPECT_THAT(message(options), testing::HasSubstr("schedule.max_steps 1000000000 "));
  options = {.batch_sequences = 1, .epochs = 1e9};
  EXPECT_THAT(message(options), testing::HasSubstr("schedule.epochs 1000000000 "));
  options = {.batch_sequences = 1, .epochs = 1e9, .max_steps = 5};
  EXPECT_EQ(message(options), "") << "max_steps ends it";
  options = {.batch_sequences = 1, .epochs = 3, .max_steps = std::numeric_limits<std::int64_t>::max()};
  EXPECT_EQ(message(options), "") << "the epochs end it";
  options = {.batch_tokens = std::int64_t{1} << 40, .max_steps = 1, .at = at, .batch_key = "batch.global_batch_tokens"};
  EXPECT_THAT(message(options), testing::StartsWith("r.yaml:7: stages[0].batch.global_batch_tokens makes a run of "));
  options = {.batch_tokens = std::int64_t{1} << 40, .epochs = 1, .max_steps = 1};
  EXPECT_EQ(message(options), "") << "one step holds the epoch";
  dataset.source_weights = {1e12};
  options = {.batch_sequences = 1, .max_steps = 1};
  EXPECT_THAT(message(options), testing::HasSubstr("the source s with weight 1000000000000 "));
}

TEST(BatchPlan, EpochsThatMakeNoStepAreRefused) {
  const Dataset dataset = dataset_of(2);
  for (const double epochs : {0.2, 0.0001}) {
    try {
      const BatchPlan plan(dataset, {.batch_sequences = 1, .epochs = epochs});
      ADD_FAILURE() << epochs;
    } catch (const base::Error& error) {
      EXPECT_EQ(error.what(), fmt::format("schedule.epochs {} of 2 examples are less than half an example, so there is "
                                          "no step: raise it",
                                          epochs));
    }
  }
  EXPECT_EQ(BatchPlan(dataset, {.batch_sequences = 1, .epochs = 0.3}).steps(), 1);
}

TEST(BatchPlan, FingerprintFollowsDataSeedAndOptions) {
  Dataset dataset = dataset_of(20);
  BatchOptions options;
  options.batch_sequences = 4;
  options.epochs = 1;
  std::set<std::uint64_t> prints = {BatchPlan(dataset, options).fingerprint()};
  EXPECT_EQ(prints.count(BatchPlan(dataset, options).fingerprint()), 1u);
  options.seed = 1;
  prints.insert(BatchPlan(dataset, options).fingerprint());
  options.batch_sequences = 5;
  prints.insert(BatchPlan(dataset, options).fingerprint());
  dataset.sequences[3].tokens[1] += 1;
  prints.insert(BatchPlan(dataset, options).fingerprint());
  EXPECT_EQ(prints.size(), 4u);
}

/// What a step computes: losses, the load of every expert, and the gradient of every parameter.
struct Computed {
  trainer::Gradients step;
  std::vector<std::vector<double>> gradients;
};

class MicroBatches : public testing::TestWithParam<std::string> {};

TEST_P(MicroBatches, LossesLoadAndGradientsDoNotDependOnTheSplit) {
  const Dataset dataset = dataset_of(12);
  std::vector<std::uint32_t> batch;
  for (std::uint32_t i = 0; i < 12; ++i) {
    batch.push_back(i);
  }
  tests::Machine machine(devices::reference::make_device());
  const auto model = tests::tiny_model(GetParam());
  model->parameters().allocate(machine.stream, tensor::DType::kF32, autograd::ParameterUse::kTraining);
  tests::randomise(*model, machine.stream, 0.3, 1);
  trainer::StepOptions options;
  options.auxiliary = {.further_weight = 0.3, .balance_coefficient = 0.1, .indexer_coefficient = 1.0};
  const auto compute = [&](std::int64_t tokens) {
    const auto split = micro_batches(dataset, batch, tokens);
    Computed computed{trainer::compute_gradients(*model, machine.stream, split, options), {}};
    for (const auto& parameter : model->parameters().all()) {
      computed.gradients.push_back(parameter.gradient.defined()
                                       ? tests::read_doubles(machine.stream, parameter.gradient)
                                       : std::vector<double>());
    }
    return computed;
  };
  const auto expect_near = [](double found, double expected, const std::string& what) {
    EXPECT_NEAR(found, expected, 1e-6 * std::abs(expected)) << what;
  };
  const Computed whole = compute(1000);
  const bool mixture = !model->summary().mixtures.empty();
  EXPECT_EQ(whole.step.balance_loss > 0, mixture);
  EXPECT_EQ(whole.step.load.empty(), !mixture);
  for (const std::int64_t tokens : {1, 9, 20}) {
    const std::string where = fmt::format("micro-batches of {} tokens", tokens);
    const Computed split = compute(tokens);
    expect_near(split.step.loss, whole.step.loss, "loss, " + where);
    expect_near(split.step.further_loss, whole.step.further_loss, "loss of the token after the next, " + where);
    expect_near(split.step.balance_loss, whole.step.balance_loss, "balance, " + where);
    expect_near(split.step.indexer_loss, whole.step.indexer_loss, "indexer, " + where);
    expect_near(split.step.grad_norm, whole.step.grad_norm, "norm, " + where);
    EXPECT_EQ(split.step.load, whole.step.load) << where;
    for (std::size_t i = 0; i < whole.gradients.size(); ++i) {
      double error = 0, norm = 0;
      for (std::size_t j = 0; j < whole.gradients[i].size(); ++j) {
        const double expected = whole.gradients[i][j];
        error += (split.gradients[i][j] - expected) * (split.gradients[i][j] - expected);
        norm += expected * expected;
      }
      EXPECT_LE(std::sqrt(error), 5e-6 * std::sqrt(norm)) << model->parameters().all()[i].spec.name << ", " << where;
    }
  }
}

TEST(BalanceLoss, CountsLayersThatRouteByTableWhereAskedTo) {
  const Dataset dataset = dataset_of(4);
  const std::vector<std::uint32_t> batch = {0, 1, 2, 3};
  tests::Machine machine(devices::reference::make_device());
  const auto model = tests::tiny_model("deepseek_v4");
  model->parameters().allocate(machine.stream, tensor::DType::kF32, autograd::ParameterUse::kTraining);
  tests::randomise(*model, machine.stream, 0.3, 1);
  trainer::StepOptions options;
  options.auxiliary.balance_coefficient = 0.1;
  const auto compute = [&](bool hash_layers) {
    options.auxiliary.balance_hash_layers = hash_layers;
    return trainer::compute_gradients(*model, machine.stream, micro_batches(dataset, batch, 1000), options);
  };
  const double learned = compute(false).balance_loss, all = compute(true).balance_loss;
  // A layer's loss is about its coefficient: 1 where loads and scores are even.
  std::int64_t tables = 0;
  for (const auto& parameter : model->parameters().all()) {
    tables += parameter.spec.storage == autograd::ParameterStorage::kIndices ? 1 : 0;
  }
  ASSERT_GT(tables, 0);
  EXPECT_NEAR(all - learned, 0.1 * static_cast<double>(tables), 0.03 * static_cast<double>(tables));

  const auto& parameters = model->parameters().all();
  const auto router = std::find_if(parameters.begin(), parameters.end(), [](const autograd::Parameter& parameter) {
    return parameter.spec.name == "layers.0.ffn.gate.weight";
  });
  ASSERT_NE(router, parameters.end());
  const auto gradient_with = [&](bool hash_layers) {
    compute(hash_layers);
    return tests::read_doubles(machine.stream, router->gradient);
  };
  const std::vector<double> without = gradient_with(false), with = gradient_with(true);
  EXPECT_NE(with, without);
}

INSTANTIATE_TEST_SUITE_P(Families, MicroBatches, testing::ValuesIn(tests::families()),
                         [](const auto& family) { return family.param; });

}  // namespace
}  // namespace flyover::data
