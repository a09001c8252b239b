// Whole runs: the model with the lowest validation loss, and frozen parameters.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "base/random.h"
#include "checkpoint/safetensors.h"
#include "posttrain/recipes.h"

namespace flyover::posttrain {
namespace {

namespace fs = std::filesystem;

/// Lines of words in random order.
std::string lines(std::uint64_t seed, int count) {
  const base::Random random(seed, base::RandomPurpose::kTest);
  const std::vector<std::string> words = {"red", "blue", "green", "white", "black", "grey"};
  std::string text;
  std::uint64_t position = 0;
  for (int i = 0; i < count; ++i) {
    std::string line;
    for (int k = 0; k < 8; ++k) {
      line += (k == 0 ? "" : " ") + words[random.below(position++, words.size())];
    }
    text += "{\"text\": \"" + line + "\"}\n";
  }
  return text;
}

/// Validation losses of a run by step, without the one before the first step.
std::map<std::int64_t, double> validation_losses(const fs::path& run) {
  std::map<std::int64_t, double> losses;
  std::istringstream file(base::read_file(run / "metrics.jsonl"));
  for (std::string line; std::getline(file, line);) {
    const base::Json metrics = base::parse_json(line, "metrics.jsonl");
    if (metrics.contains("validation/loss") && metrics["step"] != 0) {
      losses[metrics["step"].get<std::int64_t>()] = metrics["validation/loss"].get<double>();
    }
  }
  return losses;
}

std::int64_t step_of_lowest(const std::map<std::int64_t, double>& losses) {
  const auto lower = [](const auto& a, const auto& b) { return a.second < b.second; };
  return std::min_element(losses.begin(), losses.end(), lower)->first;
}

class BestModel : public testing::Test {
 protected:
  BestModel() {
    workplace_.write("train.jsonl", lines(1, 6));
    workplace_.write("other.jsonl", lines(2, 6));
  }
  /// A constant learning rate, so that a shorter run is the beginning of a longer one.
  recipe::Recipe recipe(const std::string& run, const std::string& validation, int steps, double learning_rate,
                        bool keep_best = true) const {
    return workplace_.recipe(run, fmt::format(R"(    algorithm: continued
    data: {{train: {{path: {}}}, validation: {{path: {}}}, max_seq_length: 64, show_examples: 0}}
    optimizer: {{learning_rate: {}, weight_decay: 0}}
    schedule: {{max_steps: {}, warmup_steps: 0, decay: constant}}
    batch: {{global_batch_tokens: 128, micro_batch_tokens: 128}}
    checkpoint: {{every_steps: 0, keep: 1, keep_best: {}}}
    validation: {{every_steps: 4}}
)",
                                              workplace_.path("train.jsonl").string(),
                                              workplace_.path(validation).string(), learning_rate, steps, keep_best));
  }
  Workplace workplace_;
};

TEST_F(BestModel, IsTheOneWithTheLowestValidationLoss) {
  ASSERT_EQ(run_silently(recipe("whole", "other.jsonl", 80, 1e-2)), RunOutcome::kCompleted);
  const auto losses = validation_losses(workplace_.path("whole"));
  ASSERT_EQ(losses.size(), 20u);
  const std::int64_t best = step_of_lowest(losses);
  ASSERT_LT(best, 80) << "this test needs a model that gets worse on what it does not see";
  ASSERT_GT(best, 4);
  // A run that ends there writes the same weights, bit for bit.
  ASSERT_EQ(run_silently(recipe("short", "other.jsonl", static_cast<int>(best), 1e-2)), RunOutcome::kCompleted);
  const std::string file = "model.safetensors";
  EXPECT_EQ(base::read_file(workplace_.path("whole") / "model-best" / file),
            base::read_file(workplace_.path("short") / "model" / file));
  EXPECT_NE(base::read_file(workplace_.path("whole") / "model-best" / file),
            base::read_file(workplace_.path("whole") / "model" / file));
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json"}) {
    EXPECT_EQ(base::read_file(workplace_.path("whole") / "model-best" / name),
              base::read_file(workplace_.path("whole") / "model" / name));
  }
}

TEST_F(BestModel, IsNotWrittenWhereTheLastIsTheBestOrNobodyWantsIt) {
  ASSERT_EQ(run_silently(recipe("falling", "train.jsonl", 12, 1e-3)), RunOutcome::kCompleted);
  ASSERT_EQ(step_of_lowest(validation_losses(workplace_.path("falling"))), 12);
  EXPECT_TRUE(fs::exists(workplace_.path("falling") / "model"));
  EXPECT_FALSE(fs::exists(workplace_.path("falling") / "model-best"));
  ASSERT_EQ(run_silently(recipe("unwanted", "other.jsonl", 80, 1e-2, false)), RunOutcome::kCompleted);
  EXPECT_FALSE(fs::exists(workplace_.path("unwanted") / "model-best"));
}

TEST_F(BestModel, OfAnEarlierStageIsWrittenByTheNextAttemptWhereWritingItFailed) {
  recipe::Recipe stages = recipe("run", "other.jsonl", 80, 1e-2);
  stages.stages[0].name = "first";
  stages.stages.push_back(recipe("run", "other.jsonl", 1, 1e-2).stages[0]);
  ASSERT_EQ(run_silently(stages), RunOutcome::kCompleted);
  const fs::path run = workplace_.path("run"), first = run / "stages" / "first";
  ASSERT_TRUE(fs::exists(first / "model-best")) << "this test needs a model that gets worse on what it does not see";
  const auto models = [&] {
    std::map<std::string, std::string> files;
    for (const fs::path& model : {first / "model", first / "model-best", run / "model"}) {
      files[model.string()] = base::read_file(model / "model.safetensors");
    }
    return files;
  };
  const auto expected = models();
  for (const fs::path& path : {first / "model", first / "model-best", run / "model", run / "checkpoints"}) {
    fs::remove_all(path);
  }
  base::write_file_atomically(first / "model-best", "in the way");
  EXPECT_THROW(run_silently(stages, true), base::Error);
  fs::remove(first / "model-best");
  ASSERT_EQ(run_silently(stages, true), RunOutcome::kCompleted);
  ASSERT_TRUE(fs::exists(first / "model-best"));
  EXPECT_EQ(models(), expected);
  fs::remove_all(first / "model");  // as after a kill between the two
  fs::remove_all(run / "model");
  ASSERT_EQ(run_silently(stages, true), RunOutcome::kCompleted);
  EXPECT_EQ(models(), expected);
}

TEST_F(BestModel, NothingIsWrittenOfWeightsThatTheLastUpdateBroke) {
  recipe::Recipe broken = recipe("broken", "other.jsonl", 1, 1e-2);
  broken.stages[0].optimizer.weight_decay = 1e300;  // more than a recipe's text may ask for
  try {
    run_silently(broken);
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_THAT(error.what(), testing::AllOf(testing::HasSubstr("step 1: "), testing::HasSubstr("parameter model.")));
  }
  EXPECT_FALSE(fs::exists(workplace_.path("broken") / "model"));
  EXPECT_FALSE(fs::exists(workplace_.path("broken") / "checkpoints"));
}

TEST(WarmUp, LongerThanTheRunIsSaidAtItsBeginning) {
  const Workplace workplace;
  const auto output = [&](const std::string& name, int warmup_steps) {
    return output_of_run(workplace.recipe(name, fmt::format(R"(    name: only
    algorithm: continued
    data: {{train: {{generate: quickstart_text, count: 1}}, max_seq_length: 64, show_examples: 0}}
    optimizer: {{learning_rate: 1.0e-3}}
    schedule: {{epochs: 2, warmup_steps: {}}}
    batch: {{global_batch_size: 100}}
)",
                                                            warmup_steps)));
  };
  EXPECT_THAT(output("long", 100), testing::HasSubstr("warning: stage only: schedule.warmup_steps is 100, but the "
                                                      "last step is 1: the learning rate ends at 1 % of "
                                                      "optimizer.learning_rate"));
  EXPECT_THAT(output("whole", 1), testing::Not(testing::HasSubstr("warning")));
}

/// Bytes of every tensor of a model directory by name.
std::map<std::string, std::string> tensors_of(const fs::path& model) {
  std::map<std::string, std::string> result;
  const auto file = checkpoint::SafetensorsFile::open(model / "model.safetensors");
  for (const auto& tensor : file.tensors()) {
    const auto bytes = file.bytes(tensor);
    result[tensor.name] = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  return result;
}

TEST(FrozenParameters, AreInTheWrittenModelAsTheyWereInTheFirst) {
  const Workplace workplace;
  workplace.write("train.jsonl", lines(1, 6));
  const std::string common = fmt::format(R"(    data: {{train: {{path: {}}}, max_seq_length: 64, show_examples: 0}}
    schedule: {{max_steps: 3}}
    batch: {{global_batch_tokens: 128}}
)",
                                         workplace.path("train.jsonl").string());
  const std::string both =
      "    name: first\n    algorithm: continued\n    optimizer: {learning_rate: 1e-2}\n" + common +
      "  - name: second\n    algorithm: continued\n" + common +
      "    optimizer: {learning_rate: 1e-2, parameter_groups: [{pattern: \"*mlp*\", frozen: true}, "
      "{pattern: \"*embed_tokens*\", frozen: true}]}\n";
  ASSERT_EQ(run_silently(workplace.recipe("run", both)), RunOutcome::kCompleted);
  const auto before = tensors_of(workplace.path("run") / "stages" / "first" / "model");
  const auto after = tensors_of(workplace.path("run") / "model");
  ASSERT_EQ(before.size(), after.size());
  std::set<std::string> kept, expected;
  for (const auto& [name, bytes] : before) {
    if (after.at(name) == bytes) {
      kept.insert(name);
    }
    if (name.find("mlp") != std::string::npos || name.find("embed_tokens") != std::string::npos) {
      expected.insert(name);
    }
  }
  EXPECT_EQ(kept, expected);
  EXPECT_EQ(expected.size(), 4u);
  // What is frozen has no state to save either: the checkpoint has weights and moments of the rest alone.
  const auto state =
      checkpoint::SafetensorsFile::open(workplace.path("run") / "checkpoints" / "step-3" / "state.safetensors");
  EXPECT_EQ(state.tensors().size(), 3 * (before.size() - expected.size()));
}

}  // namespace
}  // namespace flyover::posttrain
