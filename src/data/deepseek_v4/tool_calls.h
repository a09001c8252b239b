// Tool calls of DeepSeek-V4: the tags that the model writes (DSML), from messages and back.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "data/protocol_strings.h"

namespace flyover::data::deepseek_v4 {

/// The block from kBeginOfCalls to kEndOfCalls for `tool_calls` as OpenAI's messages have them; arguments are an
/// object, or the text of one. Strings are written as they are, everything else as JSON. Throws Error naming `where`
/// and the call for what is no call or would forge tags.
std::string write_tool_calls(const base::Json& calls, std::string_view where);

/// Reads such a block back to `tool_calls` (arguments as objects, no ids). White space between tags is free, none may
/// be missing, and only white space may follow. Throws Error saying which call is malformed and how.
base::Json parse_tool_calls(std::string_view text);

}  // namespace flyover::data::deepseek_v4
