#include "data/message.h"

#include <algorithm>
#include <array>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/jinja/unicode.h"

namespace flyover::data {
namespace {

using base::Json;

JsonPointer keep(Json value) {
  return std::make_shared<const Json>(std::move(value));
}

/// The member if it is there and not null, checked to be a list.
JsonPointer find_list(const Json& object, std::string_view key, std::string_view source) {
  const Json* found = base::find_member(object, key, source);
  base::require(found == nullptr || found->is_array(), "{}: \"{}\" must be a list, found {}", source, key,
                found == nullptr ? "nothing" : base::json_type_name(*found));
  return found == nullptr ? nullptr : keep(*found);
}

bool is_known_key(std::string_view key) {
  constexpr std::array<std::string_view, 8> kKnown = {
      "role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name", "train", "weight"};
  return std::find(kKnown.begin(), kKnown.end(), key) != kKnown.end();
}

JsonPointer content_of(const Json& object, std::string_view source) {
  const auto found = object.find("content");
  if (found == object.end()) {
    return nullptr;
  }
  base::require(found->is_string() || found->is_null() || found->is_array(),
                "{}: \"content\" must be a string, a list of parts or null, found {}", source,
                base::json_type_name(*found));
  return keep(*found);
}

/// Whether a message is learnt: "train", or "weight" as OpenAI's fine-tuning format calls it.
std::optional<bool> train_of(const Json& object, std::string_view source) {
  std::optional<bool> train;
  if (base::find_member(object, "train", source) != nullptr) {
    train = base::get_boolean(object, "train", source, false);
  }
  const Json* weight = base::find_member(object, "weight", source);
  if (weight == nullptr) {
    return train;
  }
  base::require(weight->is_number() && (*weight == 0 || *weight == 1),
                "{}: \"weight\" must be 0 (the message is not trained on) or 1 (it is), found {}", source,
                weight->is_number() ? weight->dump() : std::string(base::json_type_name(*weight)));
  const bool weighs = *weight == 1;
  base::require(!train || *train == weighs, "{}: \"train\": {} and \"weight\": {} contradict each other: leave one out",
                source, train.value_or(false), weighs ? 1 : 0);
  return weighs;
}

/// The reasoning of a message under any of its names.
std::optional<Json> reasoning_of(const Message& message) {
  if (message.reasoning_content) {
    return Json(*message.reasoning_content);
  }
  for (const char* key : {"thinking", "reasoning"}) {
    if (message.other != nullptr && message.other->contains(key) && !(*message.other)[key].is_null()) {
      return (*message.other)[key];
    }
  }
  return std::nullopt;
}

/// Whether a text, or any part of a list, is more than white space. Parts that are no texts count.
bool has_words(const Json& value) {
  if (value.is_string()) {
    return !jinja::strip(value.get<std::string>()).empty();
  }
  if (value.is_array()) {
    return std::any_of(value.begin(), value.end(), has_words);
  }
  const bool is_text_part = value.is_object() && value.contains("text");
  return is_text_part ? has_words(value["text"]) : !value.is_null();
}

}  // namespace

Message text_message(std::string role, std::string content) {
  Message message;
  message.role = std::move(role);
  message.content = keep(Json(std::move(content)));
  return message;
}

std::optional<std::string> content_text(const Message& message) {
  return message.content != nullptr && message.content->is_string() ? std::optional(message.content->get<std::string>())
                                                                    : std::nullopt;
}

bool has_content(const Message& message) {
  return message.content != nullptr && !message.content->is_null();
}

bool says_something(const Message& message) {
  const std::optional<Json> reasoning = reasoning_of(message);
  return (message.content != nullptr && has_words(*message.content)) || (reasoning && has_words(*reasoning)) ||
         (message.tool_calls != nullptr && !message.tool_calls->empty());
}

Message message_from_json(const Json& object, std::string_view source) {
  Message message;
  message.role = base::get_string(object, "role", source);
  message.content = content_of(object, source);
  message.reasoning_content = base::find_string(object, "reasoning_content", source);
  message.tool_calls = find_list(object, "tool_calls", source);
  message.tool_call_id = base::find_string(object, "tool_call_id", source);
  message.name = base::find_string(object, "name", source);
  message.train = train_of(object, source);
  Json other = Json::object();
  for (const auto& [key, value] : object.items()) {
    if (!is_known_key(key)) {
      other[key] = value;
    }
  }
  message.other = other.empty() ? nullptr : keep(std::move(other));
  return message;
}

Conversation conversation_from_json(const Json& object, std::string_view source) {
  Conversation conversation;
  const JsonPointer messages = find_list(object, "messages", source);
  base::require(messages != nullptr, "{}: the key \"messages\" is missing (expected a list of messages)", source);
  for (std::size_t i = 0; i < messages->size(); ++i) {
    const Json& message = (*messages)[i];
    const std::string where = fmt::format("{}: message {}", source, i + 1);
    conversation.messages.push_back(message_from_json(message, where));
  }
  conversation.tools = find_list(object, "tools", source);
  if (const Json* variables = base::find_member(object, "chat_template_kwargs", source)) {
    base::require(variables->is_object(), "{}: \"chat_template_kwargs\" must be an object, found {}", source,
                  base::json_type_name(*variables));
    conversation.template_variables = keep(*variables);
  }
  return conversation;
}

Json message_for_template(const Message& message) {
  Json object = Json::object();
  object["role"] = message.role;
  if (message.content != nullptr) {
    object["content"] = *message.content;
  }
  if (message.tool_calls != nullptr) {
    object["tool_calls"] = *message.tool_calls;
  }
  if (message.tool_call_id) {
    object["tool_call_id"] = *message.tool_call_id;
  }
  if (message.name) {
    object["name"] = *message.name;
  }
  if (message.other != nullptr) {
    object.update(*message.other);
  }
  if (const std::optional<Json> reasoning = reasoning_of(message)) {
    object["reasoning_content"] = *reasoning;
    if (!object.contains("thinking")) {
      object["thinking"] = *reasoning;
    }
  }
  return object;
}

Conversation with_parsed_tool_arguments(const Conversation& conversation) {
  Conversation parsed = conversation;
  for (std::size_t i = 0; i < parsed.messages.size(); ++i) {
    Message& message = parsed.messages[i];
    if (message.tool_calls == nullptr) {
      continue;
    }
    Json calls = *message.tool_calls;
    for (Json& call : calls) {
      Json* const function = call.is_object() && call.contains("function") ? &call["function"] : &call;
      if (function->is_object() && function->contains("arguments") && (*function)["arguments"].is_string()) {
        const std::string where = fmt::format("the arguments of a tool call in message {}", i + 1);
        (*function)["arguments"] = base::parse_json((*function)["arguments"].get<std::string>(), where);
      }
    }
    message.tool_calls = keep(std::move(calls));
  }
  return parsed;
}

}  // namespace flyover::data
