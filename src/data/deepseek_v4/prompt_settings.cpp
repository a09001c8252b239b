#include "data/deepseek_v4/prompt_settings.h"

#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "base/text.h"
#include "data/deepseek_v4/text.h"
#include "data/protocol_strings.h"

namespace flyover::data::deepseek_v4 {
namespace {

using base::Json;

std::optional<std::string> text_beginning(const Json& object, std::string_view key, std::string_view beginning,
                                          const std::string& source) {
  std::optional<std::string> text = base::find_string(object, key, source);
  base::require(!text || text->starts_with(beginning), "{}: \"{}\" must be the published text, which begins \"{}\"",
                source, key, beginning);
  return text;
}

void require_known(const Json& object, const std::vector<std::string>& known, std::string_view where) {
  for (const auto& [key, value] : object.items()) {
    bool found = false;
    std::string list;
    for (const std::string& name : known) {
      found = found || name == key;
      list += (list.empty() ? "" : ", ") + name;
    }
    base::require(found, "{}: \"{}\" is not known{}; there are: {}", where, key, base::suggestion(key, known), list);
  }
}

}  // namespace

PromptTexts read_prompt_texts(const std::filesystem::path& path) {
  PromptTexts texts;
  texts.source = path.string();
  if (!std::filesystem::exists(path)) {
    return texts;
  }
  const Json object = base::read_json_file(path);
  base::require(object.is_object(), "{}: expected an object, found {}", texts.source, base::json_type_name(object));
  require_known(object, {"reasoning_effort_max", "tools"}, texts.source);
  texts.reasoning_effort_max = text_beginning(object, "reasoning_effort_max", kEffortBegins, texts.source);
  texts.tools = text_beginning(object, "tools", kToolsBegins, texts.source);
  if (texts.tools) {
    const std::size_t first = texts.tools->find(kToolSchemas);
    base::require(first != std::string::npos && texts.tools->find(kToolSchemas, first + 1) == std::string::npos,
                  "{}: \"tools\" must hold {} once, where the schemas go", texts.source, kToolSchemas);
  }
  return texts;
}

const std::string& maximum_effort_text(const PromptTexts& texts) {
  base::require(texts.reasoning_effort_max.has_value(),
                "reasoning_effort \"max\" needs the text \"reasoning_effort_max\", which {} does not give (a JSON "
                "object with the texts as published with the model)",
                texts.source);
  return *texts.reasoning_effort_max;
}

std::string tools_text(const PromptTexts& texts, const Json& tools) {
  base::require(texts.tools.has_value(),
                "tools need the text \"tools\", which {} does not give (a JSON object with the texts as published with "
                "the model, {} standing for the schemas)",
                texts.source, kToolSchemas);
  std::string schemas;
  for (std::size_t i = 0; i < tools.size(); ++i) {
    const std::string where = fmt::format("tools[{}]", i);
    const Json* function = base::find_member(tools[i], "function", where);
    const Json& schema = function == nullptr ? tools[i] : *function;
    base::get_string(schema, "name", where);
    schemas += (schemas.empty() ? "" : "\n") + json_as_text(schema);
  }
  require_no_tokens(schemas, "tools");
  std::string text = *texts.tools;
  return text.replace(text.find(kToolSchemas), kToolSchemas.size(), schemas);
}

Mode parse_mode(const Json& variables) {
  constexpr std::string_view kWhere = "chat_template_kwargs";
  require_known(variables, {"thinking", "reasoning_effort", "response_format"}, kWhere);
  Mode mode;
  if (base::find_member(variables, "thinking", kWhere) != nullptr) {
    mode.thinking = base::get_boolean(variables, "thinking", kWhere, false);
  }
  if (const auto effort = base::find_string(variables, "reasoning_effort", kWhere)) {
    base::require(*effort == "high" || *effort == "max", "{}: \"reasoning_effort\" must be high or max, found \"{}\"",
                  kWhere, *effort);
    base::require(mode.thinking, "{}: \"reasoning_effort\" has a meaning only with \"thinking\": true", kWhere);
    mode.maximum_effort = *effort == "max";
  }
  if (const Json* format = base::find_member(variables, "response_format", kWhere)) {
    mode.response_format = std::make_shared<const Json>(*format);
  }
  return mode;
}

}  // namespace flyover::data::deepseek_v4
