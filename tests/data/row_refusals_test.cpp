// Rows that a template would show as something else than their author meant are refused, never trained on in silence.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/row_formats.h"

namespace flyover::data {
namespace {

using base::Json;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

std::string error_of(const std::string& text) {
  try {
    const Json row = Json::parse(text);
    parse_row(row, detect_format(row, {}, "rows.jsonl:3"), {}, "rows.jsonl:3");
  } catch (const base::Error& error) {
    return error.what();
  }
  return "no error";
}

/// A conversation whose second message is this, after a question.
std::string error_of_message(const std::string& message) {
  return error_of(R"({"messages": [{"role": "user", "content": "q"}, )" + message + "]}");
}

TEST(RowRefusals, MessagesNeedTheirContent) {
  const std::string answer = "rows.jsonl:3: message 2 (assistant): \"content\" is ";
  EXPECT_THAT(error_of_message(R"({"role": "assistant"})"),
              AllOf(StartsWith(answer + "missing"), HasSubstr("tool_calls or reasoning_content"), HasSubstr("remove")));
  EXPECT_THAT(error_of_message(R"({"role": "assistant", "content": null})"), StartsWith(answer + "null"));
  EXPECT_THAT(error_of_message(R"({"role": "assistant", "content": null, "tool_calls": []})"),
              StartsWith(answer + "null"));
  EXPECT_THAT(error_of_message(R"({"role": "assistant", "content": null, "train": false})"),
              StartsWith(answer + "null"));
  for (const std::string role : {"user", "system", "developer", "tool"}) {
    const std::string where = "rows.jsonl:3: message 2 (" + role + "): \"content\" is ";
    EXPECT_EQ(error_of_message(R"({"role": ")" + role + R"("})"),
              where + "missing (expected a text, or a list of parts): give it, or remove the message");
    EXPECT_THAT(error_of_message(R"({"role": ")" + role + R"(", "content": null, "tool_calls": null})"),
                StartsWith(where + "null"));
    EXPECT_EQ(error_of_message(R"({"role": ")" + role + R"(", "content": ""})"), "no error");
  }
}

TEST(RowRefusals, PartsOfTextNeedTheirText) {
  const auto error = [](const std::string& parts) {
    return error_of_message(R"({"role": "user", "content": )" + parts + "}");
  };
  const std::string where = "rows.jsonl:3: message 2 (user): content[0]: ";
  EXPECT_EQ(error(R"([{"type": "text", "value": "q"}])"), where + "the key \"text\" is missing (expected a string)");
  EXPECT_THAT(error(R"([{"text": "q"}])"), StartsWith(where + "the key \"type\" is missing"));
  EXPECT_THAT(error(R"(["q"])"), StartsWith(where + "expected an object"));
  EXPECT_EQ(error(R"([{"type": "text", "text": ""}, {"type": "image_url", "image_url": {"url": "u"}}])"), "no error");
}

TEST(RowRefusals, ToolCallsOrReasoningStandForAnAnswersContent) {
  const std::string call = R"("tool_calls": [{"id": "1", "type": "function", "function":
                              {"name": "f", "arguments": "{\"x\": 1}"}}])";
  EXPECT_EQ(error_of_message(R"({"role": "assistant", "content": null, )" + call + "}"), "no error");
  EXPECT_EQ(error_of_message(R"({"role": "assistant", )" + call + "}"), "no error");
  for (const std::string key : {"reasoning_content", "reasoning", "thinking"}) {
    EXPECT_EQ(error_of_message(R"({"role": "assistant", "content": null, ")" + key + R"(": "why"})"), "no error");
    EXPECT_THAT(error_of_message(R"({"role": "assistant", "content": null, ")" + key + R"(": " "})"),
                HasSubstr("\"content\" is null"));
  }
}

TEST(RowRefusals, MisspeltKeysAreNamed) {
  EXPECT_EQ(error_of_message(R"({"role": "assistant", "contents": "the answer"})"),
            "rows.jsonl:3: message 2 (assistant): the key \"contents\" is not known (did you mean \"content\"?)");
  EXPECT_EQ(error_of_message(R"({"role": "user", "contents": "q"})"),
            "rows.jsonl:3: message 2 (user): the key \"contents\" is not known (did you mean \"content\"?)");
  EXPECT_THAT(error_of_message(R"({"role": "assistant", "content": "a", "trian": false})"),
              HasSubstr("the key \"trian\" is not known (did you mean \"train\"?)"));
  EXPECT_THAT(error_of_message(R"({"role": "assistant", "content": "a", "tool_call": [{}]})"),
              HasSubstr("the key \"tool_call\" is not known (did you mean \"tool_calls\"?)"));
  EXPECT_THAT(error_of_message(R"({"role": "assistant", "content": null, "contents": "a"})"),
              HasSubstr("did you mean \"content\"?"));
  // Of their own meaning, null, or beside the key that they are like.
  EXPECT_EQ(error_of_message(R"({"role": "assistant", "content": "a", "context": "c", "contents": "b", "trian": null,
                                 "id": 7, "score": 0.5, "refusal": null, "task": "title", "annotations": []})"),
            "no error");
}

TEST(RowRefusals, UnknownRolesAreNamed) {
  const std::string known = "; there are: system, developer, user, assistant, tool, ipython, latest_reminder";
  EXPECT_EQ(error_of_message(R"({"role": "assistent", "content": "a"})"),
            "rows.jsonl:3: message 2: the role \"assistent\" is not known (did you mean \"assistant\"?)" + known);
  EXPECT_EQ(error_of_message(R"({"role": "Assistant", "content": "a"})"),
            "rows.jsonl:3: message 2: the role \"Assistant\" is not known (did you mean \"assistant\"?)" + known);
  EXPECT_EQ(error_of_message(R"({"role": "narrator", "content": "a"})"),
            "rows.jsonl:3: message 2: the role \"narrator\" is not known" + known);
  for (const std::string role : {"system", "developer", "user", "assistant", "tool", "ipython", "latest_reminder"}) {
    EXPECT_EQ(error_of_message(R"({"role": ")" + role + R"(", "content": "a"})"), "no error");
  }
  EXPECT_THAT(
      error_of(R"({"conversations": [{"from": "humann", "value": "q"}]})"),
      HasSubstr("\"from\": \"humann\" is not a known speaker (did you mean \"human\"?); there are: human, user"));
  EXPECT_THAT(error_of(R"({"prompt": [{"role": "users", "content": "q"}], "completion": "a"})"),
              HasSubstr("message 1: the role \"users\" is not known (did you mean \"user\"?)"));
}

TEST(RowRefusals, AnAnswerInItsOwnColumnIsNotEmpty) {
  EXPECT_EQ(error_of(R"({"prompt": "q", "completion": ""})"),
            "rows.jsonl:3: \"completion\" is empty, so the model would learn to be silent: give the answer, or remove "
            "the row");
  EXPECT_THAT(error_of(R"({"prompt": "q", "completion": " \n"})"), StartsWith("rows.jsonl:3: \"completion\" is empty"));
  EXPECT_THAT(error_of(R"({"instruction": "q", "input": "", "output": ""})"),
              StartsWith("rows.jsonl:3: \"output\" is empty"));
  EXPECT_EQ(error_of(R"({"prompt": "", "completion": "a"})"), "no error");
}

TEST(RowRefusals, ARowThatFitsTwoFormatsIsAmbiguous) {
  const std::string messages =
      R"("messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}])";
  EXPECT_EQ(error_of("{" + messages + R"(, "prompt": "q", "completion": "a"})"),
            "rows.jsonl:3: a row with \"messages\" as well as \"prompt\", \"completion\" can be read in 2 ways: name "
            "the one that is meant in the recipe (format: messages or format: prompt_completion)");
  EXPECT_THAT(error_of("{" + messages + R"(, "text": "t"})"),
              HasSubstr("a row with \"messages\" as well as \"text\" can be read in 2 ways"));
  EXPECT_THAT(error_of(R"({"instruction": "", "output": "a", "prompt": "", "completion": "", "text": ""})"),
              AllOf(HasSubstr("in 3 ways"), HasSubstr("format: alpaca or format: prompt_completion or format: text")));
  // Half of the keys of another format, or null ones, are further columns.
  EXPECT_EQ(error_of("{" + messages + R"(, "prompt": "q", "prompt_id": "7", "id": 3, "source": "s", "text": null,
                                         "tools": null, "chosen": [], "completion": null})"),
            "no error");
}

TEST(RowRefusals, ColumnsThatAreNullAreNamed) {
  EXPECT_THAT(error_of(R"({"prompt": "x", "completion": null})"),
              StartsWith("rows.jsonl:3: cannot tell the format of a row with the keys \"prompt\", \"completion\"; "
                         "\"completion\" is null where text is expected (known: messages; conversations; instruction "
                         "and output; prompt and completion; text)"));
  EXPECT_THAT(error_of(R"({"messages": null, "text": null})"),
              AllOf(HasSubstr("; \"messages\" is null where a list is expected"),
                    HasSubstr("; \"text\" is null where text is expected")));
  const Json row = {{"prompt", "x"}, {"completion", nullptr}};
  try {
    parse_row(row, RowFormat::kPromptCompletion, {}, "rows.jsonl:3");
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_STREQ(error.what(), "rows.jsonl:3: \"completion\" must be a string or a list of messages, found null");
  }
}

TEST(RowRefusals, ToolCallsNeedAFunction) {
  const auto error = [](const std::string& calls) {
    return error_of_message(R"({"role": "assistant", "content": "a", "tool_calls": )" + calls + "}");
  };
  const std::string where = "rows.jsonl:3: message 2 (assistant): tool_calls[0]: ";
  const std::string shape = R"({"type": "function", "function": {"name": ..., "arguments": ...}})";
  EXPECT_EQ(error("[{}]"), where + "found no function with a \"name\" (expected " + shape + ")");
  EXPECT_EQ(error("[3]"), where + "expected " + shape + ", found a number");
  EXPECT_EQ(error(R"([{"function": "f"}])"), where + "\"function\": expected an object, found a string");
  EXPECT_THAT(error(R"([{"function": {"arguments": {}}}])"), StartsWith(where + "found no function with a \"name\""));
  EXPECT_EQ(error(R"([{"function": {"name": 3, "arguments": {}}}])"),
            where + "the \"name\" of the function must be a text that is not empty, found a number");
  EXPECT_THAT(error(R"([{"function": {"name": "", "arguments": {}}}])"), HasSubstr("found an empty one"));
  EXPECT_EQ(error(R"([{"function": {"name": "f"}}])"),
            where + "the \"arguments\" of the function must be an object or the text of one, found nothing");
  EXPECT_THAT(error(R"([{"function": {"name": "f", "arguments": [1]}}])"), HasSubstr("found an array"));
  EXPECT_THAT(error(R"([{"name": "f", "arguments": {}}, {}])"), HasSubstr(": tool_calls[1]: found no function"));
  EXPECT_EQ(error(R"([{"name": "f", "arguments": {}}, {"function": {"name": "f", "arguments": "{}"}}])"), "no error");
}

TEST(RowRefusals, ToolsNeedAFunction) {
  const auto error = [](const std::string& tools) {
    return error_of(R"({"instruction": "q", "output": "a", "tools": )" + tools + "}");
  };
  const std::string shape = R"({"type": "function", "function": {"name": ..., "parameters": ...}})";
  EXPECT_EQ(error(R"([{"type": "function"}])"),
            "rows.jsonl:3: tools[0]: found no function with a \"name\" (expected " + shape + ")");
  EXPECT_EQ(error(R"(["f"])"), "rows.jsonl:3: tools[0]: expected " + shape + ", found a string");
  EXPECT_THAT(error(R"([{"name": "f"}, {"type": "function", "function": {"description": "d"}}])"),
              StartsWith("rows.jsonl:3: tools[1]: found no function with a \"name\""));
  EXPECT_EQ(error(R"([{"type": "function", "function": {"name": "f"}}, {"name": "g", "parameters": {}}])"), "no error");
  EXPECT_THAT(error_of_message(R"({"role": "system", "content": "", "tools": [{"type": "function"}]})"),
              StartsWith("rows.jsonl:3: message 2 (system): tools[0]: found no function"));
}

}  // namespace
}  // namespace flyover::data
