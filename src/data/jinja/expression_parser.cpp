// Expressions, with the precedence of Jinja: conditional, or, and, not, comparisons, + -, ~, * / // %, **, unary,
// postfix, filters and tests.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "data/jinja/builtins.h"
#include "data/jinja/parse_state.h"

namespace flyover::data::jinja {
namespace {

constexpr int kMaximumExpressionDepth = 300;

int depth_of(const ExpressionPointer& expression) {
  return expression == nullptr ? 0 : expression->depth;
}

int depth_of(const std::vector<ExpressionPointer>& expressions) {
  int deepest = 0;
  for (const ExpressionPointer& expression : expressions) {
    deepest = std::max(deepest, depth_of(expression));
  }
  return deepest;
}

int depth_of(const CallArguments& arguments) {
  int deepest = depth_of(arguments.positional);
  for (const auto& [name, value] : arguments.named) {
    deepest = std::max(deepest, depth_of(value));
  }
  return deepest;
}

template <typename Node>
ExpressionPointer make(const ParseState& state, int line, int depth_below, Node node) {
  if (depth_below >= kMaximumExpressionDepth) {
    state.fail(line, "an expression of more than {} levels is not supported", kMaximumExpressionDepth);
  }
  auto expression = std::make_unique<Expression>();
  expression->line = line;
  expression->depth = depth_below + 1;
  expression->node = std::move(node);
  return expression;
}

ExpressionPointer parse_unary(ParseState& state, bool with_filter = true);
ExpressionPointer parse_primary(ParseState& state);
ExpressionPointer parse_postfix(ParseState& state, ExpressionPointer expression);

ExpressionPointer literal(const ParseState& state, int line, Value value) {
  return make(state, line, 0, LiteralExpression{std::move(value)});
}

ExpressionPointer parse_number(ParseState& state) {
  const Token token = state.take();
  const char* const first = token.text.data();
  const char* const last = first + token.text.size();
  if (token.type == TokenType::kFloat) {
    double value = 0;
    const auto result = std::from_chars(first, last, value);
    if (result.ec != std::errc()) {
      state.fail(token.line, "the number {} is out of range", token.text);
    }
    return literal(state, token.line, Value::number(value));
  }
  std::int64_t value = 0;
  const auto result = std::from_chars(first, last, value);
  if (result.ec != std::errc()) {
    state.fail(token.line, "the integer {} does not fit into 64 bits", token.text);
  }
  return literal(state, token.line, Value::integer(value));
}

ExpressionPointer parse_list(ParseState& state) {
  const int line = state.current().line;
  state.expect_operator("[");
  ListExpression list;
  while (!state.is_operator("]")) {
    list.items.push_back(parse_expression(state));
    if (!state.skip_operator(",")) {
      break;
    }
  }
  state.expect_operator("]");
  const int depth = depth_of(list.items);
  return make(state, line, depth, std::move(list));
}

ExpressionPointer parse_dict(ParseState& state) {
  const int line = state.current().line;
  state.expect_operator("{");
  DictExpression dict;
  int depth = 0;
  while (!state.is_operator("}")) {
    ExpressionPointer key = parse_expression(state);
    state.expect_operator(":");
    ExpressionPointer value = parse_expression(state);
    depth = std::max({depth, depth_of(key), depth_of(value)});
    dict.entries.emplace_back(std::move(key), std::move(value));
    if (!state.skip_operator(",")) {
      break;
    }
  }
  state.expect_operator("}");
  return make(state, line, depth, std::move(dict));
}

ExpressionPointer parse_name(ParseState& state) {
  const Token token = state.take();
  if (token.text == "true" || token.text == "True" || token.text == "false" || token.text == "False") {
    return literal(state, token.line, Value::boolean(token.text == "true" || token.text == "True"));
  }
  if (token.text == "none" || token.text == "None") {
    return literal(state, token.line, Value::none());
  }
  const int symbol = state.symbol(token.text);
  if (state.macro != nullptr) {
    state.macro->uses_caller |= symbol == kCallerSymbol;
    state.macro->uses_varargs |= symbol == kVarargsSymbol;
    state.macro->uses_kwargs |= symbol == kKwargsSymbol;
  }
  return make(state, token.line, 0, NameExpression{symbol});
}

ExpressionPointer parse_primary(ParseState& state) {
  const int line = state.current().line;
  switch (state.current().type) {
    case TokenType::kName:
      return parse_name(state);
    case TokenType::kString: {
      std::string text;
      while (state.is(TokenType::kString)) {
        text += state.take().text;
      }
      return literal(state, line, Value::string(std::move(text)));
    }
    case TokenType::kInteger:
    case TokenType::kFloat:
      return parse_number(state);
    default:
      break;
  }
  if (state.skip_operator("(")) {
    ExpressionPointer inner = parse_tuple(state, {.in_parentheses = true});
    state.expect_operator(")");
    return inner;
  }
  if (state.is_operator("[")) {
    return parse_list(state);
  }
  if (state.is_operator("{")) {
    return parse_dict(state);
  }
  state.fail(line, "expected an expression, found {}", description(state.current()));
}

CallArguments parse_arguments(ParseState& state) {
  CallArguments arguments;
  state.expect_operator("(");
  while (!state.is_operator(")")) {
    const int line = state.current().line;
    if (state.is_operator("*") || state.is_operator("**")) {
      state.fail(line, "unpacking arguments with {} is not supported", state.current().text);
    }
    if (state.is(TokenType::kName) && state.look_ahead().type == TokenType::kOperator &&
        state.look_ahead().text == "=") {
      std::string name = state.take().text;
      state.take();
      const auto same = [&](const auto& argument) { return argument.first == name; };
      if (std::any_of(arguments.named.begin(), arguments.named.end(), same)) {
        state.fail(line, "the argument {} is given twice", name);
      }
      ExpressionPointer value = parse_expression(state);
      arguments.named.emplace_back(std::move(name), std::move(value));
    } else {
      if (!arguments.named.empty()) {
        state.fail(line, "a positional argument follows a named one");
      }
      arguments.positional.push_back(parse_expression(state));
    }
    if (!state.skip_operator(",")) {
      break;
    }
  }
  state.expect_operator(")");
  return arguments;
}

ExpressionPointer parse_call(ParseState& state, ExpressionPointer function) {
  const int line = state.current().line;
  CallArguments arguments = parse_arguments(state);
  const int depth = std::max(depth_of(function), depth_of(arguments));
  return make(state, line, depth, CallExpression{std::move(function), std::move(arguments)});
}

ExpressionPointer parse_brackets(ParseState& state, ExpressionPointer object) {
  const int line = state.current().line;
  state.expect_operator("[");
  std::array<ExpressionPointer, 3> parts;  // index or start, stop, step
  std::size_t count = 0;
  bool is_slice = false;
  while (!state.is_operator("]")) {
    if (state.skip_operator(":")) {
      is_slice = true;
      if (++count > 2) {
        state.fail(line, "a slice has at most two colons");
      }
    } else if (parts[count] == nullptr) {
      parts[count] = parse_expression(state);
    } else {
      state.fail(line, "expected ] or :, found {}", description(state.current()));
    }
  }
  state.expect_operator("]");
  if (!is_slice && parts[0] == nullptr) {
    state.fail(line, "expected an index between [ and ]");
  }
  const int depth = std::max({depth_of(object), depth_of(parts[0]), depth_of(parts[1]), depth_of(parts[2])});
  if (is_slice) {
    return make(state, line, depth,
                SliceExpression{std::move(object), std::move(parts[0]), std::move(parts[1]), std::move(parts[2])});
  }
  return make(state, line, depth, SubscriptExpression{std::move(object), std::move(parts[0])});
}

ExpressionPointer parse_dot(ParseState& state, ExpressionPointer object) {
  const int line = state.current().line;
  state.expect_operator(".");
  const int depth = depth_of(object);
  if (state.is(TokenType::kInteger)) {
    ExpressionPointer index = parse_number(state);
    return make(state, line, std::max(depth, 1), SubscriptExpression{std::move(object), std::move(index)});
  }
  return make(state, line, depth, AttributeExpression{std::move(object), state.take_name("an attribute's name")});
}

ExpressionPointer parse_postfix(ParseState& state, ExpressionPointer expression) {
  while (true) {
    if (state.is_operator(".")) {
      expression = parse_dot(state, std::move(expression));
    } else if (state.is_operator("[")) {
      expression = parse_brackets(state, std::move(expression));
    } else if (state.is_operator("(")) {
      expression = parse_call(state, std::move(expression));
    } else {
      return expression;
    }
  }
}

ExpressionPointer parse_one_filter(ParseState& state, ExpressionPointer input) {
  const int line = state.current().line;
  std::string name = state.take_name("a filter's name");
  const FilterFunction function = find_filter(name);
  if (function == nullptr) {
    state.fail(line, "the filter \"{}\" is not supported", name);
  }
  CallArguments arguments = state.is_operator("(") ? parse_arguments(state) : CallArguments();
  const int depth = std::max(depth_of(input), depth_of(arguments));
  return make(state, line, depth, FilterExpression{std::move(input), std::move(name), function, std::move(arguments)});
}

ExpressionPointer parse_test(ParseState& state, ExpressionPointer input) {
  const int line = state.current().line;
  state.expect_name("is");
  const bool negated = state.skip_name("not");
  std::string name = state.take_name("a test's name");
  const TestFunction function = find_test(name);
  if (function == nullptr) {
    state.fail(line, "the test \"{}\" is not supported", name);
  }
  CallArguments arguments;
  if (state.is_operator("(")) {
    arguments = parse_arguments(state);
  } else if (state.is_name("is")) {
    state.fail(line, "tests cannot be chained with is");
  } else if ((state.is(TokenType::kName) && !state.is_name("else") && !state.is_name("or") && !state.is_name("and")) ||
             state.is(TokenType::kString) || state.is(TokenType::kInteger) || state.is(TokenType::kFloat) ||
             state.is_operator("[") || state.is_operator("{")) {
    arguments.positional.push_back(parse_postfix(state, parse_primary(state)));
  }
  const int depth = std::max(depth_of(input), depth_of(arguments));
  ExpressionPointer test =
      make(state, line, depth, TestExpression{std::move(input), std::move(name), function, std::move(arguments)});
  return negated ? make(state, line, depth + 1, UnaryExpression{UnaryOperator::kNot, std::move(test)})
                 : std::move(test);
}

ExpressionPointer parse_filters_and_tests(ParseState& state, ExpressionPointer expression) {
  while (true) {
    if (state.skip_operator("|")) {
      expression = parse_one_filter(state, std::move(expression));
    } else if (state.is_name("is")) {
      expression = parse_test(state, std::move(expression));
    } else if (state.is_operator("(")) {
      expression = parse_call(state, std::move(expression));
    } else {
      return expression;
    }
  }
}

ExpressionPointer parse_unary(ParseState& state, bool with_filter) {
  const NestingGuard guard(state);
  const int line = state.current().line;
  ExpressionPointer expression;
  if (state.is_operator("-") || state.is_operator("+")) {
    const auto operation = state.take().text == "-" ? UnaryOperator::kNegate : UnaryOperator::kPlus;
    ExpressionPointer operand = parse_unary(state, false);
    const int depth = depth_of(operand);
    expression = make(state, line, depth, UnaryExpression{operation, std::move(operand)});
  } else {
    expression = parse_primary(state);
  }
  expression = parse_postfix(state, std::move(expression));
  return with_filter ? parse_filters_and_tests(state, std::move(expression)) : std::move(expression);
}

using Operators = std::initializer_list<std::pair<std::string_view, BinaryOperator>>;

template <typename Operand>
ExpressionPointer parse_binary(ParseState& state, const Operators& operators, const Operand& parse_operand) {
  ExpressionPointer left = parse_operand(state);
  while (state.is(TokenType::kOperator)) {
    const auto* const found = std::find_if(operators.begin(), operators.end(),
                                           [&](const auto& entry) { return entry.first == state.current().text; });
    if (found == operators.end()) {
      break;
    }
    const int line = state.take().line;
    ExpressionPointer right = parse_operand(state);
    const int depth = std::max(depth_of(left), depth_of(right));
    left = make(state, line, depth, BinaryExpression{found->second, std::move(left), std::move(right)});
  }
  return left;
}

ExpressionPointer parse_power(ParseState& state) {
  return parse_binary(state, {{"**", BinaryOperator::kPower}}, [](ParseState& inner) { return parse_unary(inner); });
}

ExpressionPointer parse_product(ParseState& state) {
  return parse_binary(state,
                      {{"*", BinaryOperator::kMultiply},
                       {"/", BinaryOperator::kDivide},
                       {"//", BinaryOperator::kFloorDivide},
                       {"%", BinaryOperator::kModulo}},
                      parse_power);
}

ExpressionPointer parse_concatenation(ParseState& state) {
  const int line = state.current().line;
  ExpressionPointer first = parse_product(state);
  if (!state.is_operator("~")) {
    return first;
  }
  ConcatenateExpression concatenation;
  concatenation.parts.push_back(std::move(first));
  while (state.skip_operator("~")) {
    concatenation.parts.push_back(parse_product(state));
  }
  const int depth = depth_of(concatenation.parts);
  return make(state, line, depth, std::move(concatenation));
}

ExpressionPointer parse_sum(ParseState& state) {
  return parse_binary(state, {{"+", BinaryOperator::kAdd}, {"-", BinaryOperator::kSubtract}}, parse_concatenation);
}

/// Takes a comparison operator if one is next.
bool take_comparison(ParseState& state, Comparison& comparison) {
  constexpr std::array<std::pair<std::string_view, Comparison>, 6> kComparisons = {{{"==", Comparison::kEqual},
                                                                                    {"!=", Comparison::kNotEqual},
                                                                                    {"<", Comparison::kLess},
                                                                                    {"<=", Comparison::kLessEqual},
                                                                                    {">", Comparison::kGreater},
                                                                                    {">=", Comparison::kGreaterEqual}}};
  for (const auto& [text, meaning] : kComparisons) {
    if (state.skip_operator(text)) {
      comparison = meaning;
      return true;
    }
  }
  if (state.skip_name("in")) {
    comparison = Comparison::kIn;
    return true;
  }
  if (state.is_name("not") && state.look_ahead().type == TokenType::kName && state.look_ahead().text == "in") {
    state.take();
    state.take();
    comparison = Comparison::kNotIn;
    return true;
  }
  return false;
}

ExpressionPointer parse_comparison(ParseState& state) {
  const int line = state.current().line;
  ExpressionPointer first = parse_sum(state);
  CompareExpression compare;
  int depth = depth_of(first);
  for (Comparison comparison{}; take_comparison(state, comparison);) {
    ExpressionPointer operand = parse_sum(state);
    depth = std::max(depth, depth_of(operand));
    compare.rest.emplace_back(comparison, std::move(operand));
  }
  if (compare.rest.empty()) {
    return first;
  }
  compare.first = std::move(first);
  return make(state, line, depth, std::move(compare));
}

ExpressionPointer parse_not(ParseState& state) {
  if (!state.is_name("not")) {
    return parse_comparison(state);
  }
  const NestingGuard guard(state);
  const int line = state.take().line;
  ExpressionPointer operand = parse_not(state);
  const int depth = depth_of(operand);
  return make(state, line, depth, UnaryExpression{UnaryOperator::kNot, std::move(operand)});
}

template <typename Operand>
ExpressionPointer parse_logical(ParseState& state, bool is_and, const Operand& parse_operand) {
  ExpressionPointer left = parse_operand(state);
  while (state.is_name(is_and ? "and" : "or")) {
    const int line = state.take().line;
    ExpressionPointer right = parse_operand(state);
    const int depth = std::max(depth_of(left), depth_of(right));
    left = make(state, line, depth, LogicalExpression{is_and, std::move(left), std::move(right)});
  }
  return left;
}

ExpressionPointer parse_or(ParseState& state) {
  return parse_logical(state, false, [](ParseState& inner) { return parse_logical(inner, true, parse_not); });
}

bool at_tuple_end(const ParseState& state, const TupleOptions& options) {
  return state.is(TokenType::kVariableEnd) || state.is(TokenType::kBlockEnd) || state.is_operator(")") ||
         (!options.end_name.empty() && state.is_name(options.end_name));
}

}  // namespace

ExpressionPointer parse_expression(ParseState& state, bool with_conditional) {
  const NestingGuard guard(state);
  int line = state.current().line;
  ExpressionPointer expression = parse_or(state);
  while (with_conditional && state.skip_name("if")) {
    ExpressionPointer condition = parse_or(state);
    ExpressionPointer otherwise = state.skip_name("else") ? parse_expression(state) : nullptr;
    const int depth = std::max({depth_of(expression), depth_of(condition), depth_of(otherwise)});
    expression = make(state, line, depth,
                      ConditionalExpression{std::move(condition), std::move(expression), std::move(otherwise)});
    line = state.current().line;
  }
  return expression;
}

ExpressionPointer parse_tuple(ParseState& state, const TupleOptions& options) {
  const int line = state.current().line;
  TupleExpression tuple;
  bool is_tuple = false;
  while (!at_tuple_end(state, options)) {
    tuple.items.push_back(parse_expression(state, options.with_conditional));
    if (!state.skip_operator(",")) {
      break;
    }
    is_tuple = true;
  }
  if (!is_tuple && !tuple.items.empty()) {
    return std::move(tuple.items.front());
  }
  if (!is_tuple && !options.in_parentheses) {
    state.fail(line, "expected an expression, found {}", description(state.current()));
  }
  const int depth = depth_of(tuple.items);
  return make(state, line, depth, std::move(tuple));
}

ExpressionPointer parse_filter_chain(ParseState& state, ExpressionPointer input, bool started) {
  while (started || state.skip_operator("|")) {
    started = false;
    input = parse_one_filter(state, std::move(input));
  }
  return input;
}

}  // namespace flyover::data::jinja
