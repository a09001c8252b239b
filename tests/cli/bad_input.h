// A small trained model to break, and a recipe that runs until something is broken: wrong input gives one clear
// message, exit code 2, and nothing is written.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "process.h"
#include "support/shared_data.h"

namespace flyover::tests {

class BadInput : public testing::Test {
 protected:
  /// A small trained model to break, made once.
  static void SetUpTestSuite() {
    directory_ = new TemporaryDirectory();
    const auto recipe = directory_->path() / "recipe.yaml";
    write_file(recipe, tiny_recipe(directory_->path() / "made"));
    const ProcessResult result = run_flyover({"run", recipe.string()});
    ASSERT_EQ(result.exit_code, 0) << result.output;
  }
  static void TearDownTestSuite() {
    delete directory_;
    directory_ = nullptr;
  }

  void SetUp() override {
    model_ = work_.path() / "model";
    std::filesystem::copy(directory_->path() / "made" / "model", model_, std::filesystem::copy_options::recursive);
    data_ = work_.path() / "data.jsonl";
    write_file(data_, R"({"prompt": "What is 1 + 1?", "completion": "2"})"
                      "\n"
                      R"({"prompt": "What is 2 + 1?", "completion": "3"})"
                      "\n");
  }

  std::string recipe_text(const std::string& data_keys = "") const {
    return "run_directory: " + run_.string() + "\nmodel: " + model_.string() +
           "\nstages:\n  - algorithm: sft\n    data:\n      train: {path: " + data_.string() + "}\n" + data_keys +
           "    optimizer: {learning_rate: 1.0e-3}\n    schedule: {epochs: 1}\n    batch: {global_batch_size: 1}\n";
  }

  /// The run must fail with this text in its message, and must not have begun.
  void expect_refused(const std::string& recipe, const std::vector<std::string>& parts) {
    const auto file = work_.path() / "recipe.yaml";
    write_file(file, recipe);
    const ProcessResult result = run_flyover({"run", file.string()});
    EXPECT_EQ(result.exit_code, 2) << result.output;
    EXPECT_THAT(result.output, testing::StartsWith("error: "));
    for (const std::string& part : parts) {
      EXPECT_THAT(result.output, testing::HasSubstr(part));
    }
    EXPECT_FALSE(std::filesystem::exists(run_)) << "something was written";
  }

  inline static TemporaryDirectory* directory_ = nullptr;
  TemporaryDirectory work_;
  std::filesystem::path run_ = work_.path() / "run";
  std::filesystem::path model_;
  std::filesystem::path data_;
};

}  // namespace flyover::tests
