// Conversations to the text that a model reads, and which bytes of it the assistant says: what training learns.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/deepseek_v4/prompt_settings.h"
#include "data/jinja/template.h"
#include "data/message.h"

namespace flyover::data {

/// "bos_token" -> "<s>", ...: what templates see under these names.
using SpecialTokens = std::map<std::string, std::string>;

/// Adds those that a tokenizer_config.json or special_tokens_map.json names, where `tokens` has none of the name.
/// `source` names the file.
void add_special_tokens(const base::Json& config, const std::string& source, SpecialTokens& tokens);

/// A template for models that have none. The source of deepseek_v4 is a stand-in that refuses to render: its format is
/// code (data/deepseek_v4), which ChatTemplate runs wherever it finds this source.
struct BuiltInTemplate {
  std::string_view name;
  std::string_view source;
  std::string_view end_of_turn;                  ///< empty: the model's eos_token
  std::vector<std::string_view> special_tokens;  ///< that the tokenizer needs, added where it lacks them
};
std::span<const BuiltInTemplate> built_in_templates();
/// "chatml, deepseek_v4, ...", for messages.
std::string built_in_template_names();
/// Throws Error naming the known ones.
const BuiltInTemplate& find_built_in_template(std::string_view name);

/// Bytes [begin, end) of the text are said by the assistant in messages[message], with the end-of-turn token.
struct AssistantSpan {
  std::size_t message = 0;
  std::size_t begin = 0;
  std::size_t end = 0;
  friend bool operator==(const AssistantSpan&, const AssistantSpan&) = default;
};

struct RenderedConversation {
  std::string text;
  std::vector<AssistantSpan> spans;  ///< in order, not empty, without overlaps
};

struct TrainingOptions {
  /// The tokens that end an assistant's turn. If empty: what the template itself states, else eos_token.
  std::vector<std::string> end_of_turn = {};
  /// Learn the last assistant message only: for templates that rewrite earlier turns.
  bool last_turn_only = false;
  jinja::RenderOptions render = {};
};

class ChatTemplate {
 public:
  /// Throws Error if the template is not valid; `name` is for messages.
  ChatTemplate(std::string source, std::string name, SpecialTokens special_tokens);

  /// The template of a Hugging Face model directory: chat_template.jinja (and
  /// additional_chat_templates/tool_use.jinja), or "chat_template" in tokenizer_config.json (text, or a list with
  /// "default" and "tool_use"), with the special tokens of tokenizer_config.json and special_tokens_map.json. Nothing
  /// if the model has none.
  static std::optional<ChatTemplate> from_model_directory(const std::filesystem::path& directory);

  /// Throws Error for an unknown name, and where the template needs an eos_token and there is none.
  static ChatTemplate built_in(std::string_view name, SpecialTokens special_tokens);

  /// Throws Error for what the template refuses.
  std::string render(const Conversation& conversation, bool add_generation_prompt,
                     jinja::RenderOptions options = {}) const;

  /// The text and the spans that the assistant says (messages with train = false have none): the content with the
  /// end-of-turn token, without the header before it and the white space behind it. From the template's `generation`
  /// blocks if it has them; otherwise the span of message i is what rendering messages[0..i] adds to the generation
  /// prompt of messages[0..i-1]. Throws Error naming the message where that does not hold (a template that rewrites
  /// history), where a turn lacks its end-of-turn token, and where nothing or everything would be learnt.
  RenderedConversation render_for_training(const Conversation& conversation, const TrainingOptions& options = {}) const;

  /// What a model says to render(prompt, true), with or without the end-of-turn token, as a message. A Jinja template
  /// does not say what its parts are: all of it is content. Throws Error saying what is malformed.
  Message parse_reply(const std::string& text, const Conversation& prompt) const;

  /// Values of the template's variables (an object, or null) where a conversation's own `chat_template_kwargs` do not
  /// give them. Throws Error for values that the template is known to refuse.
  void set_variables(JsonPointer variables);

  /// The token that ends the assistant's turn, which templates see as eos_token.
  void set_end_of_turn(std::string token);

  /// Texts that the built-in deepseek_v4 does not carry.
  void set_prompt_texts(deepseek_v4::PromptTexts texts) { prompt_texts_ = std::move(texts); }

  /// What strftime_now shows: seconds since 1970, as UTC. Nothing: a template that asks for the date is refused.
  void set_now(std::optional<std::int64_t> now) { now_ = now; }

  const std::string& source() const { return template_.source(); }
  const std::string& name() const { return template_.name(); }
  const SpecialTokens& special_tokens() const { return special_tokens_; }
  /// What a turn ends with if the caller does not say; empty if unknown.
  const std::string& end_of_turn() const { return end_of_turn_; }

 private:
  const jinja::Template& template_for(const Conversation& conversation) const;
  base::Json variables_for(const Conversation& conversation) const;
  jinja::Rendered render_text(const Conversation& conversation, bool add_generation_prompt,
                              jinja::RenderOptions options) const;

  jinja::Template template_;
  bool is_deepseek_v4_;                           ///< the source stands for code
  std::optional<jinja::Template> tool_template_;  ///< for conversations with tools
  SpecialTokens special_tokens_;
  std::string end_of_turn_;
  std::optional<std::int64_t> now_;
  JsonPointer variables_;
  deepseek_v4::PromptTexts prompt_texts_;
};

}  // namespace flyover::data
