// Losses that jump: what counts as one, going back, and routing by the weights of some steps before.
#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <utility>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "support/shared_data.h"
#include "trainer/training.h"

namespace flyover::trainer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Spike, IsFarAboveTheMeanOfTheWindow) {
  const SpikeOptions options{.deviations = 3.0, .window = 4};
  const std::vector<double> recent = {1.0, 3.0, 1.0, 3.0};  // mean 2, deviation 1
  EXPECT_FALSE(is_spike(4.99, recent, options));
  EXPECT_TRUE(is_spike(5.01, recent, options));
  EXPECT_FALSE(is_spike(-100.0, recent, options)) << "a fall is none";
  EXPECT_FALSE(is_spike(100.0, {recent.data(), 3}, options)) << "too few to compare with";
  EXPECT_TRUE(is_spike(std::numeric_limits<double>::quiet_NaN(), {}, options));
  const std::vector<double> flat = {2.0, 2.0, 2.0, 2.0};
  EXPECT_FALSE(is_spike(2.05, flat, options)) << "within three times 1 % of the mean";
  EXPECT_TRUE(is_spike(2.07, flat, options));
}

TEST(Spike, TheWindowMoves) {
  std::vector<double> recent;
  for (const double loss : {1.0, 2.0, 3.0, 4.0}) {
    remember(loss, recent, 3);
  }
  EXPECT_THAT(recent, ElementsAre(2.0, 3.0, 4.0));
}

std::vector<std::vector<std::int32_t>> numbers(tensor::Stream& stream, const StepChoices& choices) {
  std::vector<std::vector<std::int32_t>> result;
  for (const nn::ExpertChoices& of : choices) {
    for (const tensor::Tensor& tensor : of) {
      result.push_back(stream.read_back(tensor, tensor::ReadBackPurpose::kTest).values<std::int32_t>());
    }
  }
  return result;
}

class Routing : public testing::TestWithParam<std::string> {};

TEST_P(Routing, GivingAStepItsOwnChoicesChangesNoBit) {
  const tests::TemporaryDirectory directory;
  Training run(cpu_device(), DType::kF32, directory.path(), 0, GetParam());
  const StepOptions options = trainer_options().step;
  const auto micro_batches = data::micro_batches(run.dataset, run.plan.batch(0), 32);
  const auto gradients = [&](const StepChoices* experts) {
    const Gradients computed = compute_gradients(*run.model, run.machine.stream, micro_batches, options, experts);
    std::vector<std::vector<double>> result = {{computed.loss, computed.further_loss, computed.balance_loss}};
    for (const auto& parameter : run.model->parameters().all()) {
      if (parameter.gradient.defined()) {
        result.push_back(tests::read_doubles(run.machine.stream, parameter.gradient));
      }
    }
    return result;
  };
  const StepChoices own = choose_experts(*run.model, run.machine.stream, micro_batches, options);
  ASSERT_EQ(own.size(), micro_batches.size());
  const auto expected = gradients(nullptr);
  EXPECT_EQ(gradients(&own), expected);
  // Other experts are really used: all tokens to the first ones.
  StepChoices others = empty_choices(*run.model, run.machine.stream, micro_batches);
  for (const nn::ExpertChoices& of : others) {
    for (const tensor::Tensor& tensor : of) {
      std::vector<std::int32_t> experts(static_cast<std::size_t>(tensor.elements()));
      for (std::size_t i = 0; i < experts.size(); ++i) {
        experts[i] = static_cast<std::int32_t>(i % static_cast<std::size_t>(run.model->summary().choices));
      }
      run.machine.stream.write(tensor, std::as_bytes(std::span(experts)));
    }
  }
  EXPECT_NE(gradients(&others), expected);
}

TEST_P(Routing, AnticipatedExpertsAreThoseOfEarlierWeights) {
  const tests::TemporaryDirectory directory;
  Training run(cpu_device(), DType::kF32, directory.path(), 0, GetParam());
  const StepOptions options = trainer_options().step;
  AnticipatoryRouting routing(*run.model, run.machine.stream, run.plan, 32, options);
  routing.begin({.first = 1, .end = 5, .delay = 2});
  routing.look_ahead(0);
  EXPECT_EQ(routing.experts_of(2), nullptr) << "before the period";
  const auto batches_of_3 = data::micro_batches(run.dataset, run.plan.batch(3), 32);
  const auto early = numbers(run.machine.stream, choose_experts(*run.model, run.machine.stream, batches_of_3, options));
  routing.look_ahead(1);
  tests::randomise(*run.model, run.machine.stream, 0.3, 99);  // the weights move on
  const auto late = numbers(run.machine.stream, choose_experts(*run.model, run.machine.stream, batches_of_3, options));
  ASSERT_NE(early, late);
  ASSERT_NE(routing.experts_of(3), nullptr);
  EXPECT_EQ(numbers(run.machine.stream, *routing.experts_of(3)), early);
  routing.look_ahead(3);
  EXPECT_EQ(routing.experts_of(5), nullptr) << "behind the period";
  routing.forget_before(4);
  EXPECT_EQ(routing.experts_of(3), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Families, Routing, testing::Values("deepseek_v4", "qwen3_moe"),
                         [](const auto& test) { return test.param; });

/// Small steps on random targets: some losses are above those before them, which is all that it takes here.
TrainerOptions jumpy_options() {
  TrainerOptions options = trainer_options();
  options.checkpoint_every = 1;
  options.keep = 100;
  options.spike = {.roll_back = true,
                   .deviations = 1e-6,
                   .window = 2,
                   .max_rollbacks = 50,
                   .anticipatory_steps = 6,
                   .anticipatory_delay = 2};
  return options;
}

TEST(RollBack, GoesOnFromTheLastCheckpointWithAnticipatoryRoutingAndEnds) {
  const tests::TemporaryDirectory directory;
  Training run(cpu_device(), DType::kBf16, directory.path(), 0, "deepseek_v4");
  ASSERT_EQ(run.run(false, jumpy_options()), Outcome::kCompleted);
  EXPECT_EQ(run.last.step, run.plan.steps());
  ASSERT_GE(run.last.rollbacks, 1);
  const std::string lines = base::read_file(run.metrics_path);
  EXPECT_THAT(lines, HasSubstr("\"rolled_back_to\""));
  EXPECT_THAT(lines, HasSubstr("\"moe/load/1\":["));
  EXPECT_THAT(lines, HasSubstr("\"moe/load_imbalance\""));
  EXPECT_THAT(lines, HasSubstr("\"loss/mtp\""));
}

TEST(RollBack, ARunThatIsResumedInAnAnticipatoryPeriodGivesTheSameBits) {
  const tests::TemporaryDirectory whole_directory;
  Training whole(cpu_device(), DType::kBf16, whole_directory.path(), 0, "deepseek_v4");
  ASSERT_EQ(whole.run(false, jumpy_options()), Outcome::kCompleted);
  int in_a_period = 0;
  for (const std::int64_t step : whole.checkpoints.steps()) {
    const CheckpointInfo info = whole.checkpoints.read_info(step);
    if (info.rollbacks == 0 || step >= whole.plan.steps()) {
      continue;
    }
    const auto holds_routing = base::read_file(whole.checkpoints.step_path(step) / "manifest.json").find("\"routing/");
    in_a_period += holds_routing != std::string::npos ? 1 : 0;
    const tests::TemporaryDirectory directory;
    std::filesystem::create_directories(directory.path() / "checkpoints");
    std::filesystem::copy(whole.checkpoints.step_path(step),
                          directory.path() / "checkpoints" / fmt::format("step-{}", step));
    Training second(cpu_device(), DType::kBf16, directory.path(), 0, "deepseek_v4");
    ASSERT_EQ(second.run(true, jumpy_options()), Outcome::kCompleted);
    EXPECT_EQ(second.state(), whole.state()) << "resumed after step " << step;
  }
  EXPECT_GE(in_a_period, 1);
}

/// How often a loss counted as a spike, and how often that was answered by going back.
struct Spikes {
  int seen = 0;
  int rolled_back = 0;
};

/// A model that does not move sees one sequence six times and then ten times another, with a loss that is higher.
Spikes spikes_of_a_lasting_shift(std::int64_t checkpoint_every) {
  const tests::TemporaryDirectory directory;
  Training run(cpu_device(), DType::kF32, directory.path(), 0, "qwen3_moe");
  TrainerOptions options = trainer_options();
  options.step.auxiliary = {};
  options.checkpoint_every = checkpoint_every;
  options.spike = {.roll_back = true, .deviations = 3.0, .window = 4};
  const auto loss_of = [&](const data::Sequence& sequence) {
    const data::Dataset dataset{.sequences = {sequence}, .source_names = {"one"}, .source_weights = {1.0}};
    const std::vector<std::uint32_t> batch = {0};
    return evaluate_loss(*run.model, run.machine.stream, data::micro_batches(dataset, batch, 32), options.step);
  };
  const auto& all = run.dataset.sequences;
  const auto [lowest, highest] = std::minmax_element(
      all.begin(), all.end(), [&](const auto& a, const auto& b) { return loss_of(a) < loss_of(b); });
  const data::Sequence low = *lowest, high = *highest;
  EXPECT_GT(loss_of(high), 1.05 * loss_of(low)) << "this test needs a shift that is a spike";
  data::Dataset dataset = run.dataset;
  dataset.sequences.assign(6, low);
  dataset.sequences.insert(dataset.sequences.end(), 10, high);
  const data::BatchPlan plan(dataset, {.shuffle = false, .batch_sequences = 1, .epochs = 1});
  optim::AdamWOptimizer still(run.machine.stream, run.model->parameters(),
                              std::vector<optim::ParameterSettings>(run.model->parameters().all().size()), {});
  {
    MetricsFile metrics(run.metrics_path, "test", 0);
    Trainer trainer({*run.model, run.machine.stream, still, plan, nullptr, run.checkpoints, metrics, nullptr,
                     run.progress, run.interruption},
                    options);
    EXPECT_EQ(trainer.run(), Outcome::kCompleted);
  }
  Spikes spikes;
  std::istringstream lines(base::read_file(run.metrics_path));
  for (std::string line; std::getline(lines, line);) {
    spikes.seen += line.find("\"loss_spike\"") != std::string::npos ? 1 : 0;
    spikes.rolled_back += line.find("\"rolled_back_to\"") != std::string::npos ? 1 : 0;
  }
  return spikes;
}

TEST(RollBack, ALastingShiftIsOneSpikeWhereThereIsNothingToGoBackTo) {
  const Spikes spikes = spikes_of_a_lasting_shift(0);
  EXPECT_EQ(spikes.seen, 1);
  EXPECT_EQ(spikes.rolled_back, 0);
}

TEST(RollBack, ALastingShiftIsOneMoreSpikeInTheAnticipatoryPeriodAfterIt) {
  const Spikes spikes = spikes_of_a_lasting_shift(1);
  EXPECT_EQ(spikes.seen, 2);
  EXPECT_EQ(spikes.rolled_back, 1);
}

TEST(RollBack, HasALimit) {
  const tests::TemporaryDirectory directory;
  Training run(cpu_device(), DType::kF32, directory.path(), 0, "qwen3_moe");
  TrainerOptions options = jumpy_options();
  options.spike.anticipatory_steps = 1;
  options.spike.max_rollbacks = 1;
  try {
    run.run(false, options);
    FAIL() << "the same jump comes again and again";
  } catch (const base::Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("after 1 rollbacks already"));
  }
}

}  // namespace
}  // namespace flyover::trainer
