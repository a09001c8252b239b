// Places that cannot be used: names, links and directories that the file system refuses, and disks that are full.
#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "bad_input.h"
#include "process.h"

namespace flyover::tests {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// A command that must fail with one message, which begins with this text and has all of these parts.
void expect_one_error(const std::vector<std::string>& arguments, const std::string& beginning,
                      const std::vector<std::string>& parts) {
  const ProcessResult result = run_flyover(arguments);
  EXPECT_EQ(result.exit_code, 2) << result.output;
  EXPECT_THAT(result.output, testing::StartsWith("error: " + beginning));
  EXPECT_EQ(std::count(result.output.begin(), result.output.end(), '\n'), 1) << result.output;
  for (const std::string& part : parts) {
    EXPECT_THAT(result.output, HasSubstr(part));
  }
}

class BadPlaces : public BadInput {
 protected:
  /// `run` must refuse to begin or to go on there.
  void expect_no_run_in(const fs::path& directory, const std::vector<std::string>& parts) {
    const auto file = work_.path() / "recipe.yaml";
    write_file(file, recipe_text());
    for (const std::vector<std::string>& more : {std::vector<std::string>{}, {"--resume"}}) {
      std::vector<std::string> arguments = {"run", file.string(), "--set", "run_directory=" + directory.string()};
      arguments.insert(arguments.end(), more.begin(), more.end());
      expect_one_error(arguments, "run_directory " + directory.string() + ": ", parts);
    }
  }
  fs::path link_to_itself() const {
    fs::create_symlink("circle", work_.path() / "circle");
    return work_.path() / "circle";
  }
};

TEST_F(BadPlaces, ARunDirectoryWithANameThatIsTooLong) {
  expect_no_run_in(work_.path() / std::string(300, 'a'),
                   {"cannot be used: File name too long: choose another directory"});
}

TEST_F(BadPlaces, ARunDirectoryThatIsALinkToItself) {
  const fs::path circle = link_to_itself();
  const std::string reason = "cannot be used: Too many levels of symbolic links";
  expect_no_run_in(circle, {reason, "choose another directory"});
  expect_no_run_in(circle / "run", {reason, "choose another directory"});
  expect_one_error({"report", circle.string()}, circle.string(), {reason, "leads back to itself: remove it"});
}

TEST_F(BadPlaces, ARunDirectoryBelowAFile) {
  expect_no_run_in(data_ / "run", {"cannot create it: Not a directory"});
}

TEST_F(BadPlaces, DirectoriesThatTheUserMayNotEnter) {
  if (::geteuid() == 0) {
    GTEST_SKIP() << "root may enter every directory";
  }
  const fs::path locked = work_.path() / "locked";
  fs::create_directory(locked);
  fs::permissions(locked, fs::perms::none);
  expect_no_run_in(locked / "run", {"cannot be used: Permission denied: choose another directory"});
  expect_one_error({"report", (locked / "run").string()}, locked.string(),
                   {"cannot be used: Permission denied: choose a place that this user may use"});
  expect_one_error({"inspect", "logits", "--model", model_.string(), "--tokens", "1,2", "--out",
                    (locked / "out.safetensors").string()},
                   locked.string(), {"cannot be used: Permission denied: choose a place that this user may use"});
  fs::permissions(locked, fs::perms::owner_all);
}

TEST_F(BadPlaces, OutputWithANameThatIsTooLong) {
  const fs::path out = work_.path() / std::string(300, 'a');
  expect_one_error({"inspect", "logits", "--model", model_.string(), "--tokens", "1,2", "--out", out.string()},
                   out.string(), {": cannot be used: File name too long: choose a shorter name"});
}

TEST_F(BadPlaces, AChatTemplateWithANameThatIsTooLong) {
  const std::string name = (work_.path() / std::string(300, 'a')).string();
  expect_refused(recipe_text() + "    chat_template: " + name + "\n",
                 {"chat_template \"" + name + "\" is neither a file (File name too long) nor a built-in template"});
}

TEST_F(BadPlaces, StandardErrorThatCannotBeWrittenToChangesNoExitCode) {
  ProcessOptions options;
  options.error_file = "/dev/full";
  const ProcessResult result = run_flyover({"run", (work_.path() / "missing.yaml").string()}, options);
  EXPECT_EQ(result.exit_code, 2);
}

/// From a disk without room for the run directory to one that has room for everything.
TEST_F(BadPlaces, ADiskWithRoomForFewFilesIsSaidToBeFull) {
  const fs::path disk = work_.path() / "disk";
  fs::create_directory(disk);
  const auto file = work_.path() / "recipe.yaml";
  write_file(file, tiny_recipe(disk / "run"));
  constexpr int kMostFiles = 100;
  int failed = 0;
  ProcessResult result;
  for (int files = 1; files < kMostFiles; ++files) {
    ProcessOptions options;
    options.small_disk = disk.string();
    options.small_disk_files = files;
    result = run_flyover({"run", file.string(), "--set", "stages.raw.schedule.max_steps=3", "--set",
                          "stages.instruct.schedule.max_steps=2"},
                         options);
    if (result.exit_code == kNoSmallDisk) {
      GTEST_SKIP() << "mounting a disk is not allowed here";
    }
    if (result.exit_code == 0) {
      break;
    }
    ++failed;
    const std::string error = result.output.substr(std::min(result.output.find("error: "), result.output.size()));
    EXPECT_EQ(result.exit_code, 2) << files << " files: " << result.output;
    EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 1) << files << " files: " << result.output;
    EXPECT_THAT(error, testing::AnyOf(HasSubstr("No space left on device"), HasSubstr("is the disk full?")))
        << files << " files: " << result.output;
  }
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_GT(failed, 20) << "this test needs a run that writes many files";
}

}  // namespace
}  // namespace flyover::tests
