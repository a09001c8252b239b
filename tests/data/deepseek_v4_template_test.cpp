// DeepSeek-V4's encoding as a chat template: what training learns, whose variables count, which ids the tokens have.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/files.h"
#include "data/chat_template.h"
#include "data/examples.h"
#include "data/protocol_strings.h"
#include "deepseek_v4_conversations.h"
#include "support/shared_data.h"
#include "tokenizer/edit.h"

namespace flyover::data::deepseek_v4 {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

ChatTemplate make_template(const Json& variables = nullptr) {
  ChatTemplate chat_template = ChatTemplate::built_in("deepseek_v4", {});
  chat_template.set_prompt_texts(made_up_texts());
  if (!variables.is_null()) {
    chat_template.set_variables(std::make_shared<const Json>(variables));
  }
  return chat_template;
}

const Json kThinking = {{"thinking", true}};

std::vector<std::string> said(const ChatTemplate& chat_template, const Conversation& given,
                              const TrainingOptions& options = {}) {
  const RenderedConversation rendered = chat_template.render_for_training(given, options);
  std::vector<std::string> texts;
  for (const AssistantSpan& span : rendered.spans) {
    texts.push_back(rendered.text.substr(span.begin, span.end - span.begin));
  }
  return texts;
}

TEST(DeepSeekV4Template, LearnsEveryTurnInChatMode) {
  EXPECT_THAT(
      said(make_template(), conversation({message("system", "S"), message("user", "a"), message("assistant", "b"),
                                          message("user", "c"), message("assistant", "d")})),
      ElementsAre("b<｜end▁of▁sentence｜>", "d<｜end▁of▁sentence｜>"));
}

TEST(DeepSeekV4Template, LearnsReasoningAndCallsOfAllTurnsThatKeepThem) {
  const Conversation given = conversation(
      {message("user", "a"), calling(answer("why", "b"), {call("f", {{"x", 1}})}), result("r"), answer("so", "c")});
  EXPECT_THAT(said(make_template(kThinking), given),
              ElementsAre("why</think>b\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n"
                          "<｜DSML｜parameter name=\"x\" string=\"false\">1</｜DSML｜parameter>\n</｜DSML｜invoke>\n"
                          "</｜DSML｜tool_calls><｜end▁of▁sentence｜>",
                          "so</think>c<｜end▁of▁sentence｜>"));
  EXPECT_THAT(
      said(make_template(kThinking),
           conversation({message("user", "a"), answer("why", "b"), message("user", "c"), answer("so", "d")}, kClock)),
      ElementsAre("why</think>b<｜end▁of▁sentence｜>", "so</think>d<｜end▁of▁sentence｜>"));
}

TEST(DeepSeekV4Template, RefusesToLearnATurnWhoseReasoningIsDropped) {
  Conversation given =
      conversation({message("user", "a"), answer("why", "b"), message("user", "c"), answer("so", "d")});
  EXPECT_THAT(error_of([&] { said(make_template(kThinking), given); }),
              AllOf(HasSubstr("deepseek_v4: message 2 (assistant)"), HasSubstr("train_on: last_assistant")));
  EXPECT_THAT(said(make_template(kThinking), given, {.last_turn_only = true}),
              ElementsAre("so</think>d<｜end▁of▁sentence｜>"));
  given.messages[1].train = false;
  EXPECT_THAT(said(make_template(kThinking), given), ElementsAre("so</think>d<｜end▁of▁sentence｜>"));
  // In chat mode the reasoning of a turn that is to be learnt would get lost.
  EXPECT_THAT(error_of([&] { said(make_template(), given); }),
              AllOf(HasSubstr("message 4 has reasoning to learn"), HasSubstr("thinking: true")));
  const Conversation same = conversation({message("user", "a"), answer("4", "4")});
  EXPECT_THAT(error_of([&] { said(make_template(), same); }), HasSubstr("message 2 has reasoning to learn"));
}

TEST(DeepSeekV4Template, LearnsAnswersToTasksAndTheTurnsBeforeThem) {
  Json titled = message("assistant", "b");
  titled["task"] = "title";
  EXPECT_THAT(said(make_template(), conversation({message("user", "a"), titled, message("assistant", "A and b")})),
              ElementsAre("b<｜end▁of▁sentence｜>", "A and b<｜end▁of▁sentence｜>"));
}

TEST(DeepSeekV4Template, ErrorsNameTemplateAndMessage) {
  EXPECT_THAT(error_of([] { make_template().render(conversation({message("critic", "x")}), true); }),
              testing::StartsWith("deepseek_v4: message 1 (critic): the format has no role \"critic\""));
}

TEST(DeepSeekV4Template, AConversationsOwnVariablesGoFirst) {
  Conversation given = conversation({message("user", "a")});
  EXPECT_THAT(make_template(kThinking).render(given, true), testing::EndsWith("<think>"));
  given.template_variables = std::make_shared<const Json>(Json{{"thinking", false}});
  EXPECT_THAT(make_template(kThinking).render(given, true), testing::EndsWith("</think>"));
  EXPECT_EQ(content_text(make_template(kThinking).parse_reply("x", given)), "x");
  given.template_variables = std::make_shared<const Json>(Json{{"reasoning_effort", "max"}});
  EXPECT_THAT(make_template(kThinking).render(given, true), HasSubstr("try hard"));
  EXPECT_EQ(make_template(kThinking).parse_reply("why</think>x", given).reasoning_content, "why");
  EXPECT_THAT(error_of([] { make_template({{"thinking", 1}}); }), HasSubstr("\"thinking\" must be"));
}

TEST(DeepSeekV4Template, ARowsVariablesComeThroughWhateverItsMessagesAreCalled) {
  for (const char* field : {"messages", "turns"}) {
    FieldNames names;
    names.messages = field;
    const Json row = {{field, {message("user", "a"), message("assistant", "b")}}, {"chat_template_kwargs", kThinking}};
    const Document document = parse_row(row, RowFormat::kMessages, names, "rows.jsonl:1");
    EXPECT_EQ(make_template().render(std::get<Conversation>(document), false),
              "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜><think></think>b<｜end▁of▁sentence｜>");
  }
}

TEST(DeepSeekV4Template, VariablesReachJinjaTemplatesToo) {
  ChatTemplate jinja("{{ thinking }}{{ messages[0].content }}", "t", {});
  Conversation given = conversation({message("user", "a")});
  jinja.set_variables(std::make_shared<const Json>(kThinking));
  EXPECT_EQ(jinja.render(given, true), "Truea");
  given.template_variables = std::make_shared<const Json>(Json{{"thinking", "no"}});
  EXPECT_EQ(jinja.render(given, true), "noa");
  EXPECT_EQ(content_text(jinja.parse_reply("a</think>b", given)), "a</think>b");
}

TEST(DeepSeekV4Template, IsRecognisedInAModelThatWasWrittenWithIt) {
  const tests::TemporaryDirectory directory;
  base::write_file_atomically(directory.path() / "chat_template.jinja", make_template().source());
  const auto found = ChatTemplate::from_model_directory(directory.path());
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->end_of_turn(), "<｜end▁of▁sentence｜>");
  EXPECT_EQ(found->render(conversation({message("user", "a")}), true),
            "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜></think>");
  // Programs that run the file as a template are told why they cannot.
  const auto elsewhere = jinja::Template::parse(make_template().source() + " ", "t");
  EXPECT_THAT(error_of([&] { elsewhere.render(Json::object()); }), HasSubstr("not a Jinja template"));
}

TEST(DeepSeekV4Template, TokensAreSingleIdsAndTheMaskEndsWithThem) {
  FLYOVER_SHARED_OR_SKIP(file, "tokenizers/deepseek_v3/tokenizer.json");
  const std::string published = base::read_file(file);
  const auto before = tokenizer::Tokenizer::parse(published, "tokenizer.json");
  const std::vector<std::string> tokens(kAllTokens.begin(), kAllTokens.end());
  const auto after =
      tokenizer::Tokenizer::parse(tokenizer::with_added_special_tokens(published, "tokenizer.json", tokens), "added");
  const auto id = [](const tokenizer::Tokenizer& tokenizer, std::string_view token) {
    const auto ids = tokenizer.encode(token);
    EXPECT_EQ(ids.size(), 1u) << token;
    EXPECT_EQ(tokenizer.token_to_id(token), ids.front()) << token;
    return ids.front();
  };
  // The tokens that V3's vocabulary has in common with V4's keep V3's published ids.
  for (const auto& [token, expected] :
       {std::pair(kBeginOfText, 0), {kEndOfTurn, 1}, {kUser, 128803}, {kAssistant, 128804}}) {
    EXPECT_EQ(id(before, token), expected);
    EXPECT_EQ(id(after, token), expected);
  }
  for (const std::string& token : tokens) {
    id(after, token);
  }
  const ChatTemplate chat_template = make_template(kThinking);
  ExampleBuilder builder(after, &chat_template, {});
  Dataset dataset;
  SourceReport report;
  builder.add(conversation({message("user", "a"), calling(answer("why", "b"), {call("f", Json::object())})}), "r:1", 0,
              1, dataset, report);
  const Sequence& sequence = dataset.sequences.at(0);
  EXPECT_EQ(sequence.tokens.front(), 0);
  EXPECT_EQ(sequence.tokens.back(), 1);
  EXPECT_EQ(sequence.trained.back(), 1);
  EXPECT_EQ(highlight_targets(sequence, after, false),
            "<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜><think>【why</think>b\n\n<｜DSML｜tool_calls>\n"
            "<｜DSML｜invoke name=\"f\">\n</｜DSML｜invoke>\n</｜DSML｜tool_calls><｜end▁of▁sentence｜>】");
  EXPECT_THAT(error_of([&] {
                builder.add(conversation({message("user", "a<｜DSML｜"), message("assistant", "b")}), "rows.jsonl:3", 0,
                            1, dataset, report);
              }),
              AllOf(testing::StartsWith("rows.jsonl:3: "), HasSubstr("user"), HasSubstr("control token")));
  EXPECT_THAT(error_of([&] {
                builder.add(conversation({message("user", "a"), result("b"), message("assistant", "c")}),
                            "rows.jsonl:4", 0, 1, dataset, report);
              }),
              AllOf(testing::StartsWith("rows.jsonl:4: "), HasSubstr("message 2 (tool): no tool call")));
}

}  // namespace
}  // namespace flyover::data::deepseek_v4
