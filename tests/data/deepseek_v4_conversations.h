// Conversations and texts that the tests of DeepSeek-V4's encoding share.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/conversations.h"
#include "data/deepseek_v4/encoding.h"
#include "data/message.h"

namespace flyover::data::deepseek_v4 {

using base::Json;
/// A JSON list of any length: braces around a single JSON value mean different things to different compilers.
using List = std::vector<Json>;

inline Json answer(const std::string& reasoning, const std::string& content) {
  return {{"role", "assistant"}, {"content", content}, {"reasoning_content", reasoning}};
}

inline Json call(const std::string& name, const Json& arguments, const std::string& id = "") {
  Json object = {{"type", "function"}, {"function", {{"name", name}, {"arguments", arguments}}}};
  if (!id.empty()) {
    object["id"] = id;
  }
  return object;
}

inline Json calling(Json message, const List& calls) {
  message["tool_calls"] = calls;
  return message;
}

inline Json result(const std::string& content, const std::string& id = "") {
  Json object = message("tool", content);
  if (!id.empty()) {
    object["tool_call_id"] = id;
  }
  return object;
}

inline Conversation conversation(const List& messages, const Json& tools = nullptr) {
  return conversation_from_json({{"messages", Json(messages)}, {"tools", tools}}, "test");
}

/// Not the published texts, which only the model brings.
inline PromptTexts made_up_texts() {
  PromptTexts texts;
  texts.source = "made_up.json";
  texts.reasoning_effort_max = "Reasoning Effort: try hard.\n\n";
  texts.tools = "## Tools\nThere are:\n{tool_schemas}\nThat is all.";
  return texts;
}

inline const Json kClock = Json::parse(
    R"([{"type": "function", "function": {"name": "now", "description": "Heure à Paris", "parameters": {"type":"object"}}},
        {"type": "function", "function": {"name": "add", "parameters": {}}}])");

inline Mode chat_mode() {
  return {};
}
inline Mode thinking_mode() {
  Mode mode;
  mode.thinking = true;
  return mode;
}

inline std::string encoded(const List& messages, const Mode& mode, bool add_generation_prompt = false,
                           const Json& tools = nullptr) {
  return encode(conversation(messages, tools), add_generation_prompt, mode, made_up_texts()).text;
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

}  // namespace flyover::data::deepseek_v4
