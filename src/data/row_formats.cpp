#include "data/row_formats.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "data/conversation_checks.h"

namespace flyover::data {
namespace {

using base::Json;

JsonPointer shared(const Json& value) {
  return std::make_shared<const Json>(value);
}

/// "a", "b", "c": the keys of a row, for messages.
std::string keys_of(const Json& row) {
  std::string text;
  for (const auto& [key, value] : row.items()) {
    text += fmt::format("{}\"{}\"", text.empty() ? "" : ", ", key);
  }
  return text.empty() ? "none" : text;
}

/// A format and the keys that a row of it has.
struct FormatKeys {
  RowFormat format;
  std::vector<std::string> keys;
};

std::vector<FormatKeys> keys_of_formats(const FieldNames& names) {
  return {{RowFormat::kMessages, {names.messages}},
          {RowFormat::kShareGpt, {names.conversations}},
          {RowFormat::kAlpaca, {"instruction", "output"}},
          {RowFormat::kPromptCompletion, {names.prompt, names.completion}},
          {RowFormat::kText, {names.text}}};
}

[[noreturn]] void fail_without_format(const Json& row, const std::vector<FormatKeys>& formats, std::string_view where) {
  std::string null_keys, known;
  for (const FormatKeys& format : formats) {
    known += fmt::format("{}{}", known.empty() ? "" : "; ", fmt::join(format.keys, " and "));
    for (const std::string& key : format.keys) {
      if (row.contains(key) && row[key].is_null()) {
        const bool is_list = format.format == RowFormat::kMessages || format.format == RowFormat::kShareGpt;
        null_keys += fmt::format("; \"{}\" is null where {} is expected", key, is_list ? "a list" : "text");
      }
    }
  }
  base::fail(
      "{}: cannot tell the format of a row with the keys {}{} (known: {}). Columns with other names can be named in "
      "the recipe: messages_field, prompt_field, completion_field, text_field (each with format)",
      where, keys_of(row), null_keys, known);
}

[[noreturn]] void fail_as_ambiguous(const std::vector<FormatKeys>& found, std::string_view where) {
  std::string keys, choices;
  for (const FormatKeys& format : found) {
    keys += fmt::format("{}\"{}\"", keys.empty() ? "" : " as well as ", fmt::join(format.keys, "\", \""));
    choices += fmt::format("{}format: {}", choices.empty() ? "" : " or ", name_of(format.format));
  }
  base::fail("{}: a row with {} can be read in {} ways: name the one that is meant in the recipe ({})", where, keys,
             found.size(), choices);
}

/// An answer in a column of its own, which is always learnt.
void require_answer(const Message& message, const std::string& key, std::string_view where) {
  base::require(says_something(message),
                "{}: \"{}\" is empty, so the model would learn to be silent: give the answer, or remove the row", where,
                key);
}

/// ShareGPT's speakers as the roles of chat templates.
std::string role_of_speaker(const std::string& speaker, std::string_view where) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kRoles = {
      {{"human", "user"},
       {"user", "user"},
       {"gpt", "assistant"},
       {"chatgpt", "assistant"},
       {"assistant", "assistant"},
       {"model", "assistant"},
       {"system", "system"},
       {"tool", "tool"},
       {"observation", "tool"},
       {"function_response", "tool"},
       {"function_call", "function_call"}}};
  for (const auto& [name, role] : kRoles) {
    if (speaker == name) {
      return std::string(role);
    }
  }
  std::vector<std::string> names;
  for (const auto& [name, role] : kRoles) {
    names.emplace_back(name);
  }
  base::fail("{}: \"from\": \"{}\" is not a known speaker{}; there are: {}", where, speaker,
             base::suggestion(speaker, names), fmt::join(names, ", "));
}

/// A call written as the text of a JSON object {"name", "arguments"} (or a list of them).
Message tool_call_message(const std::string& text, std::string_view where) {
  const Json parsed = base::parse_json(text, fmt::format("{}: function_call", where));
  Json calls = Json::array();
  for (const Json& call : parsed.is_array() ? parsed : Json::array({parsed})) {
    Json function = {{"name", base::get_string(call, "name", where)}};
    const Json* arguments = base::find_member(call, "arguments", where);
    function["arguments"] = arguments == nullptr ? Json::object() : *arguments;
    calls.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  Message message = text_message("assistant", "");
  message.tool_calls = shared(calls);
  return message;
}

/// Tools given as a list, or as the text of one.
JsonPointer parse_tools(const Json& row, std::string_view where) {
  const Json* tools = base::find_member(row, "tools", where);
  if (tools == nullptr || (tools->is_string() && tools->get<std::string>().empty())) {
    return nullptr;
  }
  Json list =
      tools->is_string() ? base::parse_json(tools->get<std::string>(), fmt::format("{}: tools", where)) : *tools;
  base::require(list.is_array(), "{}: \"tools\" must be a list, found {}", where, base::json_type_name(list));
  return list.empty() ? nullptr : shared(list);
}

void add_system(Conversation& conversation, const Json& row, std::string_view where) {
  if (const auto system = base::find_string(row, "system", where); system && !system->empty()) {
    conversation.messages.push_back(text_message("system", *system));
  }
}

Conversation parse_sharegpt(const Json& row, const FieldNames& names, std::string_view where) {
  Conversation conversation;
  add_system(conversation, row, where);
  const Json* turns = base::find_member(row, names.conversations, where);
  base::require(turns != nullptr && turns->is_array(), "{}: \"{}\" must be a list of turns, found {}", where,
                names.conversations, turns == nullptr ? "nothing" : base::json_type_name(*turns));
  for (const Json& turn : *turns) {
    const std::string role = role_of_speaker(base::get_string(turn, "from", where), where);
    std::string value = base::get_string(turn, "value", where);
    conversation.messages.push_back(role == "function_call" ? tool_call_message(value, where)
                                                            : text_message(role, std::move(value)));
  }
  conversation.tools = parse_tools(row, where);
  return conversation;
}

Conversation parse_alpaca(const Json& row, std::string_view where) {
  Conversation conversation;
  add_system(conversation, row, where);
  if (const Json* history = base::find_member(row, "history", where)) {
    base::require(history->is_array(), "{}: \"history\" must be a list of [question, answer] pairs", where);
    for (const Json& pair : *history) {
      base::require(pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_string(),
                    "{}: \"history\" must be a list of [question, answer] pairs", where);
      conversation.messages.push_back(text_message("user", pair[0].get<std::string>()));
      conversation.messages.push_back(text_message("assistant", pair[1].get<std::string>()));
    }
  }
  std::string instruction = base::get_string(row, "instruction", where);
  const std::string input = base::get_string(row, "input", where, "");
  if (!input.empty()) {
    instruction += "\n" + input;
  }
  conversation.messages.push_back(text_message("user", std::move(instruction)));
  conversation.messages.push_back(text_message("assistant", base::get_string(row, "output", where)));
  require_answer(conversation.messages.back(), "output", where);
  conversation.tools = parse_tools(row, where);
  return conversation;
}

/// The messages of a side of a prompt-completion row: text is one message of `role`.
void append_side(Conversation& conversation, const Json& row, const std::string& key, const std::string& role,
                 std::string_view where) {
  const Json* value = base::find_member(row, key, where);
  base::require(value != nullptr && (value->is_string() || value->is_array()),
                "{}: \"{}\" must be a string or a list of messages, found {}", where, key,
                row.contains(key) ? base::json_type_name(row[key]) : "nothing");
  if (value->is_string()) {
    conversation.messages.push_back(text_message(role, value->get<std::string>()));
    return;
  }
  for (const Json& message : *value) {
    conversation.messages.push_back(message_from_json(message, fmt::format("{}: {}", where, key)));
  }
}

Conversation parse_prompt_completion(const Json& row, const FieldNames& names, std::string_view where) {
  Conversation conversation;
  add_system(conversation, row, where);
  append_side(conversation, row, names.prompt, "user", where);
  // What the prompt says is never trained on, also where it holds earlier turns of the assistant.
  for (Message& message : conversation.messages) {
    if (message.role == "assistant") {
      message.train = false;
    }
  }
  append_side(conversation, row, names.completion, "assistant", where);
  if (row[names.completion].is_string()) {
    require_answer(conversation.messages.back(), names.completion, where);
  }
  conversation.tools = parse_tools(row, where);
  return conversation;
}

Conversation parse_messages(const Json& row, const FieldNames& names, std::string_view where) {
  if (names.messages == "messages") {
    Json copy = row;
    if (const JsonPointer tools = parse_tools(row, where)) {
      copy["tools"] = *tools;
    } else {
      copy.erase("tools");
    }
    return conversation_from_json(copy, where);
  }
  const Json* messages = base::find_member(row, names.messages, where);
  Json renamed = {{"messages", messages == nullptr ? Json() : *messages}};
  if (const JsonPointer tools = parse_tools(row, where)) {
    renamed["tools"] = *tools;
  }
  if (const Json* variables = base::find_member(row, "chat_template_kwargs", where)) {
    renamed["chat_template_kwargs"] = *variables;
  }
  return conversation_from_json(renamed, where);
}

}  // namespace

std::string_view name_of(RowFormat format) {
  constexpr std::array<std::string_view, 5> kNames = {"messages", "sharegpt", "alpaca", "prompt_completion", "text"};
  return kNames[static_cast<std::size_t>(format)];
}

RowFormat detect_format(const Json& row, const FieldNames& names, std::string_view where) {
  const std::vector<FormatKeys> formats = keys_of_formats(names);
  std::vector<FormatKeys> found;
  for (const FormatKeys& format : formats) {
    const auto has = [&](const std::string& key) { return base::find_member(row, key, where) != nullptr; };
    if (std::all_of(format.keys.begin(), format.keys.end(), has)) {
      found.push_back(format);
    }
  }
  if (found.empty()) {
    fail_without_format(row, formats, where);
  }
  if (found.size() > 1) {
    fail_as_ambiguous(found, where);
  }
  return found.front().format;
}

Document parse_row(const Json& row, RowFormat format, const FieldNames& names, std::string_view where) {
  Conversation conversation;
  switch (format) {
    case RowFormat::kText:
      return base::get_string(row, names.text, where);
    case RowFormat::kMessages:
      conversation = parse_messages(row, names, where);
      break;
    case RowFormat::kShareGpt:
      conversation = parse_sharegpt(row, names, where);
      break;
    case RowFormat::kAlpaca:
      conversation = parse_alpaca(row, where);
      break;
    case RowFormat::kPromptCompletion:
      conversation = parse_prompt_completion(row, names, where);
      break;
  }
  base::require(!conversation.messages.empty(), "{}: a conversation without messages", where);
  require_well_formed(conversation, where);
  return conversation;
}

}  // namespace flyover::data
