// A raw model learns a Jinja template whose tokens it does not have: the recipe names them.
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/safetensors.h"
#include "data/examples.h"
#include "posttrain/preflight.h"
#include "posttrain/recipes.h"

namespace flyover::posttrain {
namespace {

namespace fs = std::filesystem;
using base::Json;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kTemplate =
    "{% for m in messages %}<|turn|>{{ m.role }}\n{{ m.content }}<|over|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}";
constexpr const char* kTokens = "    end_of_turn: <|over|>\n    special_tokens: [<|turn|>]\n";

class TemplateTokens : public testing::Test {
 protected:
  TemplateTokens() {
    workplace_.write("turns.jinja", kTemplate);
    workplace_.write("train.jsonl", "{\"prompt\": \"q\", \"completion\": \"a\"}\n");
    workplace_.write("text.jsonl", "{\"text\": \"once upon a time there was a fox\"}\n");
  }
  /// A model without template and without the tokens.
  fs::path raw_model() const {
    const fs::path run = workplace_.path("raw");
    if (!fs::exists(run)) {
      EXPECT_EQ(run_silently(workplace_.recipe("raw", "    algorithm: continued\n" + rest("text.jsonl", "0"))),
                RunOutcome::kCompleted);
    }
    return run / "model";
  }
  /// An sft stage from the raw model, so slow that no weight moves.
  recipe::Recipe recipe(const std::string& run, const std::string& template_lines) const {
    recipe::Recipe recipe = workplace_.recipe(run, "    algorithm: sft\n" + template_lines + rest("train.jsonl", "1"));
    recipe.model = {};
    recipe.model.path = raw_model().string();
    return recipe;
  }
  std::string template_line() const { return "    chat_template: " + workplace_.path("turns.jinja").string() + "\n"; }
  std::string rest(const std::string& file, const std::string& warmup) const {
    return "    data: {train: " + workplace_.path(file).string() +
           ", max_seq_length: 64, show_examples: 0}\n    optimizer: {learning_rate: 1e-30, weight_decay: 0}\n"
           "    schedule: {max_steps: 1, warmup_steps: " +
           warmup + "}\n    batch: {global_batch_size: 1}\n";
  }
  std::string error_of(recipe::Recipe given) const {
    try {
      prepare_stages(given);
    } catch (const base::Error& error) {
      return error.what();
    }
    return "no error";
  }
  Workplace workplace_;
};

std::vector<float> embedding_of(const fs::path& model, std::int64_t& width) {
  const auto file = checkpoint::SafetensorsFile::open(model / "model.safetensors");
  const auto* tensor = file.find("model.embed_tokens.weight");
  const auto bytes = file.bytes(*tensor);
  width = tensor->shape.at(1);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

TEST_F(TemplateTokens, WithoutTheirNamesTheMessageSaysHowToNameThem) {
  EXPECT_THAT(error_of(recipe("run", template_line())),
              testing::AllOf(HasSubstr("does not end with \"<|endoftext|>\""), HasSubstr("(end_of_turn)")));
}

TEST_F(TemplateTokens, AreSingleTokensOfTheExamples) {
  recipe::Recipe given = recipe("run", template_line() + kTokens);
  const std::vector<PreparedStage> prepared = prepare_stages(given);
  const StartingModel& start = prepared[0].start;
  EXPECT_EQ(data::highlight_targets(prepared[0].data.train.sequences.at(0), start.tokenizer, false),
            "<|turn|>user\nq<|over|>\n<|turn|>assistant\n【a<|over|>】\n");
  const StartingModel raw = open_model(raw_model(), {});
  const std::int64_t rows = raw.tokenizer.vocabulary_size();
  EXPECT_EQ(start.tokenizer.token_to_id("<|turn|>"), rows);
  EXPECT_EQ(start.tokenizer.token_to_id("<|over|>"), rows + 1);
  EXPECT_TRUE(start.tokenizer.is_special(static_cast<std::int32_t>(rows)));
  EXPECT_EQ((*start.config)["vocab_size"], rows + 2);
}

TEST_F(TemplateTokens, TheWrittenModelStopsAtTheEndOfTheTurnAndItsNewRowsAreTheMeanOfTheOld) {
  ASSERT_EQ(run_silently(recipe("run", template_line() + kTokens)), RunOutcome::kCompleted);
  const fs::path directory = workplace_.path("run") / "model";
  EXPECT_EQ(base::read_file(directory / "chat_template.jinja"), kTemplate);
  const StartingModel model = open_model(directory, {});
  const std::int32_t over = model.tokenizer.token_to_id("<|over|>").value();
  const std::int32_t end_of_text = model.tokenizer.token_to_id("<|endoftext|>").value();
  EXPECT_EQ(base::read_json_file(directory / "generation_config.json")["eos_token_id"],
            Json::array({over, end_of_text}));
  EXPECT_EQ(base::read_json_file(directory / "tokenizer_config.json")["eos_token"], "<|over|>");
  EXPECT_THAT(model.stop_tokens, ElementsAre(over, end_of_text));
  EXPECT_EQ(model.end_of_text, end_of_text);
  ASSERT_TRUE(model.chat_template.has_value());
  EXPECT_EQ(model.chat_template->end_of_turn(), "<|over|>");

  std::int64_t width = 0;
  const std::vector<float> before = embedding_of(raw_model(), width), after = embedding_of(directory, width);
  const auto columns = static_cast<std::size_t>(width), rows = before.size() / columns;
  ASSERT_EQ(after.size(), before.size() + 2 * columns);
  for (std::size_t column = 0; column < columns; ++column) {
    double mean = 0;
    for (std::size_t row = 0; row < rows; ++row) {
      mean += before[row * columns + column] / static_cast<double>(rows);
      ASSERT_EQ(after[row * columns + column], before[row * columns + column]);
    }
    EXPECT_NEAR(after[rows * columns + column], mean, 1e-6);
    EXPECT_NEAR(after[(rows + 1) * columns + column], mean, 1e-6);
  }
}

TEST_F(TemplateTokens, AnEndOfTurnCorrectsTheModelsOwnTemplate) {
  const fs::path model = raw_model();
  const std::string own = "{# own #}" + std::string(kTemplate);
  base::write_file_atomically(model / "chat_template.jinja", own);
  EXPECT_THAT(error_of(recipe("run", "")), HasSubstr("does not end with \"<|endoftext|>\""));
  ASSERT_EQ(run_silently(recipe("run", kTokens)), RunOutcome::kCompleted);
  const fs::path directory = workplace_.path("run") / "model";
  EXPECT_EQ(base::read_file(directory / "chat_template.jinja"), own);
  const StartingModel written = open_model(directory, {});
  EXPECT_EQ(written.chat_template->end_of_turn(), "<|over|>");
  EXPECT_EQ(written.stop_tokens.front(), written.tokenizer.token_to_id("<|over|>"));
}

TEST_F(TemplateTokens, TheTemplateSeesTheEndOfTheTurnAsItsEosToken) {
  std::string source = kTemplate;
  source.replace(source.find("<|over|>"), 8, "{{ eos_token }}");
  workplace_.write("turns.jinja", source);
  recipe::Recipe given = recipe("run", template_line() + kTokens);
  const std::vector<PreparedStage> prepared = prepare_stages(given);
  EXPECT_EQ(data::highlight_targets(prepared[0].data.train.sequences.at(0), prepared[0].start.tokenizer, false),
            "<|turn|>user\nq<|over|>\n<|turn|>assistant\n【a<|over|>】\n");
}

TEST_F(TemplateTokens, AreRefusedWhereTheyHaveNoUse) {
  EXPECT_THAT(error_of(recipe("run", kTokens)), HasSubstr("the model has none: name one with chat_template"));
  EXPECT_THAT(error_of(recipe("run", std::string("    chat_template: chatml\n") + kTokens)),
              HasSubstr("chat_template chatml: a built-in template brings its own tokens"));
}

}  // namespace
}  // namespace flyover::posttrain
