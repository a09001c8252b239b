// Finding and rendering chat templates; the spans that training learns are in training_spans.cpp.
#include "data/chat_template.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "data/deepseek_v4/encoding.h"
#include "data/deepseek_v4/reply.h"
#include "data/protocol_strings.h"
#include "data/training_spans.h"

namespace flyover::data {
namespace {

using base::Json;

/// The text of a special token: a string or an AddedToken object; nothing for null and other keys.
std::optional<std::string> token_text(const Json& value) {
  if (value.is_string()) {
    return value.get<std::string>();
  }
  if (value.is_object() && value.contains("content") && value["content"].is_string()) {
    return value["content"].get<std::string>();
  }
  return std::nullopt;
}

void add_special_tokens_of(const std::filesystem::path& path, SpecialTokens& tokens) {
  if (std::filesystem::exists(path)) {
    add_special_tokens(base::read_json_file(path), path.string(), tokens);
  }
}

/// The templates of a model by name: "default", "tool_use".
using Sources = std::map<std::string, std::string>;

Sources sources_in_config(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) {
    return {};
  }
  const Json config = base::read_json_file(path);
  const Json* value = base::find_member(config, "chat_template", path.string());
  if (value == nullptr) {
    return {};
  }
  if (value->is_string()) {
    return {{"default", value->get<std::string>()}};
  }
  base::require(value->is_array(), "{}: \"chat_template\" must be a string or a list, found {}", path.string(),
                base::json_type_name(*value));
  Sources sources;
  for (const Json& entry : *value) {
    sources.emplace(base::get_string(entry, "name", path.string()), base::get_string(entry, "template", path.string()));
  }
  base::require(sources.contains("default"), "{}: \"chat_template\" is a list without a template named \"default\"",
                path.string());
  return sources;
}

Json variables_of(const Conversation& conversation, const SpecialTokens& tokens, bool add_generation_prompt,
                  const Json& further) {
  Json variables = Json::object();
  for (const auto& [name, text] : tokens) {
    variables[name] = text;
  }
  Json& messages = variables["messages"] = Json::array();
  for (const Message& message : conversation.messages) {
    messages.push_back(message_for_template(message));
  }
  variables["tools"] = conversation.tools != nullptr ? *conversation.tools : Json(nullptr);
  variables["documents"] = nullptr;
  variables["add_generation_prompt"] = add_generation_prompt;
  variables.update(further);
  return variables;
}

/// What is to be learnt and the text leaves out is an error: it shows that the mode is the wrong one.
void require_reasoning_shown(std::span<const Message> messages, const RenderedConversation& rendered) {
  for (const AssistantSpan& span : rendered.spans) {
    const std::string reasoning = base::get_string(message_for_template(messages[span.message]), "reasoning_content",
                                                   "the message to be learnt", "");
    const std::string_view said = std::string_view(rendered.text).substr(span.begin, span.end - span.begin);
    base::require(
        reasoning.empty() || said.starts_with(reasoning + std::string(deepseek_v4::kEndOfReasoning)),
        "deepseek_v4: message {} has reasoning to learn, which this mode does not show: set chat_template_kwargs: "
        "{{thinking: true}}, or remove the reasoning",
        span.message + 1);
  }
}

}  // namespace

void add_special_tokens(const Json& config, const std::string& source, SpecialTokens& tokens) {
  base::require(config.is_object(), "{}: expected an object, found {}", source, base::json_type_name(config));
  for (const auto& [key, value] : config.items()) {
    const std::optional<std::string> text = token_text(value);
    if (text && key.ends_with("_token")) {
      tokens.try_emplace(key, *text);
    }
  }
}

ChatTemplate::ChatTemplate(std::string source, std::string name, SpecialTokens special_tokens)
    : template_(jinja::Template::parse(std::move(source), std::move(name))),
      is_deepseek_v4_(template_.source() == find_built_in_template("deepseek_v4").source),
      special_tokens_(std::move(special_tokens)) {
  if (const auto eos = special_tokens_.find("eos_token"); eos != special_tokens_.end()) {
    end_of_turn_ = eos->second;
  }
  if (is_deepseek_v4_) {
    end_of_turn_ = find_built_in_template("deepseek_v4").end_of_turn;
  }
}

std::optional<ChatTemplate> ChatTemplate::from_model_directory(const std::filesystem::path& directory) {
  std::filesystem::path path = directory / "chat_template.jinja";
  Sources sources;
  if (std::filesystem::exists(path)) {
    sources["default"] = base::read_file(path);
    const std::filesystem::path tool_use = directory / "additional_chat_templates" / "tool_use.jinja";
    if (std::filesystem::exists(tool_use)) {
      sources["tool_use"] = base::read_file(tool_use);
    }
  } else {
    path = directory / "tokenizer_config.json";
    sources = sources_in_config(path);
  }
  if (sources.empty()) {
    return std::nullopt;
  }
  SpecialTokens tokens;
  add_special_tokens_of(directory / "tokenizer_config.json", tokens);
  add_special_tokens_of(directory / "special_tokens_map.json", tokens);
  ChatTemplate chat_template(sources["default"], path.string(), std::move(tokens));
  if (sources.contains("tool_use")) {
    chat_template.tool_template_ = jinja::Template::parse(sources["tool_use"], path.string() + " (tool_use)");
  }
  return chat_template;
}

ChatTemplate ChatTemplate::built_in(std::string_view name, SpecialTokens special_tokens) {
  const BuiltInTemplate& built_in = find_built_in_template(name);
  const bool has_eos = special_tokens.contains("eos_token") && !special_tokens["eos_token"].empty();
  base::require(
      !built_in.end_of_turn.empty() || has_eos,
      "the built-in chat template \"{}\" ends turns with the eos_token, which this model's tokenizer does not "
      "name: use another template, or name an eos_token in tokenizer_config.json",
      name);
  ChatTemplate chat_template(std::string(built_in.source), std::string(name), std::move(special_tokens));
  if (!built_in.end_of_turn.empty()) {
    chat_template.end_of_turn_ = built_in.end_of_turn;
  }
  return chat_template;
}

const jinja::Template& ChatTemplate::template_for(const Conversation& conversation) const {
  return conversation.tools != nullptr && tool_template_ ? *tool_template_ : template_;
}

Json ChatTemplate::variables_for(const Conversation& conversation) const {
  Json variables = variables_ == nullptr ? Json::object() : *variables_;
  if (conversation.template_variables != nullptr) {
    variables.update(*conversation.template_variables);
  }
  return variables;
}

void ChatTemplate::set_variables(JsonPointer variables) {
  variables_ = std::move(variables);
  if (is_deepseek_v4_) {
    deepseek_v4::parse_mode(variables_for({}));  // refuses early what every conversation would be refused for
  }
}

void ChatTemplate::set_end_of_turn(std::string token) {
  special_tokens_["eos_token"] = token;
  end_of_turn_ = std::move(token);
}

jinja::Rendered ChatTemplate::render_text(const Conversation& conversation, bool add_generation_prompt,
                                          jinja::RenderOptions options) const {
  const Json variables = variables_for(conversation);
  if (is_deepseek_v4_) {
    try {
      return deepseek_v4::encode(conversation, add_generation_prompt, deepseek_v4::parse_mode(variables),
                                 prompt_texts_);
    } catch (const base::Error& error) {
      base::fail("{}: {}", name(), error.what());
    }
  }
  options.now = options.now ? options.now : now_;
  return template_for(conversation)
      .render(variables_of(conversation, special_tokens_, add_generation_prompt, variables), options);
}

std::string ChatTemplate::render(const Conversation& conversation, bool add_generation_prompt,
                                 jinja::RenderOptions options) const {
  return render_text(conversation, add_generation_prompt, options).text;
}

RenderedConversation ChatTemplate::render_for_training(const Conversation& conversation,
                                                       const TrainingOptions& options) const {
  std::vector<std::string> end_of_turn = options.end_of_turn;
  if (end_of_turn.empty() && !end_of_turn_.empty()) {
    end_of_turn.push_back(end_of_turn_);
  }
  const jinja::Template& chosen = template_for(conversation);
  const auto render_messages = [&](std::size_t count, bool add_generation_prompt) {
    Conversation beginning = conversation;
    beginning.messages.resize(count);
    return render_text(beginning, add_generation_prompt, options.render);
  };
  RenderedConversation rendered = find_training_spans(
      conversation.messages,
      {chosen.name(), is_deepseek_v4_ || chosen.has_generation_blocks(), end_of_turn, options.last_turn_only},
      render_messages);
  if (is_deepseek_v4_) {
    require_reasoning_shown(conversation.messages, rendered);
  }
  return rendered;
}

Message ChatTemplate::parse_reply(const std::string& text, const Conversation& prompt) const {
  return is_deepseek_v4_ ? deepseek_v4::parse_reply(text, deepseek_v4::expects_reasoning(
                                                              prompt, deepseek_v4::parse_mode(variables_for(prompt))))
                         : text_message("assistant", text);
}

}  // namespace flyover::data
