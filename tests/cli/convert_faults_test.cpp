// A conversion that is killed at random moments, again and again, ends in the same files as one that was not.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/files.h"
#include "base/random.h"
#include "checkpoint/quantised_model.h"
#include "process.h"
#include "support/shared_data.h"

namespace flyover::tests {
namespace {

namespace fs = std::filesystem;

std::map<std::string, std::string> files_of(const fs::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    files[entry.path().filename().string()] = base::read_file(entry.path());
  }
  return files;
}

TEST(ConvertFaults, FiftyKillsAtRandomMomentsChangeNoBit) {
  const TemporaryDirectory directory;
  const fs::path source = directory.path() / "source";
  checkpoint::write_handmade(source, checkpoint::quantised_model(2), true);
  const auto convert = [&](const std::string& target, const ProcessOptions& options) {
    return run_flyover(
        {"convert", source.string(), (directory.path() / target).string(), "--to", "fp8", "--max-shard-bytes", "30000"},
        options);
  };
  const auto begin = std::chrono::steady_clock::now();
  const ProcessResult whole = convert("whole", {});
  const auto duration =
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin).count();
  ASSERT_EQ(whole.exit_code, 0) << whole.output;
  const auto expected = files_of(directory.path() / "whole");
  ASSERT_GT(expected.size(), 10u);
  const base::Random random(21, base::RandomPurpose::kTest);
  int kills = 0, continued = 0;
  std::uint64_t draw = 0;
  for (int attempt = 0; kills < 50; ++attempt) {
    ASSERT_LT(attempt, 200) << "the conversions end before they are killed";
    const std::string name = "killed-" + std::to_string(attempt);
    for (;;) {
      ProcessOptions options;
      options.kill_after_microseconds =
          static_cast<std::int64_t>(random.below(draw++, static_cast<std::uint64_t>(duration)));
      const ProcessResult result = convert(name, options);
      if (result.signal == SIGKILL) {
        ++kills;
        const fs::path target = directory.path() / name;
        if (fs::exists(target) && !fs::exists(target / ".flyover-progress.json")) {
          break;  // killed when all was done: what is there must be complete
        }
        continue;
      }
      ASSERT_EQ(result.exit_code, 0) << result.output;
      continued += result.output.find("kept from an earlier attempt") != std::string::npos ? 1 : 0;
      break;
    }
    ASSERT_EQ(files_of(directory.path() / name), expected) << name;
    ASSERT_FALSE(fs::exists(directory.path() / ("." + name + ".flyover-converting")));
  }
  EXPECT_GT(continued, 0);
}

TEST(ConvertFaults, AFullDiskIsAnErrorAndTheConversionGoesOnAfterwards) {
  const TemporaryDirectory directory;
  const fs::path source = directory.path() / "source";
  checkpoint::write_handmade(source, checkpoint::quantised_model(3));
  const auto convert = [&](const std::string& target, const ProcessOptions& options) {
    return run_flyover({"convert", source.string(), (directory.path() / target).string(), "--max-shard-bytes", "60000"},
                       options);
  };
  ASSERT_EQ(convert("whole", {}).exit_code, 0);
  std::vector<std::uintmax_t> sizes;
  const auto expected = files_of(directory.path() / "whole");
  for (const auto& [name, bytes] : expected) {
    sizes.push_back(name.starts_with("model-") ? bytes.size() : 0);
  }
  const std::uintmax_t largest = *std::max_element(sizes.begin(), sizes.end());
  ProcessOptions options;
  options.file_size_limit = static_cast<std::int64_t>(largest) - 1;  // the largest file does not fit
  const ProcessResult full = convert("full", options);
  EXPECT_EQ(full.exit_code, 2) << full.output;
  EXPECT_NE(full.output.find("cannot write"), std::string::npos) << full.output;
  EXPECT_FALSE(fs::exists(directory.path() / "full"));
  const ProcessResult rest = convert("full", {});
  ASSERT_EQ(rest.exit_code, 0) << rest.output;
  EXPECT_EQ(files_of(directory.path() / "full"), expected);
}

}  // namespace
}  // namespace flyover::tests
