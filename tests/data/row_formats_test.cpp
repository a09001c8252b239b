// Rows of the formats that datasets have, as conversations and texts.
#include "data/row_formats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/conversations.h"
#include "data/rows.h"
#include "support/shared_data.h"

namespace flyover::data {
namespace {

using base::Json;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

Document read(const char* text, const FieldNames& names = {}) {
  const Json row = Json::parse(text);
  return parse_row(row, detect_format(row, names, "rows.jsonl:3"), names, "rows.jsonl:3");
}

/// The messages as a template sees them.
Json messages_of(const Document& document) {
  Json messages = Json::array();
  for (const Message& one : std::get<Conversation>(document).messages) {
    messages.push_back(message_for_template(one));
  }
  return messages;
}

Json messages_of(const char* text, const FieldNames& names = {}) {
  return messages_of(read(text, names));
}

std::string error_of(const char* text, std::optional<RowFormat> format = std::nullopt, const FieldNames& names = {}) {
  try {
    const Json row = Json::parse(text);
    parse_row(row, format ? *format : detect_format(row, names, "rows.jsonl:3"), names, "rows.jsonl:3");
  } catch (const base::Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(RowFormats, MessagesOfOpenAI) {
  const Document document = read(R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"},
      {"role": "assistant", "content": "a", "train": false}], "tools": [{"name": "f"}], "id": 7})");
  EXPECT_EQ(messages_of(document), Json({message("system", "s"), message("user", "q"), message("assistant", "a")}));
  const auto& conversation = std::get<Conversation>(document);
  EXPECT_EQ(*conversation.tools, Json::parse(R"([{"name": "f"}])"));
  EXPECT_EQ(conversation.messages[2].train, false);
  EXPECT_EQ(conversation.messages[1].train, std::nullopt);
}

TEST(RowFormats, ToolsMayBeTheTextOfAList) {
  const auto tools = [](const char* text) { return std::get<Conversation>(read(text)).tools; };
  EXPECT_EQ(*tools(R"({"messages": [{"role": "user", "content": "q"}], "tools": "[{\"name\": \"f\"}]"})"),
            Json::parse(R"([{"name": "f"}])"));
  for (const char* none : {"null", "\"\"", "[]", "\"[]\""}) {
    const std::string row =
        std::string(R"({"conversations": [{"from": "human", "value": "q"}], "tools": )") + none + "}";
    EXPECT_EQ(tools(row.c_str()), nullptr) << none;
  }
  EXPECT_THAT(error_of(R"({"instruction": "q", "output": "a", "tools": "{}"})"),
              HasSubstr("rows.jsonl:3: \"tools\" must be a list, found an object"));
  EXPECT_THAT(error_of(R"({"instruction": "q", "output": "a", "tools": "[{"})"), StartsWith("rows.jsonl:3: tools:1:"));
}

TEST(RowFormats, ShareGpt) {
  EXPECT_EQ(messages_of(R"({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]})"),
            Json({message("user", "q"), message("assistant", "a")}));
  EXPECT_EQ(messages_of(R"({"system": "s", "conversations": [{"from": "user", "value": "q"},
                           {"from": "assistant", "value": "a"}]})"),
            Json({message("system", "s"), message("user", "q"), message("assistant", "a")}));
  EXPECT_EQ(messages_of(R"({"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"},
                           {"from": "chatgpt", "value": "a"}, {"from": "model", "value": "b"}]})"),
            Json({message("system", "s"), message("user", "q"), message("assistant", "a"), message("assistant", "b")}));
}

TEST(RowFormats, ShareGptsCallsAndTheirResults) {
  const Json called = Json::parse(R"([{"role": "user", "content": "q"},
      {"role": "assistant", "content": "", "tool_calls":
        [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]},
      {"role": "tool", "content": "r"}, {"role": "assistant", "content": "a"}])");
  for (const std::string result : {"observation", "function_response", "tool"}) {
    const std::string row = R"({"conversations": [{"from": "human", "value": "q"},
        {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},
        {"from": ")" + result +
                            R"(", "value": "r"}, {"from": "gpt", "value": "a"}], "tools": [{"name": "f"}]})";
    EXPECT_EQ(messages_of(row.c_str()), called) << result;
  }
  // Several calls at once, and one without arguments.
  EXPECT_EQ(messages_of(R"({"conversations": [{"from": "function_call",
                           "value": "[{\"name\": \"f\", \"arguments\": {\"x\": 1}}, {\"name\": \"g\"}]"}]})"),
            Json::parse(R"([{"role": "assistant", "content": "", "tool_calls": [
                {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}},
                {"type": "function", "function": {"name": "g", "arguments": {}}}]}])"));
}

TEST(RowFormats, WhatIsWrongInShareGptIsNamed) {
  EXPECT_EQ(error_of(R"({"conversations": [{"from": "bing", "value": "q"}]})"),
            "rows.jsonl:3: \"from\": \"bing\" is not a known speaker; there are: human, user, gpt, chatgpt, assistant, "
            "model, system, tool, observation, function_response, function_call");
  EXPECT_EQ(error_of(R"({"conversations": "q"})"),
            "rows.jsonl:3: \"conversations\" must be a list of turns, found a string");
  EXPECT_THAT(error_of(R"({"conversations": [{"from": "function_call", "value": "f of 1"
}]
})"),
              StartsWith("rows.jsonl:3: function_call:1:"));
  EXPECT_THAT(error_of(R"({"conversations": [{"from": "human"}]})"),
              AllOf(HasSubstr("rows.jsonl:3"), HasSubstr("value")));
}

TEST(RowFormats, TheFieldOfShareGptsTurnsCanBeNamed) {
  FieldNames names;
  names.conversations = "dialogue";
  EXPECT_EQ(messages_of(R"({"dialogue": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]})", names),
            Json({message("user", "q"), message("assistant", "a")}));
  EXPECT_EQ(error_of(R"({"conversations": []})", RowFormat::kShareGpt, names),
            "rows.jsonl:3: \"dialogue\" must be a list of turns, found nothing");
}

TEST(RowFormats, Alpaca) {
  EXPECT_EQ(messages_of(R"({"instruction": "q", "output": "a"})"),
            Json({message("user", "q"), message("assistant", "a")}));
  EXPECT_EQ(messages_of(R"({"instruction": "q", "input": "", "output": "a"})"),
            Json({message("user", "q"), message("assistant", "a")}));
  EXPECT_EQ(messages_of(R"({"instruction": "Add.", "input": "1 2", "output": "3", "system": "Be brief."})"),
            Json({message("system", "Be brief."), message("user", "Add.\n1 2"), message("assistant", "3")}));
  EXPECT_EQ(messages_of(R"({"instruction": "c", "output": "d", "system": "", "history": [["a", "b"]]})"),
            Json({message("user", "a"), message("assistant", "b"), message("user", "c"), message("assistant", "d")}));
  EXPECT_EQ(error_of(R"({"instruction": "c", "output": "d", "history": [["a"]]})"),
            "rows.jsonl:3: \"history\" must be a list of [question, answer] pairs");
  EXPECT_THAT(error_of(R"({"instruction": 1, "output": "d"})"),
              AllOf(StartsWith("rows.jsonl:3: "), HasSubstr("instruction")));
}

TEST(RowFormats, PromptAndCompletionAsTexts) {
  const Document document = read(R"({"prompt": "q", "completion": "a", "system": "s"})");
  EXPECT_EQ(messages_of(document), Json({message("system", "s"), message("user", "q"), message("assistant", "a")}));
}

TEST(RowFormats, PromptAndCompletionAsMessagesLearnTheCompletionAlone) {
  const Document document = read(R"({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
      {"role": "user", "content": "c"}], "completion": [{"role": "assistant", "content": "d"}]})");
  EXPECT_EQ(messages_of(document),
            Json({message("user", "a"), message("assistant", "b"), message("user", "c"), message("assistant", "d")}));
  const auto& messages = std::get<Conversation>(document).messages;
  EXPECT_EQ(messages[1].train, false);
  EXPECT_EQ(messages[3].train, std::nullopt);
  EXPECT_EQ(error_of(R"({"prompt": "q", "completion": 5})"),
            "rows.jsonl:3: \"completion\" must be a string or a list of messages, found a number");
}

TEST(RowFormats, Text) {
  EXPECT_EQ(std::get<std::string>(read(R"({"text": "once\nmore", "url": "x"})")), "once\nmore");
  EXPECT_THAT(error_of(R"({"text": 5})"), AllOf(StartsWith("rows.jsonl:3: "), HasSubstr("text")));
}

TEST(RowFormats, FieldsMayHaveOtherNames) {
  FieldNames names;
  names.messages = "turns";
  names.prompt = "question";
  names.completion = "answer";
  names.text = "body";
  EXPECT_EQ(messages_of(R"({"turns": [{"role": "user", "content": "q"}]})", names),
            Json::array({message("user", "q")}));
  EXPECT_EQ(messages_of(R"({"question": "q", "answer": "a"})", names),
            Json({message("user", "q"), message("assistant", "a")}));
  EXPECT_EQ(std::get<std::string>(read(R"({"body": "b"})", names)), "b");
}

TEST(RowFormats, AreToldByTheKeys) {
  const auto format = [](const char* text) { return detect_format(Json::parse(text), {}, "r:1"); };
  EXPECT_EQ(format(R"({"messages": [], "url": "x"})"), RowFormat::kMessages);
  EXPECT_EQ(format(R"({"messages": null, "conversations": []})"), RowFormat::kShareGpt);
  EXPECT_EQ(format(R"({"instruction": "", "output": "", "prompt": ""})"), RowFormat::kAlpaca);
  EXPECT_EQ(format(R"({"prompt": "", "completion": "", "output": ""})"), RowFormat::kPromptCompletion);
  EXPECT_EQ(format(R"({"prompt": "", "text": ""})"), RowFormat::kText);
  EXPECT_THAT(error_of(R"({"question": "q", "answer": "a"})"),
              AllOf(StartsWith("rows.jsonl:3: cannot tell the format of a row with the keys \"question\", \"answer\""),
                    HasSubstr("prompt_field")));
}

TEST(RowFormats, RealDatasetsAreReadWhole) {
  FLYOVER_SHARED_OR_SKIP(folder, "datasets");
  struct File {
    const char* path;
    RowFormat format;
    std::int64_t rows;
  };
  for (const File& file : {File{"llamafactory_demo/alpaca_en_demo.json", RowFormat::kAlpaca, 999},
                           {"llamafactory_demo/alpaca_zh_demo.json", RowFormat::kAlpaca, 1000},
                           {"llamafactory_demo/identity.json", RowFormat::kAlpaca, 91},
                           {"llamafactory_demo/c4_demo.jsonl", RowFormat::kText, 300},
                           {"llamafactory_demo/dpo_en_demo.json", RowFormat::kShareGpt, 300},
                           {"llamafactory_demo/glaive_toolcall_en_demo.json", RowFormat::kShareGpt, 300},
                           {"llamafactory_demo/kto_en_demo.json", RowFormat::kMessages, 300},
                           {"rasbt_instruct/instruction-data.json", RowFormat::kAlpaca, 1100},
                           {"rasbt_instruct/instruction-data-with-preference.json", RowFormat::kAlpaca, 1100}}) {
    std::int64_t rows = 0;
    for_each_row(folder / file.path, [&](const DataRow& row) {
      EXPECT_EQ(detect_format(row.value, {}, row.where), file.format) << row.where;
      parse_row(row.value, file.format, {}, row.where);
      ++rows;
      return true;
    });
    EXPECT_EQ(rows, file.rows) << file.path;
  }
  FieldNames names;
  names.prompt = "question";
  names.completion = "answer";
  for_each_row(folder / "gsm8k/train.jsonl", [&](const DataRow& row) {
    parse_row(row.value, RowFormat::kPromptCompletion, names, row.where);
    return true;
  });
}

TEST(RowFormats, AConversationWithoutMessagesIsRefused) {
  EXPECT_EQ(error_of(R"({"messages": []})"), "rows.jsonl:3: a conversation without messages");
  EXPECT_EQ(error_of(R"({"conversations": []})"), "rows.jsonl:3: a conversation without messages");
}

}  // namespace
}  // namespace flyover::data
