// Runs that are killed, interrupted or find the disk full end, once resumed, in the same files as one that was not.
#include <chrono>
#include <csignal>
#include <map>
#include <sstream>

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/json.h"
#include "base/random.h"
#include "process.h"
#include "support/shared_data.h"

namespace flyover::tests {
namespace {

/// The lines of a metrics.jsonl without what is measured of a process: times, speeds, the peak of its memory.
std::string training_metrics(const std::filesystem::path& file) {
  std::istringstream lines(base::read_file(file));
  std::string result;
  for (std::string line; std::getline(lines, line);) {
    base::Json metrics = base::parse_json(line, file.string());
    for (auto key = metrics.begin(); key != metrics.end();) {
      const std::string& name = key.key();
      const bool measured =
          name.starts_with("time/") || name.starts_with("memory/") || name == "tokens_per_second" || name == "mfu";
      key = measured ? metrics.erase(key) : std::next(key);
    }
    result += metrics.dump() + "\n";
  }
  return result;
}

/// What a run leaves that does not depend on the machine, by file: all models, all metrics.
std::map<std::string, std::string> outcome(const std::filesystem::path& run) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(run)) {
    const std::filesystem::path& path = entry.path();
    const std::string directory = path.parent_path().filename().string();
    if (entry.is_regular_file() && (directory == "model" || directory == "model-best")) {
      files[path.lexically_relative(run).string()] = base::read_file(path);
    } else if (path.filename() == "metrics.jsonl") {
      files[path.lexically_relative(run).string()] = training_metrics(path);
    }
  }
  return files;
}

/// The names of files that only one of the outcomes has, or that differ.
std::string differing(const std::map<std::string, std::string>& found,
                      const std::map<std::string, std::string>& expected) {
  std::string names;
  for (const auto& [name, contents] : expected) {
    const auto same = found.find(name);
    names += same == found.end() ? name + " is missing. " : same->second != contents ? name + " differs. " : "";
  }
  for (const auto& [name, contents] : found) {
    names += expected.contains(name) ? "" : name + " is too many. ";
  }
  return names;
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
  const auto expected = outcome(directory_.path() / "whole");
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
    ASSERT_EQ(differing(outcome(directory_.path() / name), expected), "") << name;
  }
  EXPECT_GE(kills, kKills);
}

TEST_F(Faults, SigtermAndInterruptSaveAndExitWithTheirCode) {
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(run("whole", false).exit_code, 0);
  const auto duration =
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin).count();
  const auto expected = outcome(directory_.path() / "whole");
  const base::Random random(12, base::RandomPurpose::kTest);
  int interrupted = 0;
  for (std::uint64_t attempt = 0; attempt < 200 && interrupted < 4; ++attempt) {
    const std::string name = "cut-" + std::to_string(attempt);
    ProcessOptions options;
    options.signal_after = interrupted % 2 == 0 ? SIGTERM : SIGINT;
    options.kill_after_microseconds =
        static_cast<std::int64_t>(random.below(attempt, static_cast<std::uint64_t>(duration)));
    const ProcessResult first = run(name, false, options);
    if (first.exit_code != 75) {  // the signal came before the watch began, or after the end
      ASSERT_TRUE(first.exit_code == 0 || first.signal == options.signal_after) << first.output;
      continue;
    }
    ++interrupted;
    EXPECT_THAT(first.output, testing::HasSubstr("--resume"));
    const ProcessResult second = run(name, true);
    ASSERT_EQ(second.exit_code, 0) << second.output;
    EXPECT_EQ(differing(outcome(directory_.path() / name), expected), "") << name;
  }
  EXPECT_EQ(interrupted, 4);
}

TEST_F(Faults, AFullDiskIsAnErrorAndTheRunGoesOnAfterwards) {
  ASSERT_EQ(run("whole", false).exit_code, 0);
  const auto expected = outcome(directory_.path() / "whole");
  std::uintmax_t largest = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_.path() / "whole")) {
    largest = entry.is_regular_file() ? std::max(largest, entry.file_size()) : largest;
  }
  // From "the recipe does not fit" to "the largest file lacks a byte".
  for (const std::uintmax_t limit :
       {std::uintmax_t{16}, std::uintmax_t{1000}, largest / 50, largest / 10, largest / 4, largest / 2, largest - 1}) {
    const std::string name = fmt::format("full-at-{}", limit);
    ProcessOptions options;
    options.file_size_limit = static_cast<std::int64_t>(limit);
    const ProcessResult full = run(name, false, options);
    EXPECT_EQ(full.exit_code, 2) << limit << ": " << full.output;
    EXPECT_THAT(full.output, testing::HasSubstr("cannot write"));
    const ProcessResult resumed = run(name, true);
    ASSERT_EQ(resumed.exit_code, 0) << limit << ": " << resumed.output;
    EXPECT_EQ(differing(outcome(directory_.path() / name), expected), "") << limit;
  }
}

}  // namespace
}  // namespace flyover::tests
