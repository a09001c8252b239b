// Damaged rows and tokenizer configurations end in an Error or in what can be trained on, never in anything else. Meant
// for the sanitizer builds.
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/examples.h"
#include "data/rows.h"
#include "support/damage.h"
#include "support/shared_data.h"
#include "tokenizer/train.h"

namespace flyover::data {
namespace {

using base::Json;

/// A row of each format, with every key that has a meaning.
const std::vector<std::string> kRows = {
    R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "q"}]},)"
    R"({"role": "assistant", "content": null, "reasoning_content": "why", "tool_calls": [{"id": "1", "type": "function",)"
    R"("function": {"name": "f", "arguments": "{\"x\": [1, 2]}"}}], "weight": 1}, {"role": "tool", "tool_call_id": "1",)"
    R"("name": "f", "content": "r"}, {"role": "assistant", "content": "a\u00e9", "train": true}], "tools": [{"type":)"
    R"("function", "function": {"name": "f", "parameters": {"type": "object"}}}], "chat_template_kwargs": {"b": 1}})",
    R"({"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": "{\"name\": \"f\",)"
    R"( \"arguments\": {}}"}, {"from": "observation", "value": "r"}, {"from": "gpt", "value": "a"}], "system": "s",)"
    R"("tools": "[{\"name\": \"f\"}]"})",
    R"({"instruction": "q", "input": "i", "output": "a", "system": "s", "history": [["b", "c"]]})",
    R"({"prompt": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}], "completion": "a"})",
    R"({"prompt": "q", "completion": [{"role": "assistant", "content": "a"}], "id": 7})",
    R"({"text": "once upon a time", "url": "u"})"};

/// Without base::write_file_atomically's wait for the disk, of which there would be thousands.
void put_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

class RowFuzz : public testing::Test {
 protected:
  RowFuzz() {
    tokenizer::BpeTraining training;
    training.special_tokens = {"<|im_start|>", "<|im_end|>"};
    training.vocabulary_size = 256 + 2;
    tokenizer_ = tokenizer::Tokenizer::parse(tokenizer::train_bpe("", training), "tokenizer.json");
  }

  /// Goes from the file to what is trained on; whether all of it was accepted.
  bool accepts(const std::string& name, const std::string& text) {
    const auto path = directory_.path() / name;
    put_file(path, text);
    Dataset dataset;
    SourceReport report;
    try {
      for_each_row(path, [&](const DataRow& row) {
        const RowFormat format = detect_format(row.value, {}, row.where);
        ExampleOptions options;
        options.train_on = format == RowFormat::kText ? TrainOn::kAll : TrainOn::kAssistant;
        ExampleBuilder(*tokenizer_, &chatml_, options)
            .add(parse_row(row.value, format, {}, row.where), row.where, 0, row.number, dataset, report);
        return true;
      });
    } catch (const base::Error& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with(path.string())) << error.what();
      return false;
    }
    for (const Sequence& sequence : dataset.sequences) {
      EXPECT_EQ(sequence.tokens.size(), sequence.trained.size());
      EXPECT_GT(sequence.targets(), 0) << text;
      EXPECT_LT(sequence.targets(), sequence.length()) << text;
    }
    return true;
  }

  tests::TemporaryDirectory directory_;
  std::optional<tokenizer::Tokenizer> tokenizer_;
  ChatTemplate chatml_ = ChatTemplate::built_in("chatml", {});
};

TEST_F(RowFuzz, UndamagedRowsAreAccepted) {
  for (const std::string& row : kRows) {
    EXPECT_TRUE(accepts("rows.jsonl", row + "\n\n" + row)) << row;
    EXPECT_TRUE(accepts("rows.json", "[" + row + ",\n" + row + "]")) << row;
  }
}

TEST_F(RowFuzz, DamagedFilesAreRefusedOrCanBeTrainedOn) {
  constexpr std::uint64_t kRounds = 2000;
  std::uint64_t accepted = 0;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const std::string& row = kRows[round % kRows.size()];
    const bool is_array = round / kRows.size() % 2 == 1;
    const std::string text = is_array ? "[" + row + ",\n" + row + "]" : row + "\r\n" + row + "\n";
    accepted += accepts(is_array ? "rows.json" : "rows.jsonl", tests::damaged(text, round)) ? 1u : 0u;
  }
  EXPECT_GT(accepted, kRounds / 20);
  EXPECT_LT(accepted, kRounds * 4 / 5);
}

TEST_F(RowFuzz, RowsWithOtherValuesAreRefusedOrCanBeTrainedOn) {
  constexpr std::uint64_t kRounds = 2000;
  const std::vector<Json> others = {nullptr,
                                    true,
                                    0,
                                    -1,
                                    1e300,
                                    "",
                                    "a",
                                    "assistant",
                                    "<|im_end|>",
                                    "[{",
                                    "{\"a\": 1}",
                                    "function_call",
                                    Json::array(),
                                    Json::object(),
                                    Json::array({Json::object()}),
                                    Json::array({"a"})};
  std::uint64_t accepted = 0;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    Json row = Json::parse(kRows[round % kRows.size()]);
    tests::change_value(row, base::Random(18, base::RandomPurpose::kTest, round), others);
    accepted += accepts("rows.jsonl", row.dump()) ? 1u : 0u;
  }
  EXPECT_GT(accepted, kRounds / 20);
  EXPECT_LT(accepted, kRounds * 4 / 5);
}

TEST_F(RowFuzz, DeepAndLongRowsTakeNoQuadraticTime) {
  const std::string deep = std::string(200000, '[') + std::string(200000, ']');
  EXPECT_FALSE(accepts("rows.jsonl", R"({"messages": )" + deep + "}"));
  EXPECT_FALSE(accepts("rows.jsonl", R"({"messages": [{"role": ")" + std::string(1000000, 'a') + R"("}]})"));
  EXPECT_FALSE(accepts("rows.jsonl", R"({"messages": [{"role": "user", ")" + std::string(1000000, 'c') + R"(": 1}]})"));
  EXPECT_FALSE(accepts("rows.jsonl", std::string(1000000, '{')));
  EXPECT_TRUE(accepts("rows.jsonl", std::string(1000000, '\n')));
}

TEST(TokenizerConfigFuzz, DamagedConfigurationsAreRefusedOrGiveATemplate) {
  const std::vector<std::string> originals = {
      R"({"bos_token": {"__type": "AddedToken", "content": "<s>", "special": true}, "eos_token": "</s>", "pad_token":)"
      R"( null, "chat_template": "{{ bos_token }}{% for message in messages %}{{ message.role + ': ' +)"
      R"( message['content'] | trim }}{{ eos_token }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}",)"
      R"( "model_max_length": 1000000000000000019884624838656, "added_tokens_decoder": {"0": {"content": "<unk>"}}})",
      R"({"eos_token": "</s>", "chat_template": [{"name": "default", "template": "{{ messages | length }}"},)"
      R"( {"name": "tool_use", "template": "{% if tools %}{{ tools | tojson(indent=2) }}{% endif %}"}]})"};
  Conversation conversation;
  conversation.messages = {text_message("user", "q"), text_message("assistant", "a")};
  conversation.tools = std::make_shared<const Json>(Json::parse(R"([{"name": "f"}])"));
  const tests::TemporaryDirectory directory;
  constexpr std::uint64_t kRounds = 2000;
  std::uint64_t accepted = 0;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    put_file(directory.path() / "tokenizer_config.json", tests::damaged(originals[round % originals.size()], round));
    try {
      if (const auto chat_template = ChatTemplate::from_model_directory(directory.path())) {
        chat_template->render(conversation, true);
        ++accepted;
      }
    } catch (const base::Error& error) {
      EXPECT_FALSE(std::string(error.what()).empty());
    }
  }
  EXPECT_GT(accepted, kRounds / 20);
  EXPECT_LT(accepted, kRounds * 4 / 5);
}

}  // namespace
}  // namespace flyover::data
