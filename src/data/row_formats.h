// What rows mean: the formats that people's datasets have, without conversion.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "data/message.h"

namespace flyover::data {

enum class RowFormat : std::uint8_t {
  kMessages,          ///< OpenAI: {"messages": [...], "tools": [...]}
  kShareGpt,          ///< {"conversations": [{"from": "human", "value": ...}, ...], "system", "tools"}
  kAlpaca,            ///< {"instruction", "input", "output", "system", "history"}
  kPromptCompletion,  ///< {"prompt", "completion"}: strings, or lists of messages
  kText               ///< {"text"}
};

std::string_view name_of(RowFormat format);

/// Names of the columns, for files that call them otherwise.
struct FieldNames {
  std::string messages = "messages";            ///< of kMessages
  std::string conversations = "conversations";  ///< of kShareGpt
  std::string prompt = "prompt";
  std::string completion = "completion";
  std::string text = "text";
};

/// The format that a row has by its keys; a key that is null counts as missing. Throws Error listing the keys where
/// they are those of no format or of several.
RowFormat detect_format(const base::Json& row, const FieldNames& names, std::string_view where);

/// A row as a conversation or as a plain document.
using Document = std::variant<Conversation, std::string>;

/// Throws Error naming `where` and the key for a row that is not of the format, has an empty answer, or holds messages
/// that are not well formed (conversation_checks.h).
Document parse_row(const base::Json& row, RowFormat format, const FieldNames& names, std::string_view where);

}  // namespace flyover::data
