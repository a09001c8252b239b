// What the parsers of expressions and of statements share: the tokens, the numbering of names and the error messages.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "data/jinja/lexer.h"
#include "data/jinja/syntax.h"

namespace flyover::data::jinja {

struct ParseState {
  std::string name;
  std::vector<Token> tokens;
  std::size_t position = 0;
  std::vector<std::string> symbols;
  std::unordered_map<std::string, int> symbol_numbers;
  /// Of the macro whose body is being parsed, or null.
  MacroStatement* macro = nullptr;
  bool has_generation = false;
  int nesting = 0;
  int loops = 0;    ///< around the current statement, within the innermost macro
  int buffers = 0;  ///< macros, block sets, ... around the current statement, whose text goes elsewhere first
  bool in_generation = false;

  ParseState(std::string_view source, std::string_view template_name);

  const Token& current() const { return tokens[position]; }
  const Token& look_ahead() const { return tokens[std::min(position + 1, tokens.size() - 1)]; }
  Token take();
  bool is(TokenType type) const { return current().type == type; }
  bool is_operator(std::string_view text) const { return is(TokenType::kOperator) && current().text == text; }
  bool is_name(std::string_view text) const { return is(TokenType::kName) && current().text == text; }
  bool skip_operator(std::string_view text);
  bool skip_name(std::string_view text);
  void expect_operator(std::string_view text);
  void expect_name(std::string_view text);
  std::string take_name(std::string_view what);
  void expect(TokenType type);

  int symbol(const std::string& text);

  template <typename... Args>
  [[noreturn]] void fail(int line, fmt::format_string<Args...> format, Args&&... args) const {
    base::fail("{}:{}: {}", name, line, fmt::format(format, std::forward<Args>(args)...));
  }
};

/// Counts how deeply the parser has descended and refuses what would overflow the stack.
class NestingGuard {
 public:
  explicit NestingGuard(ParseState& state);
  NestingGuard(const NestingGuard&) = delete;
  NestingGuard& operator=(const NestingGuard&) = delete;
  ~NestingGuard() { --state_.nesting; }

 private:
  ParseState& state_;
};

/// The current token as messages quote it.
std::string description(const Token& token);

struct TupleOptions {
  bool with_conditional = true;    ///< `a if b else c` may follow
  std::string_view end_name = {};  ///< a name that ends the tuple
  bool in_parentheses = false;     ///< the empty tuple is allowed
};

ExpressionPointer parse_expression(ParseState& state, bool with_conditional = true);
ExpressionPointer parse_tuple(ParseState& state, const TupleOptions& options = {});
/// `name(arguments) | name | ...` applied to a block's text; the first `|` is already taken if `started`.
ExpressionPointer parse_filter_chain(ParseState& state, ExpressionPointer input, bool started);

}  // namespace flyover::data::jinja
