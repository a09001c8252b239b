#include "data/deepseek_v4/text.h"

#include "base/error.h"
#include "data/jinja/value.h"
#include "data/protocol_strings.h"

namespace flyover::data::deepseek_v4 {

void require_no_tokens(std::string_view text, std::string_view where) {
  for (const std::string_view token : kAllTokens) {
    base::require(
        text.find(token) == std::string_view::npos,
        "{}: contains the text of the control token {}, which would end or forge a part of the prompt: remove "
        "or rewrite it",
        where, token);
  }
}

std::string json_as_text(const base::Json& value) {
  return jinja::json_text(jinja::Value::from_json(value), {});
}

}  // namespace flyover::data::deepseek_v4
