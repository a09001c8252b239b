// The page of a run directory.
#include "report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "evaluate/scores.h"
#include "support/shared_data.h"

namespace flyover::report {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Report : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) {
    fs::create_directories((run() / name).parent_path());
    base::write_file_atomically(run() / name, text);
  }
  std::string page() const { return base::read_file(write_report(run())); }
  std::string error() const {
    try {
      write_report(run());
    } catch (const base::Error& failure) {
      return failure.what();
    }
    return "";
  }
  fs::path run() const { return directory_.path() / "my-run"; }

 private:
  tests::TemporaryDirectory directory_;
};

TEST_F(Report, OfAFinishedRunHasScoresCurvesSamplesAndRecipe) {
  write("recipe.yaml", "seed: 1\n# <script>alert(1)</script>\n");
  write("metrics.jsonl",
        "{\"stage\":\"raw\",\"step\":1,\"loss\":4,\"tokens_seen\":2048,\"memory/peak_gib\":0.5,\"reward/mean\":0.25}\n"
        "{\"stage\":\"raw\",\"step\":2,\"loss\":3,\"moe/load/3\":[10,30]}\n"
        "{\"stage\":\"raw\",\"step\":2,\"validation/loss\":3.25}\n");
  write("model/config.json", "{\"model_type\":\"deepseek_v4\",\"num_hidden_layers\":4,\"vocab_size\":4096}");
  const evaluate::NamedScores scores = {
      {"raw", {{{"sort", 1, 100}}, {{"sort", "3 1 2", "1 2 3", "<img onerror=alert(1)>"}}}},
      {"trained", {{{"sort", 98, 100}}, {{"sort", "3 1 2", "1 2 3", "1 2 3"}}}}};
  write("evaluation.json", scores_json(scores).dump());
  const std::string html = page();
  EXPECT_THAT(html, AllOf(HasSubstr("my-run"), HasSubstr("deepseek_v4, 4 layers, vocabulary 4,096"), HasSubstr("98 %"),
                          HasSubstr("4 → 3"), HasSubstr("3.25"), HasSubstr("2,048"), HasSubstr("reward/mean"),
                          HasSubstr("layer 3, expert 1: 1.50 of the mean"), HasSubstr("seed: 1")));
  EXPECT_THAT(html, Not(HasSubstr("<img")));  // what a model says is text
  EXPECT_THAT(html, Not(HasSubstr("<script>alert")));
  EXPECT_THAT(html, AllOf(Not(HasSubstr("http://")), Not(HasSubstr("https://")),
                          Not(HasSubstr("src="))));  // the page needs nothing else
}

TEST_F(Report, OfARunUnderWayShowsWhatThereIs) {
  write("recipe.yaml", "seed: 1\n");
  write("metrics.jsonl", "{\"stage\":\"raw\",\"step\":1,\"loss\":4}\n{\"stage\":\"raw\",\"st");
  EXPECT_THAT(page(), AllOf(HasSubstr("has not written its model yet"), HasSubstr("<figure>")));
  EXPECT_THAT(page(), Not(HasSubstr("Exact match")));
}

TEST_F(Report, WhatIsNoRunOrCannotBeReadIsRefusedAndNothingIsWritten) {
  EXPECT_THAT(error(), HasSubstr("holds no recipe.yaml"));
  write("recipe.yaml", "seed: 1\n");
  EXPECT_THAT(error(), HasSubstr("no metrics to show"));
  write("metrics.jsonl", "nonsense\n");
  EXPECT_THAT(error(), HasSubstr("metrics.jsonl:1"));
  write("metrics.jsonl", "{\"stage\":\"raw\",\"step\":1,\"loss\":4}\n");
  for (const char* wrong : {"{}", "[{}]", "[{\"name\":\"raw\",\"tasks\":[1],\"samples\":[]}]", "["}) {
    write("evaluation.json", wrong);
    EXPECT_THAT(error(), HasSubstr("evaluation.json")) << wrong;
  }
  EXPECT_FALSE(fs::exists(run() / "report.html"));
}

TEST(Scores, AreReadAsTheyWereWritten) {
  const tests::TemporaryDirectory directory;
  const evaluate::NamedScores scores = {{"raw", {{{"a", 0, 7}, {"b", 2, 9}}, {{"a", "q", "e", "ü \"s\""}}}},
                                        {"trained", {{{"a", 7, 7}}, {}}}};
  const fs::path file = directory.path() / "evaluation.json";
  base::write_file_atomically(file, scores_json(scores).dump());
  const evaluate::NamedScores read = evaluate::read_scores(file);
  EXPECT_EQ(scores_json(read), scores_json(scores));
  EXPECT_EQ(read[0].second.tasks[1].asked, 9);
  EXPECT_THAT(evaluate::format_scores(read), AllOf(HasSubstr("100 %"), HasSubstr("22 %"), HasSubstr("-")));
}

}  // namespace
}  // namespace flyover::report
