// Chat templates for models that have none: those of published formats (protocol_strings.h, data/deepseek_v4), and
// `plain`, our own, for models whose vocabulary shall not grow: words and newlines, turns ended by the eos_token.
#include "base/error.h"
#include "base/text.h"
#include "data/chat_template.h"
#include "data/protocol_strings.h"

namespace flyover::data {
namespace {

constexpr std::string_view kPlain = R"({%- if tools %}
    {{- raise_exception('this template has no tools (use chatml)') }}
{%- endif %}
{%- for message in messages %}
    {%- if message.tool_calls or message.role == 'tool' or message.reasoning_content %}
        {{- raise_exception('this template has no tools and no reasoning (use chatml)') }}
    {%- endif %}
    {%- if message.content is not string %}
        {{- raise_exception('this template takes text only') }}
    {%- endif %}
    {%- if message.role == 'assistant' %}
        {{- 'Assistant:\n' + message.content + eos_token + '\n\n' }}
    {%- else %}
        {{- message.role | capitalize + ':\n' + message.content + '\n\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'Assistant:\n' }}
{%- endif %}
)";

/// Written as the template of a model, so that other programs stop instead of guessing.
constexpr std::string_view kDeepSeekV4 = R"({#- deepseek_v4: DeepSeek-V4's prompt encoding -#}
{{- raise_exception('the prompts of this model follow the code published with DeepSeek-V4, not a Jinja template') }}
)";

}  // namespace

std::span<const BuiltInTemplate> built_in_templates() {
  static const std::vector<BuiltInTemplate> kTemplates = {
      {"chatml", kChatMl, "<|im_end|>", {"<|im_start|>", "<|im_end|>"}},
      {"deepseek_v4",
       kDeepSeekV4,
       deepseek_v4::kEndOfTurn,
       {deepseek_v4::kAllTokens.begin(), deepseek_v4::kAllTokens.end()}},
      {"llama3", kLlama3, "<|eot_id|>", {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}},
      {"plain", kPlain, "", {}},
  };
  return kTemplates;
}

std::string built_in_template_names() {
  std::string list;
  for (const BuiltInTemplate& built_in : built_in_templates()) {
    list += fmt::format("{}{}", list.empty() ? "" : ", ", built_in.name);
  }
  return list;
}

const BuiltInTemplate& find_built_in_template(std::string_view name) {
  std::vector<std::string> names;
  for (const BuiltInTemplate& built_in : built_in_templates()) {
    if (built_in.name == name) {
      return built_in;
    }
    names.emplace_back(built_in.name);
  }
  base::fail("there is no built-in chat template \"{}\"{}; there are: {}", name, base::suggestion(name, names),
             built_in_template_names());
}

}  // namespace flyover::data
