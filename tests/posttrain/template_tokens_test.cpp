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
  fs::path raw_model(bool is_tied = true) const {
    const fs::path run = workplace_.path("raw");
    if (!fs::exists(run)) {
      recipe::Recipe made = workplace_.recipe("raw", "    algorithm: continued\n" + rest("text.jsonl", "0"));
      Json config = base::parse_json(made.model.random->config.text, "config");
      config["tie_word_embeddings"] = is_tied;
      made.model.random->config.text = config.dump();
      EXPECT_EQ(run_silently(made), RunOutcome::kCompleted);
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

std::vector<float> rows_of(const fs::path& model, const char* name, std::int64_t& width) {
  const auto file = checkpoint::SafetensorsFile::open(model / "model.safetensors");
  const auto* tensor = file.find(name);
  const auto bytes = file.bytes(*tensor);
  width = tensor->shape.at(1);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

/// The rows of this matrix, with two more that are the mean of those before.
void expect_two_mean_rows_more(const fs::path& model, const fs::path& resized, const char* name) {
  std::int64_t width = 0;
  const std::vector<float> before = rows_of(model, name, width), after = rows_of(resized, name, width);
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
  expect_two_mean_rows_more(raw_model(), directory, "model.embed_tokens.weight");
}

TEST_F(TemplateTokens, AnOutputLayerOfItsOwnGetsTheMeanOfItsOwnRows) {
  const fs::path raw = raw_model(false), directory = workplace_.path("run") / "model";
  ASSERT_EQ(run_silently(recipe("run", template_line() + kTokens)), RunOutcome::kCompleted);
  expect_two_mean_rows_more(raw, directory, "model.embed_tokens.weight");
  expect_two_mean_rows_more(raw, directory, "lm_head.weight");
}

TEST_F(TemplateTokens, AreInEveryFileThatNamesTokens) {
  const fs::path raw = raw_model();
  base::write_file_atomically(raw / "special_tokens_map.json",
                              R"({"eos_token": {"content": "<|endoftext|>", "lstrip": false}, "unk_token": "<unk>"})");
  base::write_file_atomically(raw / "added_tokens.json", R"({"<|endoftext|>": 0})");
  base::write_file_atomically(raw / "chat_template.json", R"({"chat_template": "an older one"})");
  base::write_file_atomically(
      raw / "tokenizer_config.json",
      R"({"eos_token": "<|endoftext|>", "added_tokens_decoder": {"0": {"content": "<|endoftext|>",
                                  "lstrip": false, "normalized": false, "rstrip": false, "single_word": false,
                                  "special": true}}})");
  ASSERT_EQ(run_silently(recipe("run", "    chat_template: chatml\n")), RunOutcome::kCompleted);
  const fs::path directory = workplace_.path("run") / "model";
  const auto file = [&](const char* name) { return base::read_json_file(directory / name); };
  const StartingModel model = open_model(directory, {});
  const std::int32_t start = model.tokenizer.token_to_id("<|im_start|>").value();
  const std::int32_t end = model.tokenizer.token_to_id("<|im_end|>").value();
  EXPECT_EQ(file("special_tokens_map.json"), Json::parse(R"({"eos_token": "<|im_end|>", "unk_token": "<unk>"})"));
  EXPECT_EQ(file("added_tokens.json"), Json({{"<|endoftext|>", 0}, {"<|im_start|>", start}, {"<|im_end|>", end}}));
  EXPECT_EQ(file("chat_template.json")["chat_template"], base::read_file(directory / "chat_template.jinja"));
  const Json tokenizer_config = file("tokenizer_config.json");
  EXPECT_EQ(tokenizer_config["eos_token"], "<|im_end|>");
  const Json& decoder = tokenizer_config["added_tokens_decoder"];
  EXPECT_EQ(decoder.size(), 3u);
  EXPECT_EQ(decoder[std::to_string(end)], Json::parse(R"({"content": "<|im_end|>", "lstrip": false,
      "normalized": false, "rstrip": false, "single_word": false, "special": true})"));
  EXPECT_EQ(file("generation_config.json")["eos_token_id"], Json::array({end, 0}));
  EXPECT_EQ(file("config.json")["eos_token_id"], Json::array({0, end})) << "what ends plain text comes first";
  EXPECT_EQ(model.end_of_text, 0);
}

TEST_F(TemplateTokens, ATemplateSeesTheTokensThatOnlyTheTokenizersFilesName) {
  base::write_file_atomically(raw_model() / "tokenizer_config.json", R"({"pad_token": "<pad>"})");
  base::write_file_atomically(raw_model() / "special_tokens_map.json", R"({"unk_token": "<unk>"})");
  workplace_.write("turns.jinja", "{{ pad_token }}{{ unk_token }}{{ eos_token }}" + std::string(kTemplate));
  recipe::Recipe given = recipe("run", template_line() + kTokens);
  const std::vector<PreparedStage> prepared = prepare_stages(given);
  EXPECT_THAT(data::highlight_targets(prepared[0].data.train.sequences.at(0), prepared[0].start.tokenizer, false),
              testing::StartsWith("<pad><unk><|over|><|turn|>user"));
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
  EXPECT_THAT(
      error_of(recipe("run", "    chat_template: no/such.jinja\n")),
      HasSubstr("chat_template \"no/such.jinja\" is neither a file nor a built-in template; there are: chatml, "));
  EXPECT_THAT(error_of(recipe("run", std::string("    chat_template: chatml\n") + kTokens)),
              HasSubstr("chat_template chatml: a built-in template brings its own tokens"));
}

}  // namespace
}  // namespace flyover::posttrain
