// What a row's conversation must have before a template sees it: templates show what is misspelt or missing as nothing.
#pragma once

#include <string_view>

#include "data/message.h"

namespace flyover::data {

/// Roles that messages may have: those of OpenAI, of Llama 3.1's template (ipython) and of DeepSeek-V4's prompts
/// (latest_reminder). Every message needs "content", which may be empty, but for an assistant's with tool calls or
/// reasoning; parts of type "text" need their "text". Tool calls and tools need a function with its name. A key that is
/// nearly one that the message lacks is taken for a misspelling. Throws Error naming `where`, the message, what was
/// found and what was expected.
void require_well_formed(const Conversation& conversation, std::string_view where);

}  // namespace flyover::data
