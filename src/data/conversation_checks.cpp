#include "data/conversation_checks.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"

namespace flyover::data {
namespace {

using base::Json;

void require_known_role(const std::string& role, const std::string& where) {
  static const std::vector<std::string> kRoles = {"system", "developer", "user",           "assistant",
                                                  "tool",   "ipython",   "latest_reminder"};
  if (std::find(kRoles.begin(), kRoles.end(), role) == kRoles.end()) {
    base::fail("{}: the role \"{}\" is not known{}; there are: {}", where, role, base::suggestion(role, kRoles),
               fmt::join(kRoles, ", "));
  }
}

/// The keys with a meaning that the message does not have.
std::vector<std::string> keys_lacking(const Message& message) {
  std::vector<std::string> keys;
  const auto add = [&](bool is_there, const char* key) {
    if (!is_there) {
      keys.emplace_back(key);
    }
  };
  add(has_content(message), "content");
  add(message.reasoning_content.has_value(), "reasoning_content");
  add(message.tool_calls != nullptr, "tool_calls");
  add(message.tool_call_id.has_value(), "tool_call_id");
  add(message.name.has_value(), "name");
  add(message.train.has_value(), "train");
  add(message.train.has_value(), "weight");
  return keys;
}

void require_no_misspelling(const Message& message, const std::string& where) {
  if (message.other == nullptr) {
    return;
  }
  const std::vector<std::string> lacking = keys_lacking(message);
  for (const auto& [key, value] : message.other->items()) {
    if (!value.is_null()) {
      const std::string meant = base::suggestion(key, lacking);
      base::require(meant.empty(), "{}: the key \"{}\" is not known{}", where, key, meant);
    }
  }
}

/// Templates show a part of type "text" by its "text", and nothing where that is missing.
void require_parts(const Json& content, const std::string& where) {
  for (std::size_t i = 0; i < content.size(); ++i) {
    const std::string place = fmt::format("{}: content[{}]", where, i);
    if (base::get_string(content[i], "type", place) == "text") {
      base::get_string(content[i], "text", place);
    }
  }
}

void require_content(const Message& message, const std::string& where) {
  if (message.content != nullptr && message.content->is_array()) {
    require_parts(*message.content, where);
  }
  if (has_content(message) || (message.role == "assistant" && says_something(message))) {
    return;
  }
  base::fail("{}: \"content\" is {} (expected a text, or a list of parts{}): give it, or remove the message", where,
             message.content == nullptr ? "missing" : "null",
             message.role == "assistant" ? "; only tool_calls or reasoning_content can stand for it" : "");
}

/// The function of a tool call or of a tool, which stands under "function" or is the object itself.
const Json& require_function(const Json& object, const std::string& where, std::string_view expected) {
  base::require(object.is_object(), "{}: expected {}, found {}", where, expected, base::json_type_name(object));
  const Json* const nested = base::find_member(object, "function", where);
  const Json& function = nested == nullptr ? object : *nested;
  base::require(function.is_object(), "{}: \"function\": expected an object, found {}", where,
                base::json_type_name(function));
  const Json* const name = base::find_member(function, "name", where);
  base::require(name != nullptr, "{}: found no function with a \"name\" (expected {})", where, expected);
  base::require(name->is_string() && !name->get<std::string>().empty(),
                "{}: the \"name\" of the function must be a text that is not empty, found {}", where,
                name->is_string() ? "an empty one" : base::json_type_name(*name));
  return function;
}

void require_tool_calls(const Json& calls, const std::string& where) {
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const std::string place = fmt::format("{}: tool_calls[{}]", where, i);
    const Json& function =
        require_function(calls[i], place, R"({"type": "function", "function": {"name": ..., "arguments": ...}})");
    const Json* const arguments = base::find_member(function, "arguments", place);
    base::require(arguments != nullptr && (arguments->is_object() || arguments->is_string()),
                  "{}: the \"arguments\" of the function must be an object or the text of one, found {}", place,
                  arguments == nullptr ? "nothing" : base::json_type_name(*arguments));
  }
}

void require_tools(const Json& tools, std::string_view where) {
  for (std::size_t i = 0; i < tools.size(); ++i) {
    require_function(tools[i], fmt::format("{}: tools[{}]", where, i),
                     R"({"type": "function", "function": {"name": ..., "parameters": ...}})");
  }
}

}  // namespace

void require_well_formed(const Conversation& conversation, std::string_view where) {
  for (std::size_t i = 0; i < conversation.messages.size(); ++i) {
    const Message& message = conversation.messages[i];
    require_known_role(message.role, fmt::format("{}: message {}", where, i + 1));
    const std::string place = fmt::format("{}: message {} ({})", where, i + 1, message.role);
    require_no_misspelling(message, place);
    require_content(message, place);
    if (message.tool_calls != nullptr) {
      require_tool_calls(*message.tool_calls, place);
    }
    // DeepSeek-V4's format takes tools in the system message too.
    if (message.other != nullptr && message.other->contains("tools") && (*message.other)["tools"].is_array()) {
      require_tools((*message.other)["tools"], place);
    }
  }
  if (conversation.tools != nullptr) {
    require_tools(*conversation.tools, where);
  }
}

}  // namespace flyover::data
