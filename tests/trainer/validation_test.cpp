// Which validation examples are scored, and which checkpoint stays because of it.
#include <algorithm>

#include <gtest/gtest.h>

#include "base/random.h"
#include "devices/cpu/device.h"
#include "support/model_fixture.h"
#include "support/shared_data.h"
#include "trainer/trainer.h"

namespace flyover::trainer {
namespace {

using tensor::DType;

/// Sequences of these lengths over the vocabulary of tests::tiny_llama.
data::Dataset dataset_of(const std::vector<std::size_t>& lengths, std::uint64_t seed) {
  const base::Random random(seed, base::RandomPurpose::kTest);
  data::Dataset dataset;
  dataset.source_names = {"generated"};
  dataset.source_weights = {1.0};
  std::uint64_t position = 0;
  for (const std::size_t length : lengths) {
    data::Sequence sequence;
    for (std::size_t i = 0; i < length; ++i) {
      sequence.tokens.push_back(static_cast<std::int32_t>(random.below(position++, 11)));
      sequence.trained.push_back(i > 1 ? 1 : 0);
    }
    dataset.sequences.push_back(sequence);
  }
  return dataset;
}

/// A short training that validates after every step.
struct Training {
  explicit Training(const data::Dataset& validation, std::int64_t max_tokens, std::int64_t keep = 2)
      : model(tests::tiny_llama(true)), plan(train, batch_options()), checkpoints(directory.path() / "checkpoints") {
    model->parameters().allocate(machine.stream, DType::kF32, autograd::ParameterUse::kTraining);
    tests::randomise(*model, machine.stream, 0.2, 1);
    optim::AdamWOptimizer optimizer(
        machine.stream, model->parameters(),
        std::vector<optim::ParameterSettings>(model->parameters().all().size(), {3e-2, 0.0}), {});
    MetricsFile metrics(directory.path() / "metrics.jsonl", "test", 0);
    std::FILE* output = std::fopen("/dev/null", "w");
    Progress progress(output);
    const InterruptionWatch interruption;
    TrainerOptions options;
    options.stage = "test";
    options.micro_batch_tokens = 64;
    options.validation_every = 1;
    options.validation_max_tokens = max_tokens;
    options.keep = keep;
    options.schedule.total_steps = plan.steps();
    Trainer trainer(
        {*model, machine.stream, optimizer, plan, &validation, checkpoints, metrics, nullptr, progress, interruption},
        options);
    EXPECT_EQ(trainer.run(), Outcome::kCompleted);
    info = trainer.info();
    std::fclose(output);
  }

  static data::BatchOptions batch_options() {
    data::BatchOptions options;
    options.batch_tokens = 60;
    options.max_steps = 6;
    return options;
  }

  /// The mean loss over the targets of the first sequences, each scored in a batch of its own by the trained model.
  double mean_loss(const data::Dataset& validation, std::size_t count) {
    double sum = 0, targets = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto own = static_cast<double>(validation.sequences[i].targets());
      sum += own * evaluate_loss(*model, machine.stream, data::micro_batches(validation, std::vector{i}, 1000), {});
      targets += own;
    }
    return sum / targets;
  }

  tests::TemporaryDirectory directory;
  tests::Machine machine{devices::cpu::make_device(1, devices::cpu::choose_instruction_set(""))};
  std::unique_ptr<models::LanguageModel> model;
  data::Dataset train = dataset_of({20, 15, 25, 10, 30, 12, 18}, 1);
  data::BatchPlan plan;
  CheckpointDirectory checkpoints;
  CheckpointInfo info;
};

TEST(Validation, MaxTokensScoresWholeSequencesFromTheFirst) {
  const data::Dataset validation = dataset_of({10, 20, 15, 30}, 2);
  for (const auto& [max_tokens, scored] : {std::pair(0, 4), std::pair(75, 4), std::pair(74, 3), std::pair(45, 3),
                                           std::pair(44, 2), std::pair(30, 2), std::pair(29, 1), std::pair(3, 1)}) {
    Training training(validation, max_tokens);
    const double expected = training.mean_loss(validation, static_cast<std::size_t>(scored));
    ASSERT_TRUE(training.info.validation_loss.has_value());
    EXPECT_NEAR(*training.info.validation_loss, expected, 1e-6 * expected) << max_tokens;
  }
}

TEST(Validation, WhatIsNotScoredDoesNotCountAndWhatIsScoredDoes) {
  const data::Dataset validation = dataset_of({10, 20, 15, 30}, 2);
  const double loss = Training(validation, 35).info.validation_loss.value();
  EXPECT_EQ(Training(validation, 35).info.validation_loss.value(), loss) << "the same bits each time";
  const auto changed = [&](std::size_t sequence) {
    data::Dataset other = validation;
    other.sequences[sequence].tokens.back() = (other.sequences[sequence].tokens.back() + 1) % 11;
    return Training(other, 35).info.validation_loss.value();
  };
  EXPECT_NE(changed(0), loss);
  EXPECT_NE(changed(1), loss);
  EXPECT_EQ(changed(2), loss);
  EXPECT_EQ(changed(3), loss);
}

TEST(Validation, TheCheckpointOfTheLowestLossStaysBesideTheNewest) {
  // Learning what it trains on, the model forgets what these sequences, of other random numbers, had in common with its
  // random start: the loss rises.
  const data::Dataset validation = dataset_of({30, 40, 50}, 3);
  const Training training(validation, 0, 1);
  ASSERT_LT(training.info.best_step, training.info.step) << "this test needs a best step before the last";
  EXPECT_EQ(training.checkpoints.steps(), (std::vector<std::int64_t>{training.info.best_step, training.info.step}));
  const CheckpointInfo best = training.checkpoints.read_info(training.info.best_step);
  EXPECT_EQ(best.validation_loss, training.info.best_validation_loss);
  EXPECT_LT(best.validation_loss.value(), training.info.validation_loss.value());
}

}  // namespace
}  // namespace flyover::trainer
