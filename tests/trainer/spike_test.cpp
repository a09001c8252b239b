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
  EXPECT_THAT(lines, HasSubstr("\"moe/load/mtp\":["));
  EXPECT_THAT(lines, HasSubstr("\"moe/load_imbalance\""));
  EXPECT_THAT(lines, HasSubstr("\"loss/mtp\""));
}

/// Layer 0 of the one and layer 1 of the other have no experts.
TEST(ExpertLoad, IsLoggedUnderTheNumberOfItsLayer) {
  const auto logged = [](const std::string& family) {
    const tests::TemporaryDirectory directory;
    Training run(cpu_device(), DType::kBf16, directory.path(), 2, family);
    EXPECT_EQ(run.run(false), Outcome::kCompleted);
    const std::string lines = base::read_file(run.metrics_path);
    std::vector<std::string> layers;
    const base::Json first = base::Json::parse(lines.substr(0, lines.find('\n')));
    for (const auto& [key, value] : first.items()) {
      if (key.starts_with("moe/load/")) {
        layers.push_back(key.substr(9));
      }
    }
    return layers;
  };
  EXPECT_THAT(logged("deepseek_v3"), ElementsAre("1", "mtp"));
  EXPECT_THAT(logged("qwen3_moe"), ElementsAre("0"));
  EXPECT_THAT(logged("deepseek_v4"), ElementsAre("0", "1", "2", "mtp"));
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

/// Steps of a run that saved every one of them, taken again from the checkpoints in its directory.
class Replay {
 public:
  Replay(const std::filesystem::path& directory, TrainerOptions options)
      : again_(cpu_device(), DType::kBf16, directory, 0, "deepseek_v4"),
        options_(std::move(options)),
        routing_(*again_.model, again_.machine.stream, again_.plan, options_.micro_batch_tokens, options_.step) {}

  CheckpointInfo load(std::int64_t step) {
    return again_.checkpoints.load(
        step, *again_.model, *again_.optimizer, again_.machine.stream, [&](const CheckpointInfo& info) {
          routing_.restore({info.anticipatory_first, info.anticipatory_end, info.anticipatory_delay}, info.step);
          return routing_.state();
        });
  }
  void save(const CheckpointInfo& info) {
    again_.checkpoints.save(info, *again_.model, *again_.optimizer, again_.machine.stream);
  }
  std::vector<std::vector<double>> saved(std::int64_t step) {
    load(step);
    return again_.state();
  }
  /// After the step that follows checkpoint `step`, where tokens go to the experts that the weights of checkpoint
  /// `chooser` choose.
  std::vector<std::vector<double>> after(std::int64_t step, std::int64_t chooser) {
    models::LanguageModel& model = *again_.model;
    tensor::Stream& stream = again_.machine.stream;
    const auto micro_batches =
        data::micro_batches(again_.dataset, again_.plan.batch(step), options_.micro_batch_tokens);
    load(chooser);
    const StepChoices experts = choose_experts(model, stream, micro_batches, options_.step);
    load(step);
    const Gradients gradients = compute_gradients(model, stream, micro_batches, options_.step, &experts);
    again_.optimizer->step(step + 1, optim::learning_rate_factor(options_.schedule, step), gradients.coefficient);
    update_balance(model, stream, gradients.expert_load, options_.step.auxiliary.bias_update_speed);
    return again_.state();
  }

 private:
  Training again_;
  TrainerOptions options_;
  AnticipatoryRouting routing_;
};

TEST(RollBack, StepsOfTheAnticipatoryPeriodUseTheExpertsThatEarlierWeightsChose) {
  const tests::TemporaryDirectory directory;
  const TrainerOptions options = jumpy_options();
  Training run(cpu_device(), DType::kBf16, directory.path(), 0, "deepseek_v4");
  ASSERT_EQ(run.run(false, options), Outcome::kCompleted);
  Replay replay(directory.path(), options);
  int anticipated = 0;
  for (std::int64_t step = 1; step < run.plan.steps(); ++step) {
    const CheckpointInfo info = run.checkpoints.read_info(step + 1);
    if (info.rollbacks == 0 || step < info.anticipatory_first + 2 || step >= info.anticipatory_first + 6) {
      EXPECT_EQ(replay.after(step, step), replay.saved(step + 1)) << "step " << step;
      continue;
    }
    const auto expected = replay.saved(step + 1);
    EXPECT_EQ(replay.after(step, step - 2), expected) << "step " << step;
    anticipated += replay.after(step, step) != expected ? 1 : 0;
  }
  EXPECT_GE(anticipated, 1) << "the weights of two steps choose other experts somewhere";
}

TEST(RollBack, TheAnticipatoryPeriodEndsAfterItsSteps) {
  const tests::TemporaryDirectory directory;
  constexpr std::int64_t kFirst = 2, kEnd = 5, kDelay = 1;
  TrainerOptions options = jumpy_options();
  options.spike = {};  // what begins here goes on undisturbed
  {
    Training before(cpu_device(), DType::kBf16, directory.path(), kFirst, "deepseek_v4");
    ASSERT_EQ(before.run(false, options), Outcome::kCompleted);
  }
  Training run(cpu_device(), DType::kBf16, directory.path(), 0, "deepseek_v4");
  Replay replay(directory.path(), options);
  CheckpointInfo info = replay.load(kFirst);
  info.data_fingerprint = run.plan.fingerprint();
  info.rollbacks = 1;
  info.anticipatory_first = kFirst;
  info.anticipatory_end = kEnd;
  info.anticipatory_delay = kDelay;
  replay.save(info);
  ASSERT_EQ(run.run(true, options), Outcome::kCompleted);
  int within = 0, behind = 0;
  for (std::int64_t step = kFirst; step < run.plan.steps(); ++step) {
    const bool anticipatory = step >= kFirst + kDelay && step < kEnd;
    const auto expected = replay.saved(step + 1);
    EXPECT_EQ(replay.after(step, anticipatory ? step - kDelay : step), expected) << "step " << step;
    if (anticipatory) {
      within += replay.after(step, step) != expected ? 1 : 0;
    } else if (step >= kEnd) {
      behind += replay.after(step, step - kDelay) != expected ? 1 : 0;
    }
  }
  EXPECT_GE(within, 1) << "the weights of the step before choose other experts somewhere";
  EXPECT_GE(behind, 1) << "and would do so behind the period";
}

/// The steps whose losses counted as spikes, and how often that was answered by going back.
struct Spikes {
  std::vector<std::int64_t> steps;
  int rolled_back = 0;
};

/// A model that does not move sees one sequence six times and then ten times another, with a loss that is higher.
Spikes spikes_of_a_lasting_shift(std::int64_t checkpoint_every, bool roll_back) {
  const tests::TemporaryDirectory directory;
  Training run(cpu_device(), DType::kF32, directory.path(), 0, "qwen3_moe");
  TrainerOptions options = trainer_options();
  options.step.auxiliary = {};
  options.checkpoint_every = checkpoint_every;
  options.spike = {.roll_back = roll_back, .deviations = 3.0, .window = 4};
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
    const base::Json metrics = base::Json::parse(line);
    if (metrics.contains("loss_spike")) {
      spikes.steps.push_back(metrics["step"].get<std::int64_t>());
      spikes.rolled_back += metrics.contains("rolled_back_to") ? 1 : 0;
    }
  }
  return spikes;
}

TEST(RollBack, ALastingShiftIsOneSpikeWhereThereIsNothingToGoBackTo) {
  const Spikes spikes = spikes_of_a_lasting_shift(0, true);
  EXPECT_THAT(spikes.steps, ElementsAre(7));
  EXPECT_EQ(spikes.rolled_back, 0);
}

TEST(RollBack, ALastingShiftIsOneSpikeWhereTheRunIsToContinue) {
  const Spikes spikes = spikes_of_a_lasting_shift(1, false);
  EXPECT_THAT(spikes.steps, ElementsAre(7));
  EXPECT_EQ(spikes.rolled_back, 0);
}

TEST(RollBack, ALastingShiftIsOneMoreSpikeInTheAnticipatoryPeriodAfterIt) {
  const Spikes spikes = spikes_of_a_lasting_shift(1, true);
  EXPECT_THAT(spikes.steps, ElementsAre(7, 7));
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
