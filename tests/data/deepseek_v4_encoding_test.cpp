// What DeepSeek-V4 reads: the expected texts are written out by hand from the published format's rules.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/deepseek_v4/encoding.h"
#include "deepseek_v4_conversations.h"

namespace flyover::data::deepseek_v4 {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(DeepSeekV4, ChatModeAnswersAtOnce) {
  EXPECT_EQ(encoded({message("user", "Hi")}, chat_mode(), true),
            "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜></think>");
  EXPECT_EQ(encoded({message("system", "Be brief."), message("user", "Hi\n"), message("assistant", "Hello é"),
                     message("user", "Bye"), message("assistant", "")},
                    chat_mode()),
            "<｜begin▁of▁sentence｜>Be brief.<｜User｜>Hi\n<｜Assistant｜></think>Hello é<｜end▁of▁sentence｜>"
            "<｜User｜>Bye<｜Assistant｜></think><｜end▁of▁sentence｜>");
  EXPECT_EQ(encoded({message("user", "2?"), answer("one and one", "2")}, chat_mode()),
            "<｜begin▁of▁sentence｜><｜User｜>2?<｜Assistant｜></think>2<｜end▁of▁sentence｜>");
}

TEST(DeepSeekV4, ThinkingModeReasonsFirst) {
  EXPECT_EQ(encoded({message("user", "Hi")}, thinking_mode(), true),
            "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜><think>");
  EXPECT_EQ(encoded({message("system", "S"), message("user", "2?"), answer("one and one", "2")}, thinking_mode()),
            "<｜begin▁of▁sentence｜>S<｜User｜>2?<｜Assistant｜><think>one and one</think>2<｜end▁of▁sentence｜>");
  EXPECT_EQ(encoded({message("user", "2?"), message("assistant", "2")}, thinking_mode()),
            "<｜begin▁of▁sentence｜><｜User｜>2?<｜Assistant｜><think></think>2<｜end▁of▁sentence｜>");
}

TEST(DeepSeekV4, OldReasoningIsDroppedWhenTheUserSpeaksAgain) {
  const List messages = {message("user", "a"), answer("why b", "b"), message("user", "c")};
  EXPECT_EQ(encoded(messages, thinking_mode(), true),
            "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜></think>b<｜end▁of▁sentence｜>"
            "<｜User｜>c<｜Assistant｜><think>");
  EXPECT_EQ(encoded({messages[0], messages[1], messages[2], answer("why d", "d")}, thinking_mode()),
            "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜></think>b<｜end▁of▁sentence｜>"
            "<｜User｜>c<｜Assistant｜><think>why d</think>d<｜end▁of▁sentence｜>");
}

TEST(DeepSeekV4, ReasoningStaysWhileOnlyToolsAnswer) {
  const Json first = calling(answer("look it up", ""), {call("now", Json::object())});
  const std::string calls =
      "\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"now\">\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>";
  EXPECT_EQ(encoded({message("user", "a"), first, result("12:00")}, thinking_mode(), true),
            "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜><think>look it up</think>" + calls +
                "<｜end▁of▁sentence｜><｜User｜><tool_result>12:00</tool_result><｜Assistant｜><think>");
  EXPECT_EQ(encoded({message("user", "a"), first, result("12:00"), answer("good", "Noon."), message("user", "b")},
                    thinking_mode(), true),
            "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜></think>" + calls +
                "<｜end▁of▁sentence｜><｜User｜><tool_result>12:00</tool_result><｜Assistant｜></think>Noon."
                "<｜end▁of▁sentence｜><｜User｜>b<｜Assistant｜><think>");
}

TEST(DeepSeekV4, AllReasoningStaysWhereThereAreTools) {
  const std::string tools =
      "\n\n## Tools\nThere are:\n{\"name\": \"now\", \"description\": \"Heure à Paris\", \"parameters\": {\"type\": "
      "\"object\"}}\n{\"name\": \"add\", \"parameters\": {}}\nThat is all.";
  EXPECT_EQ(encoded({message("system", "S"), message("user", "a"), answer("why b", "b"), message("user", "c"),
                     message("assistant", "d"), message("user", "e")},
                    thinking_mode(), true, kClock),
            "<｜begin▁of▁sentence｜>S" + tools +
                "<｜User｜>a<｜Assistant｜><think>why b</think>b<｜end▁of▁sentence｜>"
                "<｜User｜>c<｜Assistant｜><think></think>d<｜end▁of▁sentence｜><｜User｜>e<｜Assistant｜><think>");
  EXPECT_EQ(encoded({message("user", "a")}, chat_mode(), true, kClock),
            "<｜begin▁of▁sentence｜>" + tools + "<｜User｜>a<｜Assistant｜></think>");
}

TEST(DeepSeekV4, ToolsMayStandInTheSystemMessage) {
  Json system = message("system", "S");
  system["tools"] = kClock;
  EXPECT_EQ(encoded({system, message("user", "a")}, thinking_mode(), true),
            encoded({message("system", "S"), message("user", "a")}, thinking_mode(), true, kClock));
  EXPECT_THAT(error_of([&] {
                encoded({system, message("user", "a")}, chat_mode(), true, kClock);
              }),
              HasSubstr("message 1 (system): \"tools\" are given beside the messages too"));
}

TEST(DeepSeekV4, MaximumEffortIsATextBehindTheFirstToken) {
  Mode mode = thinking_mode();
  mode.maximum_effort = true;
  EXPECT_EQ(encoded({message("system", "S"), message("user", "a")}, mode, true),
            "<｜begin▁of▁sentence｜>Reasoning Effort: try hard.\n\nS<｜User｜>a<｜Assistant｜><think>");
}

TEST(DeepSeekV4, TheAnswersFormatFollowsSystemTextAndTools) {
  Mode mode;
  mode.response_format = std::make_shared<const Json>(Json::parse(R"({"type":"object","required":["n"]})"));
  const std::string format =
      "\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n"
      "{\"type\": \"object\", \"required\": [\"n\"]}";
  EXPECT_EQ(encoded({message("system", "S"), message("user", "a")}, mode, true),
            "<｜begin▁of▁sentence｜>S" + format + "<｜User｜>a<｜Assistant｜></think>");
  EXPECT_THAT(encoded({message("user", "a")}, mode, true, kClock),
              testing::StartsWith("<｜begin▁of▁sentence｜>\n\n## Tools\n"));
  EXPECT_THAT(encoded({message("user", "a")}, mode, true, kClock), HasSubstr("That is all." + format + "<｜User｜>a"));
  Json system = message("system", "S");
  system["response_format"] = "as a word";
  EXPECT_THAT(encoded({system, message("user", "a")}, chat_mode(), true), HasSubstr("to reply:\nas a word<｜User｜>"));
}

TEST(DeepSeekV4, ParallelCallsAndTheirParameters) {
  const List calls = {call("add", Json::parse(R"({"a": 1, "b": 2.5, "note": "1 < 2 & \"é\"", "list": [1, null],
                                                  "flags": {"x": true}, "digits": "17", "nothing": ""})")),
                      call("now", R"({"zone": "UTC"})")};
  EXPECT_EQ(encoded({message("user", "q"), calling(message("assistant", "Let me see."), calls)}, chat_mode()),
            "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜></think>Let me see.\n\n"
            "<｜DSML｜tool_calls>\n"
            "<｜DSML｜invoke name=\"add\">\n"
            "<｜DSML｜parameter name=\"a\" string=\"false\">1</｜DSML｜parameter>\n"
            "<｜DSML｜parameter name=\"b\" string=\"false\">2.5</｜DSML｜parameter>\n"
            "<｜DSML｜parameter name=\"note\" string=\"true\">1 < 2 & \"é\"</｜DSML｜parameter>\n"
            "<｜DSML｜parameter name=\"list\" string=\"false\">[1, null]</｜DSML｜parameter>\n"
            "<｜DSML｜parameter name=\"flags\" string=\"false\">{\"x\": true}</｜DSML｜parameter>\n"
            "<｜DSML｜parameter name=\"digits\" string=\"true\">17</｜DSML｜parameter>\n"
            "<｜DSML｜parameter name=\"nothing\" string=\"true\"></｜DSML｜parameter>\n"
            "</｜DSML｜invoke>\n"
            "<｜DSML｜invoke name=\"now\">\n"
            "<｜DSML｜parameter name=\"zone\" string=\"true\">UTC</｜DSML｜parameter>\n"
            "</｜DSML｜invoke>\n"
            "</｜DSML｜tool_calls><｜end▁of▁sentence｜>");
}

TEST(DeepSeekV4, ResultsAreOneUserTurnInTheOrderOfTheCalls) {
  const auto turn = [](const Json& first_id, const List& results) {
    List calls = {call("add", Json::object()), call("now", Json::object(), "two")};
    calls[0]["id"] = first_id;
    List messages = {message("user", "q"), calling(message("assistant", ""), calls)};
    messages.insert(messages.end(), results.begin(), results.end());
    const std::string text = encoded(messages, chat_mode(), true);
    return text.substr(text.rfind("<｜User｜>"));
  };
  const std::string expected =
      "<｜User｜><tool_result>A</tool_result>\n\n<tool_result>B</tool_result><｜Assistant｜></think>";
  EXPECT_EQ(turn("one", {result("B", "two"), result("A", "one")}), expected);
  EXPECT_EQ(turn("one", {result("A", "one"), result("B", "two")}), expected);
  EXPECT_EQ(turn("one", {result("A"), result("B")}), expected) << "without ids they are in order";
  EXPECT_EQ(turn("two", {result("A", "two"), result("B", "two")}), expected) << "equal ids are in order";
  EXPECT_EQ(turn("one", {result("B", "two"), result("A", "one"), message("user", "So?")}),
            "<｜User｜><tool_result>A</tool_result>\n\n<tool_result>B</tool_result>\n\nSo?<｜Assistant｜></think>");
}

TEST(DeepSeekV4, RemindersStandByThemselvesAndTextsOfAUserAreOneTurn) {
  EXPECT_EQ(
      encoded({message("user", "a"), message("user", "b"), message("latest_reminder", "It is Monday."),
               message("user", "c")},
              chat_mode(), true),
      "<｜begin▁of▁sentence｜><｜User｜>a\n\nb<｜latest_reminder｜>It is Monday.<｜User｜>c<｜Assistant｜></think>");
  const Json parts = {{"role", "user"},
                      {"content", {{{"type", "text"}, {"text", "a"}}, {{"type", "text"}, {"text", "b"}}}}};
  EXPECT_EQ(encoded({parts}, chat_mode()), "<｜begin▁of▁sentence｜><｜User｜>ab");
}

TEST(DeepSeekV4, TasksAreAskedByATokenBehindTheMessage) {
  Json asked = message("user", "a");
  for (const char* task : {"query", "authority", "domain", "title", "read_url"}) {
    asked["task"] = task;
    EXPECT_EQ(encoded({asked}, thinking_mode(), true),
              "<｜begin▁of▁sentence｜><｜User｜>a<｜" + std::string(task) + "｜>");
  }
  EXPECT_FALSE(expects_reasoning(conversation({asked}), thinking_mode()));
  EXPECT_TRUE(expects_reasoning(conversation({message("user", "a")}), thinking_mode()));
  EXPECT_FALSE(expects_reasoning(conversation({message("user", "a")}), chat_mode()));
  asked["task"] = "action";
  EXPECT_EQ(encoded({asked, message("assistant", "Search")}, thinking_mode()),
            "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜><think><｜action｜>Search<｜end▁of▁sentence｜>");
  EXPECT_EQ(encoded({asked, message("assistant", "Search")}, chat_mode()),
            "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜></think><｜action｜>Search<｜end▁of▁sentence｜>");
  Json titled = message("assistant", "b");
  titled["task"] = "title";
  EXPECT_EQ(encoded({message("user", "a"), titled, message("assistant", "A and b")}, chat_mode()),
            "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜></think>b<｜end▁of▁sentence｜><｜title｜>A and b"
            "<｜end▁of▁sentence｜>");
}

TEST(DeepSeekV4, MarksWhatTheModelSays) {
  const List calls = {call("now", Json::object())};
  const jinja::Rendered rendered =
      encode(conversation({message("system", "S"), message("user", "a"), calling(answer("why", "b"), calls),
                           result("12"), message("assistant", "c")}),
             true, thinking_mode(), made_up_texts());
  std::vector<std::string> said;
  for (const jinja::Span& span : rendered.generation) {
    said.push_back(rendered.text.substr(span.begin, span.end - span.begin));
  }
  EXPECT_THAT(said,
              ElementsAre("why</think>b\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"now\">\n</｜DSML｜invoke>\n"
                          "</｜DSML｜tool_calls><｜end▁of▁sentence｜>",
                          "</think>c<｜end▁of▁sentence｜>"));
}

}  // namespace
}  // namespace flyover::data::deepseek_v4
