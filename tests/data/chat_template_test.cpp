#include "data/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "data/conversations.h"
#include "support/shared_data.h"

namespace flyover::data {
namespace {

using base::Json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

const Json kTwoTurns = {message("system", "Be brief."), message("user", "Hi {{ x }}"), message("assistant", "Hello é"),
                        message("user", "Bye"), message("assistant", "")};

const Json kTools = Json::parse(R"([{"type": "function", "function": {"name": "now", "parameters": {}}}])");

Json tool_call(const std::string& name, const Json& arguments) {
  return {{"id", "1"}, {"type", "function"}, {"function", {{"name", name}, {"arguments", arguments}}}};
}

/// The texts of the spans.
std::vector<std::string> said(const RenderedConversation& rendered) {
  std::vector<std::string> texts;
  for (const AssistantSpan& span : rendered.spans) {
    texts.push_back(rendered.text.substr(span.begin, span.end - span.begin));
  }
  return texts;
}

std::vector<std::size_t> messages_of(const RenderedConversation& rendered) {
  std::vector<std::size_t> messages;
  for (const AssistantSpan& span : rendered.spans) {
    messages.push_back(span.message);
  }
  return messages;
}

template <typename Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const base::Error& error) {
    return error.what();
  }
  return "no error";
}

std::string training_error(const std::string& source, const Conversation& given, const TrainingOptions& options = {}) {
  return error_of([&] { ChatTemplate(source, "t", {{"eos_token", "</s>"}}).render_for_training(given, options); });
}

/// The simplest template that has everything: a header, the content, the end of the turn and a newline.
constexpr const char* kSimple =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}<assistant>"
    "{% endif %}";

TEST(ChatTemplate, ChatMlLooksAsPublished) {
  const ChatTemplate chatml = ChatTemplate::built_in("chatml", {});
  EXPECT_EQ(chatml.render(conversation(kTwoTurns), true),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi {{ x }}<|im_end|>\n"
            "<|im_start|>assistant\nHello é<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
            "<|im_start|>assistant\n<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(find_built_in_template("chatml").end_of_turn, "<|im_end|>");
  EXPECT_THAT(find_built_in_template("chatml").special_tokens, ElementsAre("<|im_start|>", "<|im_end|>"));
}

TEST(ChatTemplate, Llama3LooksAsPublished) {
  const ChatTemplate llama3 = ChatTemplate::built_in("llama3", {{"bos_token", "<|begin_of_text|>"}});
  EXPECT_EQ(llama3.render(conversation({message("user", " Hi \n"), message("assistant", "Yo")}), true),
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nYo<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n");
  EXPECT_THAT(error_of([&] { llama3.render(conversation(Json::array({message("user", "x")}), kTools), true); }),
              HasSubstr("no tools (use chatml)"));
}

TEST(ChatTemplate, TheDateIsTheOneThatIsSet) {
  ChatTemplate dated("{{ strftime_now('%d %b %Y %H:%M') }} {{ messages[0].content }}", "t", {});
  const Conversation given = conversation(Json::array({message("user", "Hi")}));
  EXPECT_THAT(error_of([&] { dated.render(given, true); }), HasSubstr("chat_template_date"));
  dated.set_now(1769817600);
  EXPECT_EQ(dated.render(given, true), "31 Jan 2026 00:00 Hi");
  EXPECT_EQ(dated.render(given, true, {.now = 0}), "01 Jan 1970 00:00 Hi") << "what a call says goes first";
  dated.set_now(std::nullopt);
  EXPECT_THAT(error_of([&] { dated.render(given, true); }), HasSubstr("strftime_now"));
}

TEST(ChatTemplate, PlainEndsTurnsWithTheModelsOwnEosToken) {
  const ChatTemplate plain = ChatTemplate::built_in("plain", {{"eos_token", "</s>"}});
  EXPECT_EQ(plain.render(conversation(kTwoTurns), true),
            "System:\nBe brief.\n\nUser:\nHi {{ x }}\n\nAssistant:\nHello é</s>\n\nUser:\nBye\n\nAssistant:\n</s>\n\n"
            "Assistant:\n");
  EXPECT_THAT(said(plain.render_for_training(conversation(kTwoTurns))), ElementsAre("Hello é</s>", "</s>"));
  EXPECT_THAT(error_of([] { ChatTemplate::built_in("plain", {}); }), HasSubstr("eos_token"));
}

TEST(ChatTemplate, AnUnknownBuiltInNamesTheKnownOnes) {
  EXPECT_THAT(error_of([] { ChatTemplate::built_in("chatmll", {}); }),
              AllOf(HasSubstr("did you mean \"chatml\"?"), HasSubstr("llama3"), HasSubstr("plain")));
}

TEST(ChatTemplate, BuiltInsTrainTheContentAndItsEndOfTurnOnly) {
  const RenderedConversation chatml = ChatTemplate::built_in("chatml", {}).render_for_training(conversation(kTwoTurns));
  EXPECT_THAT(said(chatml), ElementsAre("Hello é<|im_end|>", "<|im_end|>"));
  EXPECT_THAT(messages_of(chatml), ElementsAre(2, 4));
  const RenderedConversation llama3 = ChatTemplate::built_in("llama3", {}).render_for_training(conversation(kTwoTurns));
  EXPECT_THAT(said(llama3), ElementsAre("Hello é<|eot_id|>", "<|eot_id|>"));
}

TEST(ChatTemplate, ChatMlTrainsReasoningToolCallsAndWhatFollowsToolResults) {
  Json calls = message("assistant", "Let me see.");
  calls["reasoning_content"] = "A tool helps.";
  calls["tool_calls"] = {tool_call("now", Json::object()), tool_call("now", R"({"zone": "UTC"})")};
  Json result = message("tool", "12:00");
  result["tool_call_id"] = "1";
  const RenderedConversation rendered =
      ChatTemplate::built_in("chatml", {})
          .render_for_training(conversation(
              {message("system", "S"), message("user", "Time?"), calls, result, message("assistant", "Noon.")},
              kTools));
  EXPECT_THAT(
      said(rendered),
      ElementsAre("<think>\nA tool helps.\n</think>\n\nLet me see.\n"
                  "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>\n"
                  "<tool_call>\n{\"name\": \"now\", \"arguments\": {\"zone\": \"UTC\"}}\n</tool_call><|im_end|>",
                  "Noon.<|im_end|>"));
  EXPECT_THAT(rendered.text, HasSubstr("<|im_start|>tool\n<tool_response>\n12:00\n</tool_response><|im_end|>\n"));
  EXPECT_THAT(rendered.text, testing::StartsWith("<|im_start|>system\nS\n\nThese functions"));
  EXPECT_THAT(rendered.text, HasSubstr("\n{\"type\": \"function\", \"function\": {\"name\": \"now\""));
}

TEST(ChatTemplate, WhatTheBuiltInsCannotShowIsRefusedAndNotDropped) {
  Json image = {{"role", "user"}, {"content", {{{"type", "image"}, {"url", "x"}}}}};
  EXPECT_THAT(error_of([&] { ChatTemplate::built_in("chatml", {}).render(conversation(Json::array({image})), true); }),
              HasSubstr("text parts only"));
  Json reasoning = message("assistant", "x");
  reasoning["reasoning_content"] = "y";
  EXPECT_THAT(
      error_of([&] { ChatTemplate::built_in("llama3", {}).render(conversation(Json::array({reasoning})), true); }),
      HasSubstr("no reasoning"));
  Json parts = {{"role", "user"}, {"content", {{{"type", "text"}, {"text", "a"}}, {{"type", "text"}, {"text", "b"}}}}};
  EXPECT_THAT(ChatTemplate::built_in("chatml", {}).render(conversation(Json::array({parts})), false),
              HasSubstr("user\nab<|im_end|>"));
}

TEST(TrainingSpans, AnyEndOfTurnInTheContentItselfIsPartOfWhatIsSaid) {
  const RenderedConversation rendered =
      ChatTemplate(kSimple, "t", {{"eos_token", "</s>"}})
          .render_for_training(conversation({message("user", "a"), message("assistant", "x</s>y  ")}));
  EXPECT_THAT(said(rendered), ElementsAre("x</s>y  </s>"));
}

TEST(TrainingSpans, MessagesThatAreNotToBeTrainedHaveNone) {
  Json messages = kTwoTurns;
  messages[2]["train"] = false;
  const ChatTemplate simple(kSimple, "t", {{"eos_token", "</s>"}});
  EXPECT_THAT(messages_of(simple.render_for_training(conversation(messages))), ElementsAre(4));
  EXPECT_THAT(simple.render(conversation(messages), false), testing::Not(HasSubstr("train")));
  messages[4]["train"] = false;
  EXPECT_THAT(training_error(kSimple, conversation(messages)), HasSubstr("nothing to learn"));
  messages[1]["train"] = true;
  EXPECT_THAT(training_error(kSimple, conversation(messages)), HasSubstr("message 2 is to be trained"));
  EXPECT_THAT(messages_of(simple.render_for_training(conversation(kTwoTurns), {.last_turn_only = true})),
              ElementsAre(4));
}

TEST(TrainingSpans, AConversationWithoutAnAssistantIsAnError) {
  EXPECT_THAT(training_error(kSimple, conversation(Json::array({message("user", "x")}))),
              HasSubstr("nothing to learn"));
  EXPECT_THAT(training_error(kSimple, conversation(Json::array())), HasSubstr("nothing to learn"));
}

TEST(TrainingSpans, ATurnWithoutItsEndOfTurnIsAnError) {
  const char* without =
      "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
      "{% if add_generation_prompt %}<assistant>{% endif %}";
  EXPECT_THAT(
      training_error(without, conversation(kTwoTurns)),
      AllOf(HasSubstr("t: message 3 (assistant)"), HasSubstr("does not end with \"</s>\""), HasSubstr("\"Hello é\"")));
  EXPECT_THAT(training_error(kSimple, conversation(kTwoTurns), {.end_of_turn = {"<|end|>"}}),
              HasSubstr("does not end with \"<|end|>\""));
  EXPECT_THAT(error_of([&] { ChatTemplate(kSimple, "t", {}).render_for_training(conversation(kTwoTurns)); }),
              HasSubstr("is not known"));
}

TEST(TrainingSpans, OneOfSeveralEndOfTurnTokensSuffices) {
  const ChatTemplate simple(kSimple, "t", {});
  EXPECT_THAT(said(simple.render_for_training(conversation(kTwoTurns), {.end_of_turn = {"<|end|>", "</s>"}})),
              ElementsAre("Hello é</s>", "</s>"));
}

TEST(TrainingSpans, ATemplateThatRewritesHistoryIsAnErrorUnlessOnlyTheLastTurnIsLearnt) {
  const char* rewriting =
      "{% for m in messages %}<{{ m.role }}>{% if loop.last %}{{ m.content }}{% else %}"
      "{{ m.content.split('</think>')[-1] }}{% endif %}</s>\n{% endfor %}{% if add_generation_prompt %}<assistant>"
      "{% endif %}";
  const Conversation given = conversation({message("user", "a"), message("assistant", "<think>b</think>c"),
                                           message("user", "d"), message("assistant", "<think>e</think>f")});
  EXPECT_THAT(training_error(rewriting, given), AllOf(HasSubstr("t: message 2 (assistant)"), HasSubstr("<think>b"),
                                                      HasSubstr("train_on: last_assistant")));
  const ChatTemplate chat_template(rewriting, "t", {{"eos_token", "</s>"}});
  const RenderedConversation rendered = chat_template.render_for_training(given, {.last_turn_only = true});
  EXPECT_THAT(said(rendered), ElementsAre("<think>e</think>f</s>"));
  EXPECT_THAT(messages_of(rendered), ElementsAre(3));
}

TEST(TrainingSpans, APromptThatIsNotTheStartOfTheTurnIsAnError) {
  const char* prompting =
      "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
      "{% if add_generation_prompt %}<assistant><think>{% endif %}";
  EXPECT_THAT(training_error(prompting, conversation({message("user", "a"), message("assistant", "b")})),
              AllOf(HasSubstr("message 2 (assistant)"), HasSubstr("<assistant><think>"), HasSubstr("<assistant>b")));
}

TEST(TrainingSpans, ATemplateThatIgnoresTheAssistantOrEverybodyElseIsAnError) {
  EXPECT_THAT(
      training_error("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", conversation(kTwoTurns)),
      HasSubstr("does not end with"));
  EXPECT_THAT(
      training_error("{% for m in messages if m.role == 'assistant' %}{{ m.content }}</s>\n{% endfor %}",
                     conversation({message("user", "a"), message("assistant", "b")})),
      HasSubstr("marks the whole text as said by the assistant, so that nothing is left to answer to: \"b</s>\\n\""));
}

TEST(TrainingSpans, ATemplateThatRefusesTheBeginningNamesTheMessage) {
  const char* refusing = "{{ messages[0].role }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}";
  EXPECT_THAT(training_error(refusing, conversation({message("assistant", "b"), message("user", "a")})),
              AllOf(HasSubstr("message 1 (assistant)"), HasSubstr("the template refuses")));
}

TEST(TrainingSpans, GenerationBlocksDecideWhereThereAreAny) {
  const char* marked =
      "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>\n"
      "{% endgeneration %}{% else %}{{ m.content }}</s>\n{% endif %}{% endfor %}";
  const RenderedConversation rendered =
      ChatTemplate(marked, "t", {{"eos_token", "</s>"}}).render_for_training(conversation(kTwoTurns));
  EXPECT_THAT(said(rendered), ElementsAre("Hello é</s>", "</s>"));
  EXPECT_THAT(messages_of(rendered), ElementsAre(2, 4));
}

TEST(TrainingSpans, AnEndOfTurnRightBehindAGenerationBlockIsLearntToo) {
  const char* marked =
      "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
      "{% endgeneration %}{% else %}{{ m.content }}{% endif %}</s>\n{% endfor %}";
  Json messages = {message("user", "a"), message("assistant", "b"), message("user", "c"), message("assistant", "d")};
  const ChatTemplate chat_template(marked, "t", {{"eos_token", "</s>"}});
  EXPECT_THAT(said(chat_template.render_for_training(conversation(messages))), ElementsAre("b</s>", "d</s>"));
  EXPECT_THAT(messages_of(chat_template.render_for_training(conversation(messages), {.last_turn_only = true})),
              ElementsAre(3));
  messages[1]["train"] = false;
  EXPECT_THAT(messages_of(chat_template.render_for_training(conversation(messages))), ElementsAre(3));
  EXPECT_THAT(training_error(marked, conversation({message("user", "a"), message("assistant", "")})),
              HasSubstr("mark nothing of it"));
}

TEST(TrainingSpans, SeveralGenerationBlocksOfOneMessageBelongToIt) {
  const char* marked =
      "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.reasoning_content }}{% endgeneration "
      "%}"
      "|{% generation %}{{ m.content }}</s>{% endgeneration %}{% else %}<u>{{ m.content }}{% endif %}{% endfor %}";
  Json first = message("assistant", "b");
  first["reasoning_content"] = "why";
  const RenderedConversation rendered =
      ChatTemplate(marked, "t", {{"eos_token", "</s>"}})
          .render_for_training(
              conversation({message("user", "a"), first, message("user", "c"), message("assistant", "d")}));
  EXPECT_THAT(said(rendered), ElementsAre("why", "b</s>", "d</s>"));
  EXPECT_THAT(messages_of(rendered), ElementsAre(1, 1, 3));
}

TEST(TrainingSpans, RealTemplatesGiveContentAndEndOfTurn) {
  FLYOVER_SHARED_OR_SKIP(templates, "tokenizers/llama.cpp/templates");
  const auto spans = [&](const std::string& file, const std::string& end_of_turn) {
    const std::filesystem::path path = templates / file;
    return said(ChatTemplate(base::read_file(path), path.string(), {{"bos_token", "<s>"}})
                    .render_for_training(conversation(kTwoTurns), {.end_of_turn = {end_of_turn}}));
  };
  EXPECT_THAT(spans("Qwen-Qwen2.5-7B-Instruct.jinja", "<|im_end|>"), ElementsAre("Hello é<|im_end|>", "<|im_end|>"));
  EXPECT_THAT(spans("meta-llama-Llama-3.1-8B-Instruct.jinja", "<|eot_id|>"),
              ElementsAre("Hello é<|eot_id|>", "<|eot_id|>"));
  // The distilled R1 opens <think> in its prompt but shows turns without it.
  EXPECT_THAT(error_of([&] { spans("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja", "<｜end▁of▁sentence｜>"); }),
              HasSubstr("the prompt is"));
}

TEST(TrainingSpans, RealModelDirectoriesGiveContentAndEndOfTurn) {
  FLYOVER_SHARED_OR_SKIP(directory, "tokenizers");
  const auto deepseek = ChatTemplate::from_model_directory(directory / "deepseek_v3");
  ASSERT_TRUE(deepseek.has_value());
  const RenderedConversation rendered = deepseek->render_for_training(conversation(kTwoTurns));
  EXPECT_THAT(said(rendered), ElementsAre("Hello é<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"));
  EXPECT_THAT(rendered.text,
              testing::StartsWith("<｜begin▁of▁sentence｜>Be brief.<｜User｜>Hi {{ x }}<｜Assistant｜>"));

  const auto qwen3 = ChatTemplate::from_model_directory(directory / "qwen3");
  ASSERT_TRUE(qwen3.has_value());
  EXPECT_EQ(qwen3->end_of_turn(), "<|im_end|>");
  EXPECT_THAT(error_of([&] { qwen3->render_for_training(conversation(kTwoTurns)); }),
              AllOf(HasSubstr("message 3"), HasSubstr("train_on: last_assistant")));
  Json last = message("assistant", "4");
  last["reasoning_content"] = "2 + 2";
  EXPECT_THAT(said(qwen3->render_for_training(conversation({message("user", "2 + 2?"), last}))),
              ElementsAre("<think>\n2 + 2\n</think>\n\n4<|im_end|>"));

  const auto minimind = ChatTemplate::from_model_directory(directory / "minimind");
  ASSERT_TRUE(minimind.has_value());
  Conversation given = conversation({message("user", "2 + 2?"), last});
  EXPECT_THAT(error_of([&] { minimind->render_for_training(given); }), HasSubstr("chat_template_kwargs"));
  given.template_variables = std::make_shared<const Json>(Json{{"open_thinking", true}});
  EXPECT_THAT(said(minimind->render_for_training(given)), ElementsAre("2 + 2\n</think>\n\n4<|im_end|>"));
  EXPECT_FALSE(ChatTemplate::from_model_directory(directory / "gpt2").has_value());
}

TEST(ModelDirectory, TheTemplateFileWinsOverTheConfiguration) {
  const tests::TemporaryDirectory directory;
  EXPECT_FALSE(ChatTemplate::from_model_directory(directory.path()).has_value());
  base::write_file_atomically(directory.path() / "tokenizer_config.json",
                              R"({"chat_template": "config {{ bos_token }}{{ eos_token }}{{ pad_token }}|",
                                  "bos_token": {"content": "<b>", "lstrip": false}, "eos_token": null})");
  base::write_file_atomically(directory.path() / "special_tokens_map.json",
                              R"({"bos_token": "<other>", "eos_token": {"content": "<e>"}})");
  const Conversation none = conversation(Json::array());
  EXPECT_EQ(ChatTemplate::from_model_directory(directory.path())->render(none, false), "config <b><e>|");
  base::write_file_atomically(directory.path() / "chat_template.jinja", "file {{ bos_token }}");
  const auto from_file = ChatTemplate::from_model_directory(directory.path());
  EXPECT_EQ(from_file->render(none, false), "file <b>");
  EXPECT_EQ(from_file->source(), "file {{ bos_token }}");
  EXPECT_EQ(from_file->end_of_turn(), "<e>");
}

TEST(ModelDirectory, AListOfTemplatesHasADefaultAndOneForTools) {
  const tests::TemporaryDirectory directory;
  const auto path = directory.path() / "tokenizer_config.json";
  base::write_file_atomically(path, R"({"chat_template": [{"name": "default", "template": "plain"},
                                                          {"name": "tool_use", "template": "{{ tools | length }}"}]})");
  const auto chat_template = ChatTemplate::from_model_directory(directory.path());
  EXPECT_EQ(chat_template->render(conversation(Json::array()), false), "plain");
  EXPECT_EQ(chat_template->render(conversation(Json::array(), kTools), false), "1");
  base::write_file_atomically(path, R"({"chat_template": [{"name": "rag", "template": "plain"}]})");
  EXPECT_THAT(error_of([&] { ChatTemplate::from_model_directory(directory.path()); }), HasSubstr("\"default\""));
  base::write_file_atomically(path, R"({"chat_template": 3})");
  EXPECT_THAT(error_of([&] { ChatTemplate::from_model_directory(directory.path()); }),
              HasSubstr("must be a string or a list"));
  base::write_file_atomically(path, R"({"chat_template": "a\n{% if %}"})");
  EXPECT_THAT(error_of([&] { ChatTemplate::from_model_directory(directory.path()); }),
              HasSubstr("tokenizer_config.json:2: "));
}

TEST(Message, KeysComeThroughAsGiven) {
  const Json given = Json::parse(R"({"role": "assistant", "content": null, "reasoning_content": "r", "name": "n",
                                     "tool_calls": [{"x": 1}], "tool_call_id": "i", "score": 0.5, "train": true})");
  const Message message = message_from_json(given, "rows.jsonl:3");
  EXPECT_EQ(message.train, true);
  EXPECT_EQ(content_text(message), std::nullopt);
  EXPECT_EQ(message_for_template(message).dump(),
            R"({"role":"assistant","content":null,"tool_calls":[{"x":1}],"tool_call_id":"i","name":"n","score":0.5,)"
            R"("reasoning_content":"r","thinking":"r"})");
  EXPECT_EQ(message_for_template(message_from_json({{"role", "user"}, {"tool_calls", nullptr}}, "s")).dump(),
            R"({"role":"user"})");
  EXPECT_EQ(content_text(text_message("user", "é")), "é");
}

TEST(Message, WrongKeysAreNamed) {
  const auto error = [](const char* text) {
    return error_of([&] { conversation_from_json(Json::parse(text), "rows.jsonl:7"); });
  };
  EXPECT_THAT(error("{}"), HasSubstr("rows.jsonl:7: the key \"messages\" is missing"));
  EXPECT_THAT(error(R"({"messages": [{"role": "user", "content": ""}, {"content": ""}]})"),
              HasSubstr("rows.jsonl:7: message 2: the key \"role\" is missing"));
  EXPECT_THAT(error(R"({"messages": ["x"]})"), HasSubstr("message 1: expected an object"));
  EXPECT_THAT(error(R"({"messages": [{"role": "user", "content": 3}]})"), HasSubstr("\"content\" must be"));
  EXPECT_THAT(error(R"({"messages": [{"role": "user", "tool_calls": {}}]})"), HasSubstr("\"tool_calls\" must be"));
  EXPECT_THAT(error(R"({"messages": [{"role": "user", "train": "yes"}]})"), HasSubstr("\"train\" must be"));
  EXPECT_THAT(error(R"({"messages": [], "tools": "x"})"), HasSubstr("\"tools\" must be a list"));
  EXPECT_THAT(error(R"({"messages": [], "chat_template_kwargs": []})"), HasSubstr("must be an object"));
}

TEST(Message, ToolArgumentsInTextBecomeObjects) {
  Json calls = message("assistant", "");
  calls["tool_calls"] = {tool_call("a", R"({"x": [1, 2]})"), tool_call("b", {{"y", 2}})};
  const Conversation parsed = with_parsed_tool_arguments(conversation({message("user", "q"), calls}));
  const Json& after = *parsed.messages[1].tool_calls;
  EXPECT_EQ(after[0]["function"]["arguments"].dump(), R"({"x":[1,2]})");
  EXPECT_EQ(after[1]["function"]["arguments"].dump(), R"({"y":2})");
  calls["tool_calls"][0]["function"]["arguments"] = "{x";
  EXPECT_THAT(error_of([&] {
                with_parsed_tool_arguments(conversation({message("user", "q"), calls}));
              }),
              HasSubstr("message 2"));
}

}  // namespace
}  // namespace flyover::data
