// Texts inside a DeepSeek-V4 prompt: none may hold what the format itself is made of, because nothing is escaped.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace flyover::data::deepseek_v4 {

/// Throws Error naming `where` if a control token is in the text: it would end or forge a turn.
void require_no_tokens(std::string_view text, std::string_view where);

/// JSON as the format has it: on one line, ", " and ": " between members, letters of all scripts as they are.
std::string json_as_text(const base::Json& value);

}  // namespace flyover::data::deepseek_v4
