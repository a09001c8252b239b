// Template source to tokens, with the white space rules that chat templates are rendered with: trim_blocks and
// lstrip_blocks on, the last newline of the source dropped (transformers, utils/chat_template_utils.py).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flyover::data::jinja {

enum class TokenType {
  kData,
  kBlockBegin,
  kBlockEnd,
  kVariableBegin,
  kVariableEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd
};

struct Token {
  TokenType type = TokenType::kEnd;
  int line = 1;
  std::string text;  ///< data, name, operator, the digits of a number, or a string literal without quotes and escapes
};

/// Throws Error "<name>:<line>: ..." for what is not a template.
std::vector<Token> tokenize(std::string_view source, std::string_view name);

}  // namespace flyover::data::jinja
