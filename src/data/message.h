// A conversation as the data layer holds it, and the JSON that chat templates see of it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace flyover::data {

/// A JSON value that is kept as it came; null where there is none. Shared because it is never changed.
using JsonPointer = std::shared_ptr<const base::Json>;

struct Message {
  std::string role;
  JsonPointer content;  ///< a string, null, or a list of parts as given; no pointer if the message has no such key
  std::optional<std::string> reasoning_content;
  JsonPointer tool_calls;  ///< a list as given
  std::optional<std::string> tool_call_id;
  std::optional<std::string> name;
  std::optional<bool> train;  ///< whether an assistant's message is learnt; not shown to templates
  JsonPointer other;          ///< an object with every other key
};

struct Conversation {
  std::vector<Message> messages;
  JsonPointer tools;               ///< a list as given
  JsonPointer template_variables;  ///< an object with further variables for the template ("chat_template_kwargs")
};

Message text_message(std::string role, std::string content);

/// The content if it is text (parts are not joined).
std::optional<std::string> content_text(const Message& message);

/// Whether the message has content that is not null; it may be empty.
bool has_content(const Message& message);

/// Whether the message has content, reasoning or tool calls that are more than white space: something to learn.
bool says_something(const Message& message);

/// A message in the format of OpenAI. `reasoning_content`, `tool_calls`, `tool_call_id`, `name`, `train` and `weight`
/// that are null count as missing, as columnar formats fill them in. `weight` is OpenAI's word for `train`: 0 or 1.
/// Throws Error naming `source`, the key and what was expected.
Message message_from_json(const base::Json& object, std::string_view source);

/// {"messages": [...], "tools": [...], "chat_template_kwargs": {...}}, the last two optional. Throws Error naming
/// `source` and the number of the message.
Conversation conversation_from_json(const base::Json& object, std::string_view source);

/// What a template sees: the keys that the message has, without `train` and `weight`. Reasoning is shown under
/// `reasoning_content` and `thinking`, whichever of `reasoning_content`, `thinking` and `reasoning` it came under (as
/// transformers does).
base::Json message_for_template(const Message& message);

/// The conversation with the arguments of its tool calls parsed from JSON text to objects, which is what most templates
/// expect and inference servers do; arguments that are objects already stay. Throws Error for text that is no JSON.
Conversation with_parsed_tool_arguments(const Conversation& conversation);

}  // namespace flyover::data
