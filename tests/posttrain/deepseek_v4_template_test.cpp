// A model that speaks DeepSeek-V4's prompt format: trained, written, found again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/examples.h"
#include "data/protocol_strings.h"
#include "posttrain/preflight.h"
#include "posttrain/recipes.h"

namespace flyover::posttrain {
namespace {

namespace fs = std::filesystem;
using base::Json;
using testing::HasSubstr;

constexpr const char* kRows = R"({"messages": [{"role": "user", "content": "What is 1 + 1?"},
 {"role": "assistant", "content": "2", "reasoning_content": "One more than one."}]})";

class DeepSeekV4Model : public testing::Test {
 protected:
  DeepSeekV4Model() {
    std::string row = kRows;
    row.erase(row.find('\n'), 1);
    workplace_.write("train.jsonl", row + "\n" + row + "\n");
  }
  recipe::Recipe recipe(const std::string& run, const std::string& template_lines) const {
    return workplace_.recipe(run, "    algorithm: sft\n" + template_lines +
                                      "    data: {train: {path: " + workplace_.path("train.jsonl").string() + R"(},
           max_seq_length: 128, show_examples: 0}
    optimizer: {learning_rate: 3.0e-3}
    schedule: {max_steps: 2}
    batch: {global_batch_size: 1}
)");
  }
  std::string example(recipe::Recipe given) const {
    const std::vector<PreparedStage> prepared = prepare_stages(given);
    return data::highlight_targets(prepared[0].data.train.sequences.at(0), prepared[0].start.tokenizer, false);
  }
  std::string error_of(const recipe::Recipe& given) const {
    try {
      example(given);
    } catch (const base::Error& error) {
      return error.what();
    }
    return "no error";
  }
  Workplace workplace_;
};

constexpr const char* kThinking = "    chat_template: deepseek_v4\n    chat_template_kwargs: {thinking: true}\n";

data::Conversation question() {
  data::Conversation conversation;
  conversation.messages.push_back(data::text_message("user", "q"));
  return conversation;
}

TEST_F(DeepSeekV4Model, TheRecipeChoosesTheMode) {
  EXPECT_EQ(example(recipe("run", kThinking)),
            "<｜begin▁of▁sentence｜><｜User｜>What is 1 + 1?<｜Assistant｜><think>【One more than one.</think>2"
            "<｜end▁of▁sentence｜>】");
  EXPECT_THAT(error_of(recipe("run", "    chat_template: deepseek_v4\n")),
              testing::AllOf(HasSubstr("train.jsonl:1: "), HasSubstr("message 2 has reasoning to learn")));
  EXPECT_THAT(error_of(recipe("run", "    chat_template: deepseek_v4\n    chat_template_kwargs: {thinkin: true}\n")),
              HasSubstr("chat_template_kwargs: \"thinkin\" is not known"));
  EXPECT_THAT(error_of(recipe("run",
                              "    chat_template: deepseek_v4\n"
                              "    chat_template_kwargs: {thinking: true, reasoning_effort: max}\n")),
              testing::AllOf(HasSubstr("train.jsonl:1: "), HasSubstr("reasoning_effort_max")));
}

TEST_F(DeepSeekV4Model, TheWrittenModelSpeaksIt) {
  ASSERT_EQ(run_silently(recipe("run", kThinking)), RunOutcome::kCompleted);
  const StartingModel model = open_model(workplace_.path("run") / "model", {});
  ASSERT_TRUE(model.chat_template.has_value());
  EXPECT_EQ(model.chat_template->render(question(), true), "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜></think>");
  EXPECT_EQ(model.stop_tokens.front(), model.tokenizer.token_to_id(data::deepseek_v4::kEndOfTurn));
  for (const std::string_view token : data::deepseek_v4::kAllTokens) {
    EXPECT_EQ(model.tokenizer.encode(token).size(), 1u) << token;
  }
}

TEST_F(DeepSeekV4Model, IsTheDefaultOfModelsOfTheFamilyWithTheTokens) {
  ASSERT_EQ(run_silently(recipe("run", kThinking)), RunOutcome::kCompleted);
  const fs::path directory = workplace_.path("run") / "model";
  // As published: no template, and the texts in their file.
  fs::remove(directory / "chat_template.jinja");
  fs::remove(directory / "tokenizer_config.json");
  fs::remove(directory / "generation_config.json");
  EXPECT_FALSE(open_model(directory, {}).chat_template.has_value()) << "another family";
  Json config = base::read_json_file(directory / "config.json");
  config["model_type"] = "deepseek_v4";
  base::write_file_atomically(directory / "config.json", config.dump());
  base::write_file_atomically(directory / "prompt_texts.json", R"({"reasoning_effort_max": "Reasoning Effort: x|"})");
  const auto variables = std::make_shared<const Json>(Json{{"thinking", true}, {"reasoning_effort", "max"}});
  const StartingModel model = open_model(directory, {"", std::nullopt, variables});
  ASSERT_TRUE(model.chat_template.has_value());
  EXPECT_EQ(model.chat_template->render(question(), true),
            "<｜begin▁of▁sentence｜>Reasoning Effort: x|<｜User｜>q<｜Assistant｜><think>");
  EXPECT_THAT(model.stop_tokens, testing::Contains(*model.tokenizer.token_to_id(data::deepseek_v4::kEndOfTurn)));
  EXPECT_TRUE(model.extra_files.empty()) << "a copy stays as published";

  base::write_file_atomically(directory / "chat_template.jinja", "own{{ thinking }}");
  EXPECT_EQ(open_model(directory, {"", std::nullopt, variables}).chat_template->render(question(), true), "ownTrue");
  fs::remove(directory / "chat_template.jinja");
  std::string tokenizer = base::read_file(directory / "tokenizer.json");
  for (std::size_t at = tokenizer.find("<think>"); at != std::string::npos; at = tokenizer.find("<think>")) {
    tokenizer.replace(at, 7, "<thunk>");
  }
  base::write_file_atomically(directory / "tokenizer.json", tokenizer);
  EXPECT_FALSE(open_model(directory, {}).chat_template.has_value()) << "a tokenizer without the tokens";
}

TEST_F(DeepSeekV4Model, TheTextsGoWhereTheModelGoes) {
  ASSERT_EQ(run_silently(recipe("run", kThinking)), RunOutcome::kCompleted);
  const std::string texts = R"({"tools": "## Tools {tool_schemas}"})";
  const fs::path directory = workplace_.path("run") / "model";
  base::write_file_atomically(directory / "prompt_texts.json", texts);
  recipe::Recipe next = recipe("next", kThinking);
  next.model = {};
  next.model.path = directory.string();
  ASSERT_EQ(run_silently(next), RunOutcome::kCompleted);
  EXPECT_EQ(base::read_file(workplace_.path("next") / "model" / "prompt_texts.json"), texts);
  // A new model takes them from beside its tokenizer.
  recipe::Recipe random = recipe("random", kThinking);
  random.model.random->tokenizer = {};
  random.model.random->tokenizer.path = directory.string();
  ASSERT_EQ(run_silently(random), RunOutcome::kCompleted);
  EXPECT_EQ(base::read_file(workplace_.path("random") / "model" / "prompt_texts.json"), texts);
}

}  // namespace
}  // namespace flyover::posttrain
