// More than a machine has, or than a process may take: of memory, disk, threads and numbers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bad_input.h"
#include "base/files.h"
#include "process.h"

namespace flyover::tests {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// Runs whose order of examples no memory holds.
TEST_F(BadInput, EndlessRuns) {
  const std::string text = recipe_text();
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    changed.replace(text.find(from), from.size(), to);
    return changed;
  };
  for (const std::string steps : {"1000000000", "9000000000000000000"}) {
    expect_refused(with("{epochs: 1}", "{max_steps: " + steps + "}"), {"schedule.max_steps " + steps, "lower it"});
  }
  expect_refused(with("{epochs: 1}", "{epochs: 1.0e+12}"), {"schedule.epochs 1000000000000", "lower it"});
  for (const std::string epochs : {"0.2", "0.0001"}) {
    expect_refused(with("{epochs: 1}", "{epochs: " + epochs + "}"),
                   {"recipe.yaml:8: stages[0].schedule.epochs " + epochs + " of 2 examples", "no step", "raise it"});
  }
  expect_refused(with("data.jsonl}", "data.jsonl, weight: 1.0e+12}"), {"data.jsonl", "weight 1000000000000", "lower"});
}

/// Numbers that a recipe may hold and nothing can do.
TEST_F(BadInput, EnormousNumbers) {
  const auto with_batch = [&](const std::string& batch, const std::string& schedule) {
    std::string changed = recipe_text();
    changed.replace(changed.find("{global_batch_size: 1}"), 22, "{" + batch + "}");
    changed.replace(changed.find("{epochs: 1}"), 11, "{" + schedule + "}");
    return changed;
  };
  const std::string enormous = "9000000000000000000";
  for (const char* schedule : {"epochs: 1", "max_steps: 1"}) {
    expect_refused(with_batch("global_batch_size: " + enormous, schedule),
                   {"recipe.yaml:9: stages[0].batch.global_batch_size: expected an integer from 1 to 100000000"});
    expect_refused(with_batch("global_batch_tokens: " + enormous, schedule),
                   {"recipe.yaml:9: stages[0].batch.global_batch_tokens: expected an integer from 1 to 1099511627776"});
    expect_refused(
        with_batch("per_device_train_batch_size: " + enormous + ", gradient_accumulation_steps: 2", schedule),
        {"recipe.yaml:9: stages[0].batch.per_device_train_batch_size: ", "lower one of them"});
  }
  expect_refused(with_batch("global_batch_tokens: 1000000000000", "max_steps: 1"),
                 {"recipe.yaml:9: stages[0].batch.global_batch_tokens makes a run of ", "lower it"});
  for (const std::string key : {"max_new_tokens", "count"}) {
    for (const std::string& value : {std::string("2000000000"), enormous}) {
      expect_refused(
          recipe_text() + "evaluate: [{generate: quickstart_instructions, " + key + ": " + value + "}]\n",
          {"recipe.yaml:10: evaluate[0]." + key + ": expected an integer from 1 to 16777216, found " + value});
    }
  }
  std::string config = base::read_file(model_ / "config.json");
  const std::string positions = "\"max_position_embeddings\": 160";
  ASSERT_NE(config.find(positions), std::string::npos);
  write_file(model_ / "config.json", config.replace(config.find(positions), positions.size(), positions + "00000"));
  expect_refused(recipe_text() +
                     "evaluate: [{generate: quickstart_instructions, max_new_tokens: 16000000}]\n"
                     "memory_limit: 1GiB\n",
                 {"stage \"sft\" needs ", "for the questions of evaluate", "recipe.yaml:11: memory_limit",
                  "lower evaluate[].max_new_tokens"});
}

/// A model with so many parameters that no disk has room for its checkpoints. Planned without a byte of it; the memory
/// that the recipe claims to have is more than its step would take.
TEST_F(BadInput, Disk) {
  const auto file = work_.path() / "recipe.yaml";
  write_file(file, tiny_recipe(run_));
  const ProcessResult result = run_flyover(
      {"run", file.string(), "--set", "memory_limit=1000000TiB", "--set",
       "model.random.config={model_type: llama, hidden_size: 65536, intermediate_size: 262144, num_hidden_layers: 100, "
       "num_attention_heads: 512, num_key_value_heads: 8, rms_norm_eps: 1.0e-5}"});
  EXPECT_EQ(result.exit_code, 2) << result.output;
  EXPECT_THAT(result.output, testing::StartsWith("error: " + run_.string() + ": needs "));
  EXPECT_THAT(result.output, HasSubstr("of disk space"));
  EXPECT_THAT(result.output, HasSubstr("make room for"));
  EXPECT_FALSE(fs::exists(run_)) << "something was written";
}

/// Under limits of address space, from one in which the program hardly starts: what fails leaves nothing behind.
TEST_F(BadInput, ProcessesThatMayTakeLittleMemory) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers map more than any limit here allows";
#endif
  const auto file = work_.path() / "recipe.yaml";
  write_file(file, recipe_text() + "threads: 2\n");
  std::string messages;
  for (const std::int64_t mebibytes : {12, 16, 20, 24, 28, 32, 40, 60, 80, 100}) {
    ProcessOptions options;
    options.address_space_limit = mebibytes << 20;
    const ProcessResult result = run_flyover({"run", file.string()}, options);
    if (result.exit_code == 127) {
      continue;  // not even the program's libraries fit
    }
    EXPECT_EQ(result.exit_code, 2) << mebibytes << " MiB: " << result.output;
    EXPECT_THAT(result.output, testing::ContainsRegex("(^|\n)error: ")) << mebibytes << " MiB";
    EXPECT_FALSE(fs::exists(run_)) << mebibytes << " MiB: something was written";
    messages += result.output;
  }
  EXPECT_THAT(messages, HasSubstr("error: cannot start thread 2 of 2: "));
  EXPECT_THAT(messages,
              testing::ContainsRegex("error: preparing the device: the machine has no memory left.* "
                                     "\\([0-9.]+ [KM]iB are available now\\): stop other programs, or raise"));
  ProcessOptions options;
  options.address_space_limit = std::int64_t{300} << 20;
  write_file(file, recipe_text());
  const ProcessResult order = run_flyover({"run", file.string(), "--set", "stages.sft.schedule={max_steps: 90000000}",
                                           "--set", "stages.sft.data.packing=false"},
                                          options);
  EXPECT_EQ(order.exit_code, 2);
  EXPECT_THAT(order.output, testing::StartsWith("error: --set"));
  EXPECT_THAT(order.output,
              HasSubstr("stages[0].schedule.max_steps 90000000 makes a run of 9e+07 examples, whose order "
                        "takes 343.32 MiB of memory, and "));
  EXPECT_FALSE(fs::exists(run_)) << "something was written";
  EXPECT_EQ(run_flyover({"run", file.string()}).exit_code, 0);
}

TEST_F(BadInput, ARunThatFailsBeforeItsFirstStepIsNotInTheWay) {
  const auto file = work_.path() / "recipe.yaml";
  write_file(file, recipe_text());
  ProcessOptions options;
  options.file_size_limit = 100;  // less than recipe.yaml
  for (const bool exists : {false, true}) {
    if (exists) {
      fs::create_directory(run_);
    }
    const ProcessResult result = run_flyover({"run", file.string()}, options);
    EXPECT_EQ(result.exit_code, 2) << result.output;
    EXPECT_EQ(fs::exists(run_), exists) << "only what the run made goes";
    EXPECT_TRUE(!exists || fs::is_empty(run_));
  }
  EXPECT_EQ(run_flyover({"run", file.string()}).exit_code, 0);
}

TEST_F(BadInput, ThreadsAreLimitedInTheRecipeAsOnTheCommandLine) {
  expect_refused(recipe_text() + "threads: 5000\n", {"recipe.yaml:10: threads: expected an integer from 0 to 1024"});
  const ProcessResult result = run_flyover({"inspect", "model", model_.string(), "--threads", "5000"});
  EXPECT_EQ(result.exit_code, 2) << result.output;
  EXPECT_THAT(result.output, HasSubstr("--threads: expected an integer from 0 to 1024, found \"5000\""));
}

}  // namespace
}  // namespace flyover::tests
