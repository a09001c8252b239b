// Finding and rendering chat templates; the spans that training learns are in training_spans.cpp.
#include "data/chat_template.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
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

void add_special_tokens(const std::filesystem::path& path, SpecialTokens& tokens) {
  if (!std::filesystem::exists(path)) {
    return;
  }
  const Json config = base::read_json_file(path);
  base::require(config.is_object(), "{}: expected an object, found {}", path.string(), base::json_type_name(config));
  for (const auto& [key, value] : config.items()) {
    const std::optional<std::string> text = token_text(value);
    if (text && key.ends_with("_token")) {
      tokens.try_emplace(key, *text);
    }
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

Json variables_of(const Conversation& conversation, const SpecialTokens& tokens, bool add_generation_prompt) {
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
  if (conversation.template_variables != nullptr) {
    variables.update(*conversation.template_variables);
  }
  return variables;
}

}  // namespace

ChatTemplate::ChatTemplate(std::string source, std::string name, SpecialTokens special_tokens)
    : template_(jinja::Template::parse(std::move(source), std::move(name))),
      special_tokens_(std::move(special_tokens)) {
  if (const auto eos = special_tokens_.find("eos_token"); eos != special_tokens_.end()) {
    end_of_turn_ = eos->second;
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
  add_special_tokens(directory / "tokenizer_config.json", tokens);
  add_special_tokens(directory / "special_tokens_map.json", tokens);
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

std::string ChatTemplate::render(const Conversation& conversation, bool add_generation_prompt,
                                 jinja::RenderOptions options) const {
  options.now = options.now ? options.now : now_;
  return template_for(conversation)
      .render(variables_of(conversation, special_tokens_, add_generation_prompt), options)
      .text;
}

RenderedConversation ChatTemplate::render_for_training(const Conversation& conversation,
                                                       const TrainingOptions& options) const {
  std::vector<std::string> end_of_turn = options.end_of_turn;
  if (end_of_turn.empty() && !end_of_turn_.empty()) {
    end_of_turn.push_back(end_of_turn_);
  }
  const jinja::Template& chosen = template_for(conversation);
  jinja::RenderOptions render = options.render;
  render.now = render.now ? render.now : now_;
  const auto render_messages = [&](std::size_t count, bool add_generation_prompt) {
    Conversation beginning = conversation;
    beginning.messages.resize(count);
    return chosen.render(variables_of(beginning, special_tokens_, add_generation_prompt), render);
  };
  return find_training_spans(conversation.messages,
                             {chosen.name(), chosen.has_generation_blocks(), end_of_turn, options.last_turn_only},
                             render_messages);
}

}  // namespace flyover::data
