// The memory that is planned before a run is what the run then takes, whatever takes most of it.
#include <algorithm>
#include <map>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "posttrain/preflight.h"
#include "posttrain/recipes.h"
#include "support/model_fixture.h"

namespace flyover::posttrain {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// Rows of a prompt and a completion of so many words.
std::string rows(int count, int words) {
  std::string completion;
  for (int i = 0; i < words; ++i) {
    completion += i == 0 ? "word" : " word";
  }
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += fmt::format("{{\"prompt\": \"Row {}?\", \"completion\": \"{}\"}}\n", i, completion);
  }
  return text;
}

/// Runs whose training steps see little at a time.
class SmallSteps : public testing::Test {
 protected:
  SmallSteps() {
    workplace_.write("short.jsonl", rows(4, 1));
    workplace_.write("long.jsonl", rows(12, 60));
  }

  recipe::Recipe recipe(const std::string& family, const std::string& run, bool validates, bool is_scored) const {
    recipe::Recipe recipe = workplace_.recipe(
        run,
        fmt::format(R"(    algorithm: sft
    chat_template: chatml
    data: {{train: {{path: {}}}, {} max_seq_length: 512, packing: false, show_examples: 0}}
    optimizer: {{learning_rate: 1.0e-3}}
    schedule: {{max_steps: 2}}
    batch: {{global_batch_size: 1, micro_batch_tokens: 1024}}
)",
                    workplace_.path("short.jsonl").string(),
                    validates ? fmt::format("validation: {{path: {}}},", workplace_.path("long.jsonl").string()) : ""));
    base::Json config = base::parse_json(tests::tiny_config(family), "config");
    config.erase("vocab_size");
    config["max_position_embeddings"] = 512;
    recipe.model.random->config.text = config.dump();
    if (is_scored) {
      recipe.evaluate = {{.generate = "quickstart_instructions", .count = 20, .max_new_tokens = 100}};
    }
    return recipe;
  }
  static trainer::MemoryPlan plan(recipe::Recipe recipe) { return prepare_stages(recipe)[0].memory; }

  Workplace workplace_;
};

class PlannedMemory : public SmallSteps, public testing::WithParamInterface<std::string> {
 protected:
  recipe::Recipe recipe(const std::string& run, bool validates, bool is_scored) const {
    return SmallSteps::recipe(GetParam(), run, validates, is_scored);
  }
};

/// What a run says of its peak, measured and planned, in bytes.
std::pair<double, double> peaks_of(const recipe::Recipe& recipe) {
  const std::string output = output_of_run(recipe);
  std::smatch found;
  const std::regex line("memory peak ([0-9.]+) ([KMG])iB \\(planned ([0-9.]+) ([KMG])iB\\)");
  EXPECT_TRUE(std::regex_search(output, found, line)) << output;
  const auto bytes = [&](std::size_t number) {
    const std::map<std::string, double> units = {
        {"K", 1024.0}, {"M", 1024.0 * 1024.0}, {"G", 1024.0 * 1024.0 * 1024.0}};
    return std::stod(found[number]) * units.at(found[number + 1]);
  };
  return {bytes(1), bytes(3)};
}

TEST_P(PlannedMemory, IsWhatTheRunTakes) {
  for (const bool validates : {false, true}) {
    for (const bool is_scored : {false, true}) {
      const auto [measured, planned] =
          peaks_of(recipe(fmt::format("{}-{}", validates, is_scored), validates, is_scored));
      EXPECT_NEAR(planned, measured, 0.02 * measured)
          << (validates ? "with" : "without") << " validation, " << (is_scored ? "with" : "without") << " questions";
    }
  }
}

TEST_P(PlannedMemory, CoversValidationAndScoring) {
  const std::uint64_t training = plan(recipe("run", false, false)).memory.peak;
  const trainer::MemoryPlan validating = plan(recipe("run", true, false)), scored = plan(recipe("run", false, true));
  EXPECT_EQ(plan(recipe("run", false, false)).largest, trainer::Activity::kTraining);
  EXPECT_EQ(validating.largest, trainer::Activity::kValidation);
  EXPECT_EQ(scored.largest, trainer::Activity::kScoring);
  EXPECT_GT(static_cast<double>(validating.memory.peak), 1.1 * static_cast<double>(training));
  EXPECT_GT(static_cast<double>(scored.memory.peak), 1.1 * static_cast<double>(training));
  EXPECT_GT(scored.memory.peak_by_kind[static_cast<std::size_t>(tensor::MemoryKind::kCache)], 0u);
  EXPECT_EQ(plan(recipe("run", true, true)).memory.peak, std::max(validating.memory.peak, scored.memory.peak));
}

TEST_P(PlannedMemory, TooLittleIsRefusedBeforeAnythingIsWritten) {
  for (const bool validates : {false, true}) {
    recipe::Recipe limited = recipe("run", validates, !validates);
    const std::uint64_t peak = plan(limited).memory.peak;
    limited.memory_limit.bytes = peak - 1;
    try {
      run_silently(limited);
      FAIL();
    } catch (const base::Error& error) {
      EXPECT_THAT(error.what(),
                  testing::AllOf(HasSubstr("stage \"sft\" needs "),
                                 HasSubstr(validates ? "validation in micro-batches of " : "the questions of evaluate"),
                                 HasSubstr(validates ? "lower max_seq_length" : "lower evaluate[].max_new_tokens")));
    }
    EXPECT_FALSE(fs::exists(workplace_.path("run"))) << "something was written";
    limited.memory_limit.bytes = peak;
    EXPECT_EQ(run_silently(limited), RunOutcome::kCompleted);
    fs::remove_all(workplace_.path("run"));
  }
}

TEST_F(SmallSteps, TheExpertsThatAnticipatoryRoutingKeepsArePlanned) {
  recipe::Recipe usual = recipe("qwen3_moe", "run", false, false);
  std::vector<PreparedStage> prepared = prepare_stages(usual);
  std::int64_t most = 0;
  for (std::int64_t step = 0; step < 2; ++step) {
    most = std::max(most, prepared[0].data.train.sequences[prepared[0].plan->batch(step)[0]].length());
  }
  recipe::Recipe watched = recipe("qwen3_moe", "run", false, false);
  watched.stages[0].loss_spike.action = recipe::OnLossSpike::kRollBack;
  // One mixture, two experts a token, both steps of the run at once; in blocks of 64 bytes.
  const std::int64_t kept = most * 2 * 2 * 4;
  EXPECT_EQ(plan(watched).memory.peak - prepared[0].memory.memory.peak,
            static_cast<std::uint64_t>((kept + 63) / 64 * 64));
}

INSTANTIATE_TEST_SUITE_P(Families, PlannedMemory, testing::Values("llama", "qwen3_moe", "deepseek_v3", "deepseek_v4"),
                         [](const auto& family) { return family.param; });

}  // namespace
}  // namespace flyover::posttrain
