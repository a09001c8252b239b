// Conversations as DeepSeek-V4 reads them. The model was published with code in place of a Jinja template; the format
// is described in docs/templates.md, with what Flyover chose where its description is silent.
#pragma once

#include "data/deepseek_v4/prompt_settings.h"
#include "data/jinja/template.h"
#include "data/message.h"

namespace flyover::data::deepseek_v4 {

/// The text, and for each assistant's message the bytes that the model says: reasoning, content, tool calls and the
/// end-of-turn token. Throws Error naming the message for roles and sequences that the format has no place for, texts
/// with control tokens, and fixed texts that are needed and missing.
jinja::Rendered encode(const Conversation& conversation, bool add_generation_prompt, const Mode& mode,
                       const PromptTexts& texts);

/// Whether what the model says to this prompt begins with reasoning.
bool expects_reasoning(const Conversation& conversation, const Mode& mode);

}  // namespace flyover::data::deepseek_v4
