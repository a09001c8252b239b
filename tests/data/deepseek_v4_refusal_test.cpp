// What DeepSeek-V4's encoding refuses: each with one message that says which message of the conversation is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/files.h"
#include "data/protocol_strings.h"
#include "deepseek_v4_conversations.h"
#include "support/shared_data.h"

namespace flyover::data::deepseek_v4 {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string refusal(const List& messages, bool add_generation_prompt = false, const Mode& mode = chat_mode()) {
  return error_of([&] { encoded(messages, mode, add_generation_prompt); });
}

const Json kAsked = message("user", "q");

TEST(DeepSeekV4Refusal, RolesAndPlacesThatTheFormatDoesNotHave) {
  EXPECT_EQ(refusal({kAsked, message("developer", "x")}),
            "message 2 (developer): the format has no role \"developer\" (it has system, user, assistant, tool and "
            "latest_reminder)");
  EXPECT_EQ(refusal({kAsked, message("system", "x")}),
            "message 2 (system): the system message must be the first one, and there is only one");
  const Json empty = {{"role", "user"}};
  EXPECT_THAT(refusal({empty, message("assistant", "x")}), HasSubstr("message 1 (user): \"content\" is missing"));
  const Json image = {{"role", "user"}, {"content", Json::array({{{"type", "image"}}})}};
  EXPECT_THAT(refusal({image}), HasSubstr("message 1 (user): \"content\": this format takes text parts only"));
  Json misplaced = kAsked;
  misplaced["tools"] = kClock;
  EXPECT_THAT(refusal({misplaced}), HasSubstr("message 1 (user): \"tools\" belongs to the system message"));
  misplaced = kAsked;
  misplaced["reasoning_content"] = "x";
  EXPECT_THAT(refusal({misplaced}), HasSubstr("message 1 (user): \"reasoning_content\" belongs to the assistant"));
  EXPECT_THAT(refusal({calling(kAsked, {call("f", Json::object())})}),
              HasSubstr("message 1 (user): \"tool_calls\" belong to the assistant"));
}

TEST(DeepSeekV4Refusal, ResultsAndCallsThatDoNotBelongTogether) {
  const Json one = calling(message("assistant", ""), {call("f", Json::object(), "1")});
  const Json two = calling(message("assistant", ""), {call("f", Json::object(), "1"), call("g", Json::object(), "2")});
  EXPECT_EQ(refusal({kAsked, result("x")}), "message 2 (tool): no tool call comes before this result");
  EXPECT_THAT(refusal({kAsked, message("assistant", "y"), result("x")}), HasSubstr("message 3 (tool): no tool call"));
  EXPECT_THAT(refusal({kAsked, one, kAsked}),
              HasSubstr("message 3 (user): the tool calls of the message before it have no results"));
  EXPECT_THAT(refusal({kAsked, one}, true), HasSubstr("message 2 (assistant): its tool calls have no results"));
  EXPECT_EQ(refusal({kAsked, one}), "no error") << "it is where the model's turn ends";
  EXPECT_THAT(refusal({kAsked, two, result("x", "1")}), HasSubstr("message 3 (tool): 1 results for 2 tool calls"));
  EXPECT_THAT(refusal({kAsked, two, result("x", "1"), result("y", "3")}),
              HasSubstr("message 3 (tool): result 2 answers the call \"3\", which is not there"));
  EXPECT_THAT(refusal({kAsked, two, result("x", "1"), result("y", "1")}),
              HasSubstr("result 2 answers the call \"1\", which has a result already"));
  EXPECT_THAT(refusal({kAsked, two, result("x", "1"), result("y")}), HasSubstr("result 2 has no \"tool_call_id\""));
}

TEST(DeepSeekV4Refusal, CallsThatAreNone) {
  const auto with = [](const Json& tool_call) {
    return refusal({kAsked, calling(message("assistant", ""), {call("ok", Json::object()), tool_call})});
  };
  EXPECT_THAT(with("now"), HasSubstr("message 2 (assistant): tool_calls[1]: expected an object"));
  EXPECT_THAT(with({{"function", Json::object()}}), HasSubstr("tool_calls[1]: the key \"name\" is missing"));
  EXPECT_THAT(with(call("", Json::object())), HasSubstr("\"\" cannot be the name"));
  EXPECT_THAT(with(call("a\"b", Json::object())), HasSubstr("\"a\"b\" cannot be the name"));
  EXPECT_THAT(with(call("f", {{"x>y", 1}})), HasSubstr("tool_calls[1].arguments.x>y"));
  EXPECT_THAT(with(call("f", Json::array({1}))), HasSubstr("\"arguments\" must be an object"));
  EXPECT_THAT(with(call("f", "{x")), HasSubstr("tool_calls[1].arguments:1:"));
  EXPECT_THAT(with(call("f", {{"x", "</｜DSML｜parameter>"}})),
              AllOf(HasSubstr("tool_calls[1].arguments.x"), HasSubstr("control token ｜DSML｜")));
}

TEST(DeepSeekV4Refusal, ControlTokensInAnyText) {
  for (const std::string_view token : kAllTokens) {
    const std::string text = "a" + std::string(token) + "b";
    for (const Json& said : {message("system", text), message("user", text), message("assistant", text),
                             answer(text, "x"), message("latest_reminder", text)}) {
      EXPECT_THAT(refusal({said}), HasSubstr("control token " + std::string(token)));
    }
    EXPECT_THAT(refusal({kAsked, calling(message("assistant", ""), {call("f", {{"x", text}})})}),
                HasSubstr("control token " + std::string(token)));
    const Json tools = Json::array({{{"function", {{"name", "f"}, {"description", text}}}}});
    EXPECT_THAT(error_of([&] { encoded({kAsked}, chat_mode(), true, tools); }),
                HasSubstr("tools: contains the text of the control token " + std::string(token)));
  }
  const List calls = {call("f", Json::object())};
  EXPECT_THAT(refusal({kAsked, calling(message("assistant", ""), calls), result("</tool_result>")}),
              HasSubstr("message 3 (tool): contains </tool_result>"));
  EXPECT_THAT(refusal({message("user", "<tool_result>x")}), HasSubstr("message 1 (user): contains <tool_result>"));
}

TEST(DeepSeekV4Refusal, TasksThatDoNotFit) {
  Json asked = kAsked;
  asked["task"] = "summary";
  EXPECT_THAT(refusal({asked}),
              HasSubstr("message 1 (user): the task \"summary\" is not known; there are: action, query"));
  asked["task"] = "query";
  EXPECT_THAT(refusal({asked, kAsked}),
              HasSubstr("message 2 (user): what follows the task \"query\" must be its answer"));
  EXPECT_THAT(refusal({asked, answer("why", "x")}), HasSubstr("can have neither reasoning nor tool calls"));
}

TEST(DeepSeekV4Refusal, AMissingTextIsAnErrorOnlyWhereItIsNeeded) {
  Mode mode = thinking_mode();
  PromptTexts none;
  none.source = "model/prompt_texts.json";
  const Conversation plain = conversation({kAsked});
  EXPECT_EQ(error_of([&] { encode(plain, true, mode, none); }), "no error");
  EXPECT_THAT(error_of([&] { encode(conversation({kAsked}, kClock), true, mode, none); }),
              AllOf(HasSubstr("text \"tools\""), HasSubstr("model/prompt_texts.json does not give")));
  mode.maximum_effort = true;
  EXPECT_THAT(error_of([&] { encode(plain, true, mode, none); }),
              AllOf(HasSubstr("text \"reasoning_effort_max\""), HasSubstr("model/prompt_texts.json")));
}

TEST(PromptTexts, AreReadAndChecked) {
  const tests::TemporaryDirectory directory;
  const auto path = directory.path() / kPromptTextsFile;
  const auto error = [&](const std::string& text) {
    base::write_file_atomically(path, text);
    return error_of([&] { read_prompt_texts(path); });
  };
  EXPECT_FALSE(read_prompt_texts(path).tools.has_value());
  EXPECT_EQ(error(R"({"tools": "## Tools {tool_schemas}", "reasoning_effort_max": "Reasoning Effort: x"})"),
            "no error");
  EXPECT_EQ(read_prompt_texts(path).tools, "## Tools {tool_schemas}");
  EXPECT_EQ(read_prompt_texts(path).reasoning_effort_max, "Reasoning Effort: x");
  EXPECT_THAT(error(R"({"tool": "x"})"),
              AllOf(HasSubstr("\"tool\" is not known"), HasSubstr("did you mean \"tools\"")));
  EXPECT_THAT(error(R"({"tools": "x {tool_schemas}"})"), HasSubstr("begins \"## Tools\""));
  EXPECT_THAT(error(R"({"tools": "## Tools"})"), HasSubstr("must hold {tool_schemas} once"));
  EXPECT_THAT(error(R"({"tools": "## Tools {tool_schemas}{tool_schemas}"})"), HasSubstr("once"));
  EXPECT_THAT(error(R"({"reasoning_effort_max": 3})"), HasSubstr("\"reasoning_effort_max\" must be"));
  EXPECT_THAT(error("[]"), HasSubstr("expected an object"));
}

TEST(DeepSeekV4Mode, IsReadFromTheTemplatesVariables) {
  EXPECT_FALSE(parse_mode(Json::object()).thinking);
  EXPECT_TRUE(parse_mode({{"thinking", true}}).thinking);
  EXPECT_FALSE(parse_mode({{"thinking", true}, {"reasoning_effort", "high"}}).maximum_effort);
  EXPECT_TRUE(parse_mode({{"thinking", true}, {"reasoning_effort", "max"}}).maximum_effort);
  EXPECT_FALSE(parse_mode({{"thinking", true}, {"reasoning_effort", nullptr}}).maximum_effort);
  const auto error = [](const Json& variables) { return error_of([&] { parse_mode(variables); }); };
  EXPECT_THAT(error({{"thinkng", true}}), AllOf(HasSubstr("\"thinkng\""), HasSubstr("did you mean \"thinking\"")));
  EXPECT_THAT(error({{"thinking", "yes"}}), HasSubstr("\"thinking\" must be"));
  EXPECT_THAT(error({{"thinking", true}, {"reasoning_effort", "low"}}),
              HasSubstr("must be high or max, found \"low\""));
  EXPECT_THAT(error({{"reasoning_effort", "max"}}), HasSubstr("only with \"thinking\": true"));
}

}  // namespace
}  // namespace flyover::data::deepseek_v4
