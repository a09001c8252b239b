// Chat templates for models that have none. The markers in them are protocol strings of published formats:
//   chatml  ChatML (OpenAI, openai-python/chatml.md, 2023); tools in <tools>, <tool_call> and <tool_response> as in the
//           Hermes function calling format (Nous Research); reasoning in <think> as in DeepSeek-R1
//   llama3  the prompt format of the Llama 3 model card (Meta, 2024), without tools
//   deepseek_v4  DeepSeek-V4's published prompt encoding, which is code: data/deepseek_v4
//   plain   our own, for models whose vocabulary shall not grow: words and newlines, turns ended by the eos_token
#include "base/error.h"
#include "base/text.h"
#include "data/chat_template.h"
#include "data/deepseek_v4/tokens.h"

namespace flyover::data {
namespace {

constexpr std::string_view kChatMl = R"({%- macro text_of(message) %}
    {%- if message.content is string %}
        {{- message.content }}
    {%- elif message.content is defined and message.content is not none %}
        {%- for part in message.content %}
            {%- if part.type != 'text' %}
                {{- raise_exception('this template takes text parts only') }}
            {%- endif %}
            {{- part.text }}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- set has_system = messages and messages[0].role == 'system' %}
{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if has_system %}
        {{- text_of(messages[0]) + '\n\n' }}
    {%- endif %}
    {{- 'These functions can be called:\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n' + (tool | tojson) }}
    {%- endfor %}
    {{- '\n</tools>\nTo call one, answer:\n<tool_call>\n{"name": its name, "arguments": its arguments}\n</tool_call>' }}
    {{- '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\n' }}
        {%- if message.reasoning_content %}
            {{- '<think>\n' + message.reasoning_content + '\n</think>\n\n' }}
        {%- endif %}
        {%- set text = text_of(message) %}
        {{- text }}
        {%- for tool_call in message.tool_calls or [] %}
            {%- set function = tool_call.function or tool_call %}
            {{- '' if loop.first and not text else '\n' }}
            {{- '<tool_call>\n{"name": ' + (function.name | tojson) + ', "arguments": ' }}
            {{- function.arguments if function.arguments is string else function.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>tool\n<tool_response>\n' + text_of(message) + '\n</tool_response><|im_end|>\n' }}
    {%- elif not (tools and loop.first and message.role == 'system') %}
        {{- '<|im_start|>' + message.role + '\n' + text_of(message) + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
)";

constexpr std::string_view kLlama3 = R"({{- bos_token }}
{%- if tools %}
    {{- raise_exception('this template has no tools (use chatml)') }}
{%- endif %}
{%- for message in messages %}
    {%- if message.tool_calls or message.role == 'tool' or message.reasoning_content %}
        {{- raise_exception('this template has no tools and no reasoning (use chatml)') }}
    {%- endif %}
    {%- if message.content is not string %}
        {{- raise_exception('this template takes text only') }}
    {%- endif %}
    {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
)";

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
