// What DeepSeek-V4 says, back to messages: the inverse of the encoding, and clear errors for what is malformed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "data/deepseek_v4/reply.h"
#include "data/deepseek_v4/tool_calls.h"
#include "deepseek_v4_conversations.h"

namespace flyover::data::deepseek_v4 {
namespace {

using testing::HasSubstr;

/// What the model says in the last of these messages.
std::string said(const List& messages, const Mode& mode) {
  const jinja::Rendered rendered = encode(conversation(messages), false, mode, made_up_texts());
  const jinja::Span span = rendered.generation.back();
  return rendered.text.substr(span.begin, span.end - span.begin);
}

std::string error(const std::string& text, bool thinking = false) {
  return error_of([&] { parse_reply(text, thinking); });
}

TEST(DeepSeekV4Reply, IsReasoningContentAndCalls) {
  const Message message = parse_reply(
      "Time?\n</think>Let me see.\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"now\">\n"
      "<｜DSML｜parameter name=\"zone\" string=\"true\">UTC</｜DSML｜parameter>\n"
      "<｜DSML｜parameter name=\"digits\" string=\"false\">{\"n\": 2}</｜DSML｜parameter>\n"
      "</｜DSML｜invoke>\n<｜DSML｜invoke "
      "name=\"stop\">\n</｜DSML｜invoke>\n</｜DSML｜tool_calls><｜end▁of▁sentence｜>",
      true);
  EXPECT_EQ(message.role, "assistant");
  EXPECT_EQ(message.reasoning_content, "Time?\n");
  EXPECT_EQ(content_text(message), "Let me see.");
  ASSERT_NE(message.tool_calls, nullptr);
  EXPECT_EQ(message.tool_calls->dump(),
            R"([{"type":"function","function":{"name":"now","arguments":{"zone":"UTC","digits":{"n":2}}}},)"
            R"({"type":"function","function":{"name":"stop","arguments":{}}}])");
  const Message plain = parse_reply("Hello", false);
  EXPECT_EQ(content_text(plain), "Hello");
  EXPECT_EQ(plain.reasoning_content, std::nullopt);
  EXPECT_EQ(plain.tool_calls, nullptr);
}

TEST(DeepSeekV4Reply, GivesBackWhatWasEncoded) {
  const List calls = {call("f", Json::parse(R"({"a": "x\n\n<b> \"é\" ", "n": -1.5, "l": [[], {}, ""], "t": "true"})")),
                      call("g", Json::object())};
  for (const Mode& mode : {chat_mode(), thinking_mode()}) {
    for (const char* content : {"", "x", "two\n\nlines\n\n", "< b > ｜ DSML"}) {
      for (const char* reasoning : {"", "why?\n"}) {
        for (const List& some : {List{}, calls}) {
          Json original = message("assistant", content);
          if (mode.thinking && *reasoning != '\0') {
            original["reasoning_content"] = reasoning;
          }
          if (!some.empty()) {
            original["tool_calls"] = some;
          }
          const std::string text = said({message("user", "q"), original}, mode);
          const Message parsed = parse_reply(text, mode.thinking);
          EXPECT_EQ(message_for_template(parsed), message_for_template(message_from_json(original, "original")));
          EXPECT_EQ(said({message("user", "q"), message_for_template(parsed)}, mode), text);
        }
      }
    }
  }
}

TEST(DeepSeekV4Reply, TagsMayHaveAnyWhiteSpaceBetweenThem) {
  const Message message = parse_reply(
      "x<｜DSML｜tool_calls><｜DSML｜invoke name=\"f\"> <｜DSML｜parameter name=\"a\" string=\"false\"> 1 "
      "</｜DSML｜parameter></｜DSML｜invoke>\n\n</｜DSML｜tool_calls>\n",
      false);
  EXPECT_EQ(content_text(message), "x");
  EXPECT_EQ((*message.tool_calls)[0]["function"]["arguments"].dump(), R"({"a":1})");
}

TEST(DeepSeekV4Reply, MalformedReasoningAndContentAreErrors) {
  EXPECT_EQ(error("I think", true),
            "the generated text is malformed: the reasoning does not end with </think> (cut off?)");
  EXPECT_THAT(error("a</think>b</think>c", true), HasSubstr("the answer: contains the text of the control token"));
  EXPECT_THAT(error("a<think>b</think>c", true), HasSubstr("the reasoning: contains"));
  EXPECT_THAT(error("a</think>b", false), HasSubstr("the answer: contains"));
  EXPECT_THAT(error("a<｜end▁of▁sentence｜>b"), HasSubstr("control token <｜end▁of▁sentence｜>"));
  EXPECT_THAT(error("a<｜User｜>b"), HasSubstr("control token <｜User｜>"));
  EXPECT_THAT(error("a\xff"), HasSubstr("not valid UTF-8 at byte 1"));
}

TEST(DeepSeekV4Reply, MalformedCallsAreErrors) {
  const auto calls = [](const std::string& inner) { return error("<｜DSML｜tool_calls>\n" + inner); };
  const std::string open = "<｜DSML｜invoke name=\"f\">\n", close = "\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>";
  const auto parameter = [&](const std::string& flag, const std::string& value) {
    return "<｜DSML｜parameter name=\"a\" string=\"" + flag + "\">" + value + "</｜DSML｜parameter>";
  };
  EXPECT_EQ(calls(open + parameter("true", "x") + close), "no error");
  EXPECT_THAT(calls(""), HasSubstr("tool call 1: expected <｜DSML｜invoke name=\", found the end of the text"));
  EXPECT_THAT(calls("</｜DSML｜tool_calls>"), HasSubstr("tool call 1: expected <｜DSML｜invoke"));
  EXPECT_THAT(calls(open + close + "more"), HasSubstr("text follows the tool calls: \"more\""));
  EXPECT_THAT(calls(open), HasSubstr("expected </｜DSML｜invoke>, found the end"));
  EXPECT_THAT(calls(open + "</｜DSML｜invoke>"), HasSubstr("expected <｜DSML｜invoke name=\", found the end"));
  EXPECT_THAT(calls("<｜DSML｜invoke name=\"f"), HasSubstr("\"> is missing behind \"f\""));
  EXPECT_THAT(calls("<｜DSML｜invoke name=\"\">" + close), HasSubstr("tool call 1: \"\" cannot be the name"));
  EXPECT_THAT(calls(open + "<｜DSML｜parameter name=\"a\">1</｜DSML｜parameter>" + close),
              HasSubstr("\" string=\" is missing"));
  EXPECT_THAT(calls(open + parameter("maybe", "1") + close), HasSubstr("string=\"maybe\" must be true or false"));
  EXPECT_THAT(calls(open + parameter("false", "{x") + close), HasSubstr("tool call 1: parameter \"a\":1:"));
  EXPECT_THAT(calls(open + parameter("true", "1") + parameter("true", "2") + close), HasSubstr("given twice"));
  EXPECT_THAT(calls(open + "<｜DSML｜parameter name=\"a\" string=\"true\">1" + close),
              HasSubstr("</｜DSML｜parameter> is missing"));
  EXPECT_THAT(calls(open + parameter("true", "<｜DSML｜invoke>") + close), HasSubstr("\"a\" holds another tag"));
  EXPECT_THAT(calls(open + parameter("true", "<｜User｜>") + close), HasSubstr("control token <｜User｜>"));
  EXPECT_THAT(calls(open + "text" + close), HasSubstr("expected </｜DSML｜invoke>, found \"text"));
  EXPECT_THAT(calls(open + parameter("false", "18446744073709551615") + close), HasSubstr("does not fit"));
  EXPECT_THAT(error("x <｜DSML｜tool_call>"), HasSubstr("control token ｜DSML｜"));
}

TEST(DeepSeekV4Reply, DamagedTextsNeverCrash) {
  const std::string text =
      said({message("user", "q"),
            calling(answer("why", "x"), {call("f", {{"a", "é"}, {"b", {1, 2}}}), call("g", Json::object())})},
           thinking_mode());
  std::size_t parsed = 0;
  const base::Random random(7, base::RandomPurpose::kTest);
  for (std::uint64_t i = 0; i < 4000; ++i) {
    std::string damaged = text.substr(0, i < text.size() ? i : text.size());
    for (std::uint64_t k = 0; i >= text.size() && k < 1 + i % 3; ++k) {
      const auto at = static_cast<std::size_t>(random.bits(i * 8 + k) % damaged.size());
      const auto from = static_cast<std::size_t>(random.bits(i * 8 + k + 4) % damaged.size());
      damaged[at] = damaged[from];
    }
    parsed += error(damaged, true) == "no error" ? 1 : 0;
  }
  EXPECT_GT(parsed, 0u);
  EXPECT_LT(parsed, 3000u);
}

}  // namespace
}  // namespace flyover::data::deepseek_v4
