// From the sources of a recipe to the examples of a stage.
#include "posttrain/stage_data.h"

#include <algorithm>

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "data/examples.h"
#include "posttrain/preflight.h"
#include "posttrain/recipes.h"

namespace flyover::posttrain {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

/// A row whose user and assistant say this.
std::string pair_row(const std::string& prompt, const std::string& completion) {
  return fmt::format("{{\"prompt\": \"{}\", \"completion\": \"{}\"}}\n", prompt, completion);
}

class Sources : public testing::Test {
 protected:
  /// The stage's data; `train` is what the recipe says under train, `keys` what it says beside it.
  StageData load(const std::string& train, const std::string& keys = "", const std::string& algorithm = "sft") const {
    recipe::Recipe recipe = workplace_.recipe(
        "run",
        fmt::format("    algorithm: {}\n    chat_template: plain\n    data: {{train: {}, max_seq_length: 128{}}}\n"
                    "    optimizer: {{learning_rate: 1e-3}}\n    schedule: {{max_steps: 1}}\n"
                    "    batch: {{global_batch_size: 1}}\n",
                    algorithm, train, keys));
    std::vector<PreparedStage> prepared = prepare_stages(recipe);
    tokenizer_ = prepared[0].start.tokenizer;
    return std::move(prepared[0].data);
  }
  std::string error_of(const std::string& train, const std::string& keys = "",
                       const std::string& algorithm = "sft") const {
    try {
      load(train, keys, algorithm);
    } catch (const base::Error& error) {
      return error.what();
    }
    return "no error";
  }
  std::string path(const std::string& name) const { return workplace_.path(name).string(); }
  /// What is learnt of each sequence, without the end of the turn.
  std::vector<std::string> learnt(const data::Dataset& dataset) const {
    std::vector<std::string> texts;
    for (const data::Sequence& sequence : dataset.sequences) {
      const std::string text = data::highlight_targets(sequence, *tokenizer_, false);
      const std::size_t begin = text.find("【") + std::string("【").size();
      texts.push_back(text.substr(begin, text.find("<|endoftext|>") - begin));
    }
    return texts;
  }

  Workplace workplace_;
  mutable std::optional<tokenizer::Tokenizer> tokenizer_;
};

TEST_F(Sources, AnArrayHoldsTheSameRowsAsLines) {
  const std::string first = R"({"instruction": "q", "input": "i", "output": "one"})";
  const std::string second = R"({"instruction": "r", "output": "two"})";
  workplace_.write("rows.jsonl", first + "\n\n" + second + "\n");
  workplace_.write("rows.json", "[" + first + ",\n " + second + "]");
  for (const char* name : {"rows.jsonl", "rows.json"}) {
    const StageData data = load(path(name));
    EXPECT_THAT(learnt(data.train), ElementsAre("one", "two")) << name;
    EXPECT_EQ(data::highlight_targets(data.train.sequences[0], *tokenizer_, false),
              "User:\nq\ni\n\nAssistant:\n【one<|endoftext|>】\n\n");
    EXPECT_EQ(data.reports.at(0).rows, 2);
  }
  EXPECT_EQ(load(path("rows.jsonl")).train.sequences[1].row, 3) << "a line of the file";
  EXPECT_EQ(load(path("rows.json")).train.sequences[1].row, 2) << "an element of the array";
  workplace_.write("rows.json", "[" + first + ", 5]");
  EXPECT_THAT(error_of(path("rows.json")), HasSubstr("rows.json: element 2: a row must be an object, found a number"));
  workplace_.write("rows.json", first);
  EXPECT_THAT(error_of(path("rows.json")), HasSubstr("expected an array of objects, found an object"));
}

TEST_F(Sources, MixedFormatsAreRefusedWithTheLine) {
  workplace_.write("rows.jsonl", pair_row("q", "a") + "\n" + R"({"instruction": "q", "output": "a"})" + "\n");
  EXPECT_THAT(error_of(path("rows.jsonl")),
              HasSubstr("rows.jsonl:3: a row in the format alpaca among rows in the format prompt_completion: put them "
                        "into separate files"));
}

TEST_F(Sources, SeveralSourcesKeepTheirWeightsAndLimits) {
  workplace_.write("a.jsonl", pair_row("q", "a1") + pair_row("q", "a2") + pair_row("q", "a3"));
  workplace_.write("b.jsonl",
                   R"({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "b1"}]})");
  const StageData data = load(
      fmt::format("[{{path: {}, limit: 2, weight: 0.5}}, {{path: {}, weight: 3}}]", path("a.jsonl"), path("b.jsonl")));
  EXPECT_THAT(learnt(data.train), ElementsAre("a1", "a2", "b1"));
  EXPECT_THAT(data.train.source_weights, ElementsAre(0.5, 3.0));
  EXPECT_THAT(data.train.source_names, ElementsAre(path("a.jsonl"), path("b.jsonl")));
  EXPECT_EQ(data.train.sequences[1].source, 0);
  EXPECT_EQ(data.train.sequences[2].source, 1);
  ASSERT_EQ(data.reports.size(), 2u);
  EXPECT_EQ(data.reports[0].rows, 2);
  EXPECT_EQ(data.reports[1].rows, 1);
  // An epoch has half of a's two examples and b's one three times.
  data::BatchOptions options;
  options.batch_sequences = 1;
  options.epochs = 1;
  const data::BatchPlan plan(data.train, options);
  std::vector<std::int64_t> sources;
  for (std::int64_t step = 0; step < plan.steps(); ++step) {
    sources.push_back(data.train.sequences[plan.batch(step)[0]].source);
  }
  EXPECT_THAT(sources, UnorderedElementsAre(0, 1, 1, 1));
}

TEST_F(Sources, TheFieldOfTheMessagesCanBeNamed) {
  workplace_.write("openai.jsonl",
                   R"({"turns": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})");
  workplace_.write("sharegpt.jsonl", R"({"turns": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "b"}]})");
  EXPECT_THAT(learnt(load(fmt::format("[{{path: {}, format: messages, messages_field: turns}},"
                                      " {{path: {}, format: sharegpt, messages_field: turns}}]",
                                      path("openai.jsonl"), path("sharegpt.jsonl")))
                         .train),
              ElementsAre("a", "b"));
}

TEST_F(Sources, ASplitHoldsOutEachExampleOnce) {
  std::string rows;
  std::vector<std::string> answers;
  for (int i = 0; i < 10; ++i) {
    answers.push_back("answer " + std::to_string(i));
    rows += pair_row("q", answers.back());
  }
  workplace_.write("rows.jsonl", rows);
  const StageData data = load(path("rows.jsonl"), ", validation_split: 0.3");
  std::vector<std::string> all = learnt(data.train), held_out = learnt(data.validation);
  EXPECT_EQ(held_out.size(), 3u);
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end())) << "what stays keeps its order";
  all.insert(all.end(), held_out.begin(), held_out.end());
  EXPECT_THAT(all, testing::UnorderedElementsAreArray(answers));
  EXPECT_EQ(learnt(load(path("rows.jsonl"), ", validation_split: 0.3").validation), held_out) << "the seed chooses";
  EXPECT_THAT(error_of(path("rows.jsonl"), ", validation_split: 0.01"),
              HasSubstr("validation_split 0.01 of 10 examples leaves nothing on one side"));
}

TEST_F(Sources, OverlongExamplesAreCountedAsTheRecipeTreatsThem) {
  // Each digit is a token.
  workplace_.write("rows.jsonl", pair_row("q", "short") + pair_row("q", std::string(200, '7')));
  EXPECT_THAT(error_of(path("rows.jsonl")), AllOf(HasSubstr("rows.jsonl:2: "), HasSubstr("exceed max_seq_length 128")));
  const StageData dropped = load(path("rows.jsonl"), ", overlong: drop");
  EXPECT_THAT(learnt(dropped.train), ElementsAre("short"));
  EXPECT_THAT(format_reports(dropped.reports), AllOf(HasSubstr(": 2 rows, 1 sequences, "), HasSubstr(", 1 dropped\n")));
  const StageData truncated = load(path("rows.jsonl"), ", overlong: truncate");
  ASSERT_EQ(truncated.train.sequences.size(), 2u);
  EXPECT_EQ(truncated.train.sequences[1].length(), 128);
  EXPECT_THAT(
      format_reports(truncated.reports),
      AllOf(HasSubstr(": 2 rows, 2 sequences, "), HasSubstr(", 1 truncated, 1 of which lost the end-of-turn token\n")));
}

TEST_F(Sources, TextInAnSftStageNeedsTheRecipesWord) {
  workplace_.write("rows.jsonl", "{\"text\": \"once upon a time\"}\n");
  EXPECT_THAT(error_of(path("rows.jsonl")),
              AllOf(HasSubstr("rows.jsonl:1: a plain text"), HasSubstr("train_on: all"), HasSubstr("continued")));
  const auto text = [&](const StageData& data) {
    return data::highlight_targets(data.train.sequences.at(0), *tokenizer_, false);
  };
  // Every token but the first is learnt.
  const std::string all = text(load(path("rows.jsonl"), ", train_on: all"));
  EXPECT_THAT(all, testing::EndsWith("time<|endoftext|>】"));
  EXPECT_LT(all.find("【"), 5u);
  EXPECT_EQ(text(load(path("rows.jsonl"), "", "continued")), all);
}

}  // namespace
}  // namespace flyover::posttrain
