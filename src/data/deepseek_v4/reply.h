// What DeepSeek-V4 generates, back to a message.
#pragma once

#include <string_view>

#include "data/message.h"

namespace flyover::data::deepseek_v4 {

/// The text behind the prompt, with or without the end-of-turn token, as an assistant's message. `thinking`: the prompt
/// ended with <think>, so the text begins with reasoning. Throws Error saying what is malformed: reasoning that does
/// not end, tool calls that are not well-formed, control tokens elsewhere, text that is not UTF-8.
Message parse_reply(std::string_view text, bool thinking);

}  // namespace flyover::data::deepseek_v4
