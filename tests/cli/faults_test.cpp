// Runs that are killed, interrupted or find the disk full end, once resumed, in the same files as one that was not.
#include <chrono>
#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/files.h"
#include "base/random.h"
#include "process.h"
#include "support/shared_data.h"

namespace flyover::tests {
namespace {

/// All bytes of the trained model.
std::string model_bytes(const std::filesystem::path& run) {
  std::string bytes;
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                           "chat_template.jinja", "generation_config.json"}) {
    bytes += base::read_file(run / "model" / name);
  }
  return bytes;
}

class Faults : public testing::Test {
 protected:
  std::filesystem::path recipe_for(const std::string& name) {
    const auto file = directory_.path() / (name + ".yaml");
    write_file(file, tiny_recipe(directory_.path() / name));
    return file;
  }
  ProcessResult run(const std::string& name, bool resume, const ProcessOptions& options = {}) {
    std::vector<std::string> arguments = {"run", recipe_for(name).string()};
    if (resume) {
      arguments.push_back("--resume");
    }
    return run_flyover(arguments, options);
  }
  TemporaryDirectory directory_;
};

TEST_F(Faults, FiftyKillsAtRandomMomentsChangeNoBit) {
  const auto begin = std::chrono::steady_clock::now();
  const ProcessResult whole = run("whole", false);
  const auto duration =
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin).count();
  ASSERT_EQ(whole.exit_code, 0) << whole.output;
  const std::string expected = model_bytes(directory_.path() / "whole");
  const base::Random random(11, base::RandomPurpose::kTest);
  constexpr int kKills = 50;
  int kills = 0;
  std::uint64_t draw = 0;
  for (int attempt = 0; kills < kKills; ++attempt) {
    ASSERT_LT(attempt, 200) << "the runs end before they are killed";
    const std::string name = "killed-" + std::to_string(attempt);
    for (;;) {
      ProcessOptions options;
      options.kill_after_microseconds =
          static_cast<std::int64_t>(random.below(draw++, static_cast<std::uint64_t>(duration)));
      const ProcessResult result = run(name, true, options);
      if (result.signal == SIGKILL) {
        ++kills;
        continue;
      }
      ASSERT_EQ(result.exit_code, 0) << result.output;
      break;
    }
    ASSERT_EQ(model_bytes(directory_.path() / name), expected) << name;
  }
  EXPECT_GE(kills, kKills);
}

TEST_F(Faults, SigtermAndInterruptSaveAndExitWithTheirCode) {
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(run("whole", false).exit_code, 0);
  const auto duration =
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin).count();
  const std::string expected = model_bytes(directory_.path() / "whole");
  const base::Random random(12, base::RandomPurpose::kTest);
  int interrupted = 0;
  for (std::uint64_t attempt = 0; attempt < 200 && interrupted < 4; ++attempt) {
    const std::string name = "cut-" + std::to_string(attempt);
    ProcessOptions options;
    options.signal_after = interrupted % 2 == 0 ? SIGTERM : SIGINT;
    options.kill_after_microseconds =
        static_cast<std::int64_t>(random.below(attempt, static_cast<std::uint64_t>(duration)));
    const ProcessResult first = run(name, false, options);
    if (first.exit_code != 75) {
      continue;  // the signal came before the watch began, or after the end
    }
    ++interrupted;
    EXPECT_THAT(first.output, testing::HasSubstr("--resume"));
    const ProcessResult second = run(name, true);
    ASSERT_EQ(second.exit_code, 0) << second.output;
    EXPECT_EQ(model_bytes(directory_.path() / name), expected);
  }
  EXPECT_EQ(interrupted, 4);
}

TEST_F(Faults, AFullDiskIsAnErrorAndTheRunGoesOnAfterwards) {
  ASSERT_EQ(run("whole", false).exit_code, 0);
  const auto state = directory_.path() / "whole" / "checkpoints";
  std::uintmax_t largest = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(state)) {
    largest = entry.is_regular_file() ? std::max(largest, entry.file_size()) : largest;
  }
  ProcessOptions options;
  options.file_size_limit = static_cast<std::int64_t>(largest) / 2;  // no checkpoint fits
  const ProcessResult full = run("full", false, options);
  EXPECT_EQ(full.exit_code, 2) << full.output;
  EXPECT_THAT(full.output, testing::HasSubstr("cannot write"));
  const ProcessResult resumed = run("full", true);
  ASSERT_EQ(resumed.exit_code, 0) << resumed.output;
  EXPECT_EQ(model_bytes(directory_.path() / "full"), model_bytes(directory_.path() / "whole"));
}

}  // namespace
}  // namespace flyover::tests
