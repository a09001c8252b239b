// What a DeepSeek-V4 prompt depends on besides the conversation: the mode, and fixed texts that come from a file.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "data/message.h"

namespace flyover::data::deepseek_v4 {

/// The file beside a model that holds the fixed texts.
inline constexpr std::string_view kPromptTextsFile = "prompt_texts.json";

/// Texts that the format prescribes and that Flyover does not carry. Where one is needed and missing, encoding throws.
struct PromptTexts {
  std::string source = std::string(kPromptTextsFile);  ///< for messages
  std::optional<std::string> reasoning_effort_max;     ///< behind the first token
  std::optional<std::string> tools;                    ///< begins with "## Tools"; holds kToolSchemas once
};
/// Where the tools' schemas go in PromptTexts::tools.
inline constexpr std::string_view kToolSchemas = "{tool_schemas}";

/// Reads the file; nothing is known where it does not exist. Throws Error for unknown keys and for texts that do not
/// begin as the format has them.
PromptTexts read_prompt_texts(const std::filesystem::path& path);

/// The texts, or an Error that says which one is missing and what asks for it.
const std::string& maximum_effort_text(const PromptTexts& texts);
std::string tools_text(const PromptTexts& texts, const base::Json& tools);

struct Mode {
  bool thinking = false;  ///< else the model answers at once
  bool maximum_effort = false;
  JsonPointer response_format;  ///< the schema of the answer, or null
};

/// From `chat_template_kwargs`: thinking (true or false), reasoning_effort ("high" or "max"; needs thinking),
/// response_format (a schema). A member that is null counts as missing. Throws Error for others and wrong values.
Mode parse_mode(const base::Json& variables);

}  // namespace flyover::data::deepseek_v4
