#include "data/deepseek_v4/reply.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/utf8.h"
#include "data/deepseek_v4/text.h"
#include "data/deepseek_v4/tool_calls.h"
#include "data/protocol_strings.h"

namespace flyover::data::deepseek_v4 {
namespace {

constexpr std::string_view kBeforeCalls = "\n\n";

Message parse(std::string_view text, bool thinking) {
  const std::size_t invalid = base::find_invalid_utf8(text);
  base::require(invalid == std::string_view::npos, "not valid UTF-8 at byte {}", invalid);
  if (text.ends_with(kEndOfTurn)) {
    text.remove_suffix(kEndOfTurn.size());
  }
  std::string reasoning;
  if (thinking) {
    const std::size_t end = text.find(kEndOfReasoning);
    base::require(end != std::string_view::npos, "the reasoning does not end with {} (cut off?)", kEndOfReasoning);
    reasoning = text.substr(0, end);
    require_no_tokens(reasoning, "the reasoning");
    text.remove_prefix(end + kEndOfReasoning.size());
  }
  const std::size_t calls = text.find(kBeginOfCalls);
  std::string_view content = text.substr(0, calls);
  if (calls != std::string_view::npos && content.ends_with(kBeforeCalls)) {
    content.remove_suffix(kBeforeCalls.size());
  }
  require_no_tokens(content, "the answer");
  Message message = text_message("assistant", std::string(content));
  if (!reasoning.empty()) {
    message.reasoning_content = std::move(reasoning);
  }
  if (calls != std::string_view::npos) {
    message.tool_calls = std::make_shared<const base::Json>(parse_tool_calls(text.substr(calls)));
    write_tool_calls(*message.tool_calls, "the answer");  // refuses what a later prompt could not hold
  }
  return message;
}

}  // namespace

Message parse_reply(std::string_view text, bool thinking) {
  try {
    return parse(text, thinking);
  } catch (const base::Error& error) {
    base::fail("the generated text is malformed: {}", error.what());
  }
}

}  // namespace flyover::data::deepseek_v4
