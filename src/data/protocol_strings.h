// What published formats of conversations prescribe: the templates of ChatML and Llama 3, and of DeepSeek-V4 the
// control tokens, tags and beginnings of texts. Not here: which words of the templates are control tokens and which
// ends a turn (built_in_templates.cpp), the order of DeepSeek-V4's parts and the blank lines between them
// (data/deepseek_v4), and GPT-2's <|endoftext|>, which no template writes (posttrain/starting_model.cpp). Sources:
// ChatML: OpenAI, openai-python's chatml.md, 2023; its tools as in the Hermes function calling format (Nous Research),
// its reasoning in <think> as in DeepSeek-R1. Llama 3: the prompt format of its model card (Meta, 2024), without tools.
// DeepSeek-V4: its published tokenizer and prompt encoding. What the templates say besides is our own.
#pragma once

#include <array>
#include <string_view>

namespace flyover::data {

inline constexpr std::string_view kChatMl = R"({%- macro text_of(message) %}
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

inline constexpr std::string_view kLlama3 = R"({{- bos_token }}
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

}  // namespace flyover::data

namespace flyover::data::deepseek_v4 {

inline constexpr std::string_view kBeginOfText = "<｜begin▁of▁sentence｜>";
inline constexpr std::string_view kEndOfTurn = "<｜end▁of▁sentence｜>";
inline constexpr std::string_view kUser = "<｜User｜>";
inline constexpr std::string_view kAssistant = "<｜Assistant｜>";
inline constexpr std::string_view kBeginOfReasoning = "<think>";
inline constexpr std::string_view kEndOfReasoning = "</think>";
inline constexpr std::string_view kMarkup = "｜DSML｜";  ///< in every tag of a tool call
inline constexpr std::string_view kLatestReminder = "<｜latest_reminder｜>";

/// A short question to the model about the conversation so far, and the token that asks it.
struct Task {
  std::string_view name;
  std::string_view token;
};
inline constexpr std::array<Task, 6> kTasks = {{{"action", "<｜action｜>"},
                                                {"query", "<｜query｜>"},
                                                {"authority", "<｜authority｜>"},
                                                {"domain", "<｜domain｜>"},
                                                {"title", "<｜title｜>"},
                                                {"read_url", "<｜read_url｜>"}}};

/// Every conversation needs these; the others only those that use them.
inline constexpr std::array<std::string_view, 6> kCoreTokens = {kBeginOfText, kEndOfTurn,        kUser,
                                                                kAssistant,   kBeginOfReasoning, kEndOfReasoning};
/// All of the above.
inline constexpr std::array<std::string_view, 14> kAllTokens = {
    kBeginOfText,    kEndOfTurn,      kUser,           kAssistant,      kBeginOfReasoning,
    kEndOfReasoning, kMarkup,         kLatestReminder, kTasks[0].token, kTasks[1].token,
    kTasks[2].token, kTasks[3].token, kTasks[4].token, kTasks[5].token};

// Tool calls and their results.
inline constexpr std::string_view kBeginOfCalls = "<｜DSML｜tool_calls>";
inline constexpr std::string_view kEndOfCalls = "</｜DSML｜tool_calls>";
inline constexpr std::string_view kBeginOfCall = "<｜DSML｜invoke name=\"";
inline constexpr std::string_view kEndOfCall = "</｜DSML｜invoke>";
inline constexpr std::string_view kBeginOfParameter = "<｜DSML｜parameter name=\"";
inline constexpr std::string_view kStringFlag = "\" string=\"";
inline constexpr std::string_view kEndOfParameter = "</｜DSML｜parameter>";
inline constexpr std::string_view kEndOfTag = "\">";
inline constexpr std::string_view kBeginOfResult = "<tool_result>";
inline constexpr std::string_view kEndOfResult = "</tool_result>";
inline constexpr std::string_view kResponseFormat =
    "\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n";

// How the texts begin that a file beside the model brings.
inline constexpr std::string_view kEffortBegins = "Reasoning Effort:";
inline constexpr std::string_view kToolsBegins = "## Tools";

}  // namespace flyover::data::deepseek_v4
