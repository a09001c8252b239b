#include "data/jinja/parser.h"

#include <algorithm>
#include <array>

#include "base/text.h"
#include "data/jinja/parse_state.h"

namespace flyover::data::jinja {
namespace {

constexpr int kMaximumParserNesting = 200;

using EndNames = std::initializer_list<std::string_view>;

Statement parse_statement(ParseState& state);

bool at_any(const ParseState& state, EndNames names) {
  return std::any_of(names.begin(), names.end(), [&](std::string_view name) { return state.is_name(name); });
}

/// Statements until `{% <one of end_names>`, whose name becomes the current token; until the end if there are none.
Body parse_body(ParseState& state, EndNames end_names) {
  const NestingGuard guard(state);
  const int opening_line = state.current().line;
  Body body;
  while (!state.is(TokenType::kEnd)) {
    const int line = state.current().line;
    if (state.is(TokenType::kData)) {
      body.push_back({line, DataStatement{state.take().text}});
    } else if (state.is(TokenType::kVariableBegin)) {
      state.take();
      body.push_back({line, OutputStatement{parse_tuple(state)}});
      state.expect(TokenType::kVariableEnd);
    } else {
      state.expect(TokenType::kBlockBegin);
      if (at_any(state, end_names)) {
        return body;
      }
      body.push_back(parse_statement(state));
      state.expect(TokenType::kBlockEnd);
    }
  }
  if (end_names.size() > 0) {
    state.fail(opening_line, "a block is never closed: {{% {} %}} is missing", *(end_names.end() - 1));
  }
  return body;
}

/// The rest of an opening tag, then the body up to one of `end_names`.
Body parse_block(ParseState& state, EndNames end_names) {
  state.skip_operator(":");
  state.expect(TokenType::kBlockEnd);
  return parse_body(state, end_names);
}

/// A block whose text goes to a buffer first; loops outside of it cannot be left from within.
Body parse_buffered_block(ParseState& state, std::string_view end_name) {
  const int loops = std::exchange(state.loops, 0);
  ++state.buffers;
  Body body = parse_block(state, {end_name});
  --state.buffers;
  state.loops = loops;
  state.take();
  return body;
}

void refuse_reserved(const ParseState& state, const std::string& name, int line) {
  constexpr std::array<std::string_view, 6> kReserved = {"true", "True", "false", "False", "none", "None"};
  if (std::find(kReserved.begin(), kReserved.end(), name) != kReserved.end()) {
    state.fail(line, "cannot assign to {}", name);
  }
}

Target parse_target_item(ParseState& state, bool with_namespace);

Target parse_target(ParseState& state, bool with_namespace, std::string_view end_name = {}) {
  const NestingGuard guard(state);
  Target target;
  target.is_tuple = false;
  while (!state.is_operator("=") && !state.is_operator(")") && !(!end_name.empty() && state.is_name(end_name))) {
    target.items.push_back(parse_target_item(state, with_namespace));
    if (!state.skip_operator(",")) {
      break;
    }
    target.is_tuple = true;
  }
  if (target.items.empty()) {
    state.fail(state.current().line, "expected a name to assign to, found {}", description(state.current()));
  }
  if (!target.is_tuple) {
    Target only = std::move(target.items.front());
    return only;
  }
  return target;
}

Target parse_target_item(ParseState& state, bool with_namespace) {
  if (state.skip_operator("(")) {
    Target inner = parse_target(state, with_namespace);
    state.expect_operator(")");
    return inner;
  }
  const int line = state.current().line;
  const std::string name = state.take_name("a name to assign to");
  refuse_reserved(state, name, line);
  Target target;
  target.symbol = state.symbol(name);
  if (with_namespace && state.skip_operator(".")) {
    target.attribute = state.take_name("an attribute's name");
  }
  return target;
}

ForStatement parse_for(ParseState& state) {
  ForStatement loop;
  loop.target = parse_target(state, false, "in");
  state.expect_name("in");
  loop.iterable = parse_tuple(state, {.with_conditional = false, .end_name = "recursive"});
  if (state.skip_name("if")) {
    loop.condition = parse_expression(state);
  }
  if (state.is_name("recursive")) {
    state.fail(state.current().line, "a recursive for loop is not supported");
  }
  ++state.loops;
  loop.body = parse_block(state, {"else", "endfor"});
  --state.loops;
  if (state.take().text == "else") {
    loop.otherwise = parse_block(state, {"endfor"});
    state.take();
  }
  return loop;
}

IfStatement parse_if(ParseState& state) {
  IfStatement statement;
  while (true) {
    ExpressionPointer condition = parse_tuple(state, {.with_conditional = false});
    Body body = parse_block(state, {"elif", "else", "endif"});
    statement.branches.emplace_back(std::move(condition), std::move(body));
    const std::string end = state.take().text;
    if (end == "elif") {
      continue;
    }
    if (end == "else") {
      statement.otherwise = parse_block(state, {"endif"});
      state.take();
    }
    return statement;
  }
}

Statement parse_set(ParseState& state, int line) {
  Target target = parse_target(state, true);
  if (state.skip_operator("=")) {
    return {line, SetStatement{std::move(target), parse_tuple(state)}};
  }
  ExpressionPointer filter = parse_filter_chain(state, nullptr, false);
  Body body = parse_buffered_block(state, "endset");
  return {line, BlockSetStatement{std::move(target), std::move(filter), std::move(body)}};
}

std::vector<Parameter> parse_parameters(ParseState& state) {
  std::vector<Parameter> parameters;
  state.expect_operator("(");
  while (!state.is_operator(")")) {
    const int line = state.current().line;
    Parameter parameter;
    parameter.name = state.take_name("a parameter's name");
    refuse_reserved(state, parameter.name, line);
    parameter.symbol = state.symbol(parameter.name);
    if (parameter.symbol < kPredefinedSymbols) {
      state.fail(line, "a parameter named {} is not supported", parameter.name);
    }
    if (state.skip_operator("=")) {
      parameter.fallback = parse_expression(state);
    } else if (!parameters.empty() && parameters.back().fallback != nullptr) {
      state.fail(line, "the parameter {} without a default follows one that has a default", parameter.name);
    }
    parameters.push_back(std::move(parameter));
    if (!state.skip_operator(",")) {
      break;
    }
  }
  state.expect_operator(")");
  return parameters;
}

/// Parses the body of `macro` and notes which of the special names it uses (these count for the macros around it, too,
/// as in Jinja).
void parse_macro_body(ParseState& state, MacroStatement& macro, std::string_view end_name) {
  MacroStatement* const outer = std::exchange(state.macro, &macro);
  macro.body = parse_buffered_block(state, end_name);
  state.macro = outer;
  if (outer != nullptr) {
    outer->uses_caller |= macro.uses_caller;
    outer->uses_varargs |= macro.uses_varargs;
    outer->uses_kwargs |= macro.uses_kwargs;
  }
}

MacroStatement parse_macro(ParseState& state) {
  MacroStatement macro;
  const int line = state.current().line;
  macro.name = state.take_name("a macro's name");
  refuse_reserved(state, macro.name, line);
  macro.symbol = state.symbol(macro.name);
  macro.parameters = parse_parameters(state);
  parse_macro_body(state, macro, "endmacro");
  return macro;
}

CallStatement parse_call_block(ParseState& state, int line) {
  CallStatement statement;
  statement.caller.name = "caller";
  statement.caller.symbol = kCallerSymbol;
  if (state.is_operator("(")) {
    statement.caller.parameters = parse_parameters(state);
  }
  statement.call = parse_expression(state);
  if (!std::holds_alternative<CallExpression>(statement.call->node)) {
    state.fail(line, "{{% call %}} expects the call of a macro");
  }
  parse_macro_body(state, statement.caller, "endcall");
  return statement;
}

WithStatement parse_with(ParseState& state) {
  WithStatement statement;
  while (!state.is(TokenType::kBlockEnd)) {
    Target target = parse_target(state, false);
    state.expect_operator("=");
    ExpressionPointer value = parse_expression(state);
    statement.values.emplace_back(std::move(target), std::move(value));
    if (!state.skip_operator(",")) {
      break;
    }
  }
  statement.body = parse_block(state, {"endwith"});
  state.take();
  return statement;
}

GenerationStatement parse_generation(ParseState& state, int line) {
  if (state.buffers > 0 || state.in_generation) {
    state.fail(line,
               "{{% generation %}} within a macro, call, filter, block set or another generation block is not "
               "supported: its place in the text is not known");
  }
  state.has_generation = true;
  state.in_generation = true;
  const int loops = std::exchange(state.loops, 0);
  GenerationStatement statement{parse_block(state, {"endgeneration"})};
  state.loops = loops;
  state.in_generation = false;
  state.take();
  return statement;
}

FilterStatement parse_filter_block(ParseState& state) {
  FilterStatement statement;
  statement.filter = parse_filter_chain(state, nullptr, true);
  statement.body = parse_buffered_block(state, "endfilter");
  return statement;
}

Statement parse_statement(ParseState& state) {
  const int line = state.current().line;
  const std::string tag = state.take_name("a statement's name behind {%");
  if (tag == "for") {
    return {line, parse_for(state)};
  }
  if (tag == "if") {
    return {line, parse_if(state)};
  }
  if (tag == "set") {
    return parse_set(state, line);
  }
  if (tag == "macro") {
    return {line, parse_macro(state)};
  }
  if (tag == "call") {
    return {line, parse_call_block(state, line)};
  }
  if (tag == "filter") {
    return {line, parse_filter_block(state)};
  }
  if (tag == "with") {
    return {line, parse_with(state)};
  }
  if (tag == "generation") {
    return {line, parse_generation(state, line)};
  }
  if (tag == "break" || tag == "continue") {
    if (state.loops == 0) {
      state.fail(line, "{{% {} %}} outside of a for loop", tag);
    }
    return tag == "break" ? Statement{line, BreakStatement{}} : Statement{line, ContinueStatement{}};
  }
  const std::vector<std::string> known = {"for",    "if",         "set",    "macro",    "call", "filter",
                                          "with",   "generation", "break",  "continue", "elif", "else",
                                          "endfor", "endif",      "endset", "endmacro", "raw"};
  state.fail(line, "the statement {{% {} %}} is not supported here{}", tag, base::suggestion(tag, known));
}

}  // namespace

ParseState::ParseState(std::string_view source, std::string_view template_name)
    : name(template_name), tokens(tokenize(source, template_name)) {
  for (const char* predefined : {"loop", "caller", "varargs", "kwargs"}) {
    symbol(predefined);
  }
}

Token ParseState::take() {
  Token token = current();
  position += position + 1 < tokens.size() ? 1 : 0;
  return token;
}

bool ParseState::skip_operator(std::string_view text) {
  const bool found = is_operator(text);
  position += found ? 1 : 0;
  return found;
}

bool ParseState::skip_name(std::string_view text) {
  const bool found = is_name(text);
  position += found ? 1 : 0;
  return found;
}

void ParseState::expect_operator(std::string_view text) {
  if (!skip_operator(text)) {
    fail(current().line, "expected \"{}\", found {}", text, description(current()));
  }
}

void ParseState::expect_name(std::string_view text) {
  if (!skip_name(text)) {
    fail(current().line, "expected \"{}\", found {}", text, description(current()));
  }
}

std::string ParseState::take_name(std::string_view what) {
  if (!is(TokenType::kName)) {
    fail(current().line, "expected {}, found {}", what, description(current()));
  }
  return take().text;
}

void ParseState::expect(TokenType type) {
  if (!is(type)) {
    fail(current().line, "expected {}, found {}", description(Token{type, 0, {}}), description(current()));
  }
  take();
}

int ParseState::symbol(const std::string& text) {
  const auto [found, added] = symbol_numbers.try_emplace(text, static_cast<int>(symbols.size()));
  if (added) {
    symbols.push_back(text);
  }
  return found->second;
}

NestingGuard::NestingGuard(ParseState& state) : state_(state) {
  if (++state_.nesting > kMaximumParserNesting) {
    --state_.nesting;
    state_.fail(state_.current().line, "more than {} levels of nesting are not supported", kMaximumParserNesting);
  }
}

std::string description(const Token& token) {
  switch (token.type) {
    case TokenType::kData:
      return "text";
    case TokenType::kBlockBegin:
      return "\"{%\"";
    case TokenType::kBlockEnd:
      return "\"%}\"";
    case TokenType::kVariableBegin:
      return "\"{{\"";
    case TokenType::kVariableEnd:
      return "\"}}\"";
    case TokenType::kString:
      return "a string";
    case TokenType::kEnd:
      return "the end of the template";
    default:
      return fmt::format("\"{}\"", token.text);
  }
}

Syntax parse(std::string_view source, std::string_view name) {
  ParseState state(source, name);
  Syntax syntax;
  syntax.body = parse_body(state, {});
  syntax.symbols = std::move(state.symbols);
  syntax.has_generation = state.has_generation;
  return syntax;
}

}  // namespace flyover::data::jinja
