// Conversations in short, for tests.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "data/message.h"

namespace flyover::data {

inline base::Json message(const std::string& role, const std::string& content) {
  return {{"role", role}, {"content", content}};
}

inline Conversation conversation(const base::Json& messages, const base::Json& tools = nullptr) {
  return conversation_from_json({{"messages", messages}, {"tools", tools}}, "test");
}

}  // namespace flyover::data
