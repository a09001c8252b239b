// Scopes, limits and expressions; statements are in statements.cpp.
#include "data/jinja/interpreter.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/jinja/builtins.h"

namespace flyover::data::jinja {
namespace {

/// Nested expressions, statements and macro calls; each takes a few hundred bytes of stack.
constexpr int kMaximumDepth = 1000;
constexpr std::uint64_t kBytesPerElement = 32;

}  // namespace

Interpreter::Depth::Depth(Interpreter& interpreter) : interpreter_(interpreter) {
  base::require(interpreter_.depth_ < kMaximumDepth, "the recursion is deeper than {} levels", kMaximumDepth);
  ++interpreter_.depth_;
}

void Scope::set(int symbol, Value value) {
  for (auto& [known, stored] : values) {
    if (known == symbol) {
      stored = std::move(value);
      return;
    }
  }
  values.emplace_back(symbol, std::move(value));
}

const Value* Scope::find(int symbol) const {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent.get()) {
    for (const auto& [known, value] : scope->values) {
      if (known == symbol) {
        return &value;
      }
    }
  }
  return nullptr;
}

Rendered Interpreter::run(const base::Json& variables) {
  base::require(variables.is_object(), "the variables of a template must be an object, found {}",
                base::json_type_name(variables));
  const auto globals = std::make_shared<Scope>();
  for (int symbol = 0; symbol < static_cast<int>(syntax_.symbols.size()); ++symbol) {
    const std::string& name = syntax_.symbols[static_cast<std::size_t>(symbol)];
    if (const auto found = variables.find(name); found != variables.end()) {
      globals->set(symbol, Value::from_json(*found));
    } else if (Value global = find_global(name); !global.is(Kind::kUndefined)) {
      globals->set(symbol, std::move(global));
    }
  }
  scope_ = std::make_shared<Scope>(Scope{globals, {}});
  Rendered rendered;
  output_ = &rendered.text;
  execute(syntax_.body);
  rendered.generation = std::move(generation_);
  return rendered;
}

Value Interpreter::new_namespace(std::vector<std::pair<std::string, Value>> attributes) {
  charge((attributes.size() + 8) * kBytesPerElement);
  namespaces_.push_back({std::move(attributes)});
  return Value::name_space(&namespaces_.back());
}

void Interpreter::charge(std::uint64_t bytes) {
  work_bytes_ += bytes;
  base::require(work_bytes_ <= options_.maximum_work_bytes, "rendering handles more than {} bytes",
                options_.maximum_work_bytes);
}

void Interpreter::charge(const Value& value) {
  switch (value.kind()) {
    case Kind::kString:
      charge(value.text().size());
      return;
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
    case Kind::kDict:
    case Kind::kRange:
      charge(static_cast<std::uint64_t>(length(value)) * kBytesPerElement);
      return;
    case Kind::kIterator:
      charge(value.as_iterator().items.size() * kBytesPerElement);
      return;
    default:
      return;
  }
}

void Interpreter::charge_deeply(const Value& value) {
  charge(value);
  charge((value.extent().weight - 1) * kBytesPerElement);
}

Value Interpreter::evaluate(const Expression& expression) {
  const Depth depth(*this);
  line_ = expression.line;
  base::require(++steps_ <= options_.maximum_steps, "rendering takes more than {} steps", options_.maximum_steps);
  return std::visit([this](const auto& node) { return evaluate(node); }, expression.node);
}

Value Interpreter::evaluate(const LiteralExpression& expression) {
  return expression.value;
}

Value Interpreter::evaluate(const NameExpression& expression) {
  const Value* found = scope_->find(expression.symbol);
  return found != nullptr ? *found
                          : Value::undefined(fmt::format("'{}' is undefined",
                                                         syntax_.symbols[static_cast<std::size_t>(expression.symbol)]));
}

std::vector<Value> Interpreter::evaluate_all(const std::vector<ExpressionPointer>& expressions) {
  std::vector<Value> values;
  values.reserve(expressions.size());
  for (const ExpressionPointer& expression : expressions) {
    values.push_back(evaluate(*expression));
  }
  charge(values.size() * kBytesPerElement);
  return values;
}

Value Interpreter::evaluate(const ListExpression& expression) {
  return Value::list(evaluate_all(expression.items));
}

Value Interpreter::evaluate(const TupleExpression& expression) {
  return Value::tuple(evaluate_all(expression.items));
}

Value Interpreter::evaluate(const DictExpression& expression) {
  Dict dict;
  for (const auto& [key, value] : expression.entries) {
    const Value evaluated_key = evaluate(*key);
    dict.set(evaluated_key, evaluate(*value));
  }
  charge(expression.entries.size() * 2 * kBytesPerElement);
  return Value::dict(std::move(dict));
}

Value Interpreter::evaluate(const UnaryExpression& expression) {
  const Value operand = evaluate(*expression.operand);
  switch (expression.operation) {
    case UnaryOperator::kNot:
      return Value::boolean(!truthy(operand));
    case UnaryOperator::kNegate:
      return negate(operand);
    case UnaryOperator::kPlus:
      return negate(negate(operand));
  }
  base::check(false, "unknown unary operation");
  return {};
}

Value Interpreter::evaluate(const BinaryExpression& expression) {
  const int line = line_;
  const Value left = evaluate(*expression.left);
  const Value right = evaluate(*expression.right);
  line_ = line;
  Value result = calculate(expression.operation, left, right);
  charge(result);
  return result;
}

Value Interpreter::evaluate(const LogicalExpression& expression) {
  Value left = evaluate(*expression.left);
  return truthy(left) == expression.is_and ? evaluate(*expression.right) : left;
}

bool Interpreter::holds(Comparison comparison, const Value& left, const Value& right) {
  charge_deeply(left);
  charge_deeply(right);
  switch (comparison) {
    case Comparison::kEqual:
      return equal(left, right);
    case Comparison::kNotEqual:
      return !equal(left, right);
    case Comparison::kLess:
      return compare(left, right, "<") == -1;
    case Comparison::kLessEqual: {
      const int order = compare(left, right, "<=");
      return order == -1 || order == 0;
    }
    case Comparison::kGreater:
      return compare(left, right, ">") == 1;
    case Comparison::kGreaterEqual: {
      const int order = compare(left, right, ">=");
      return order == 1 || order == 0;
    }
    case Comparison::kIn:
      return contains(right, left);
    case Comparison::kNotIn:
      return !contains(right, left);
  }
  base::check(false, "unknown comparison");
  return false;
}

Value Interpreter::evaluate(const CompareExpression& expression) {
  const int line = line_;
  Value left = evaluate(*expression.first);
  for (const auto& [comparison, operand] : expression.rest) {
    Value right = evaluate(*operand);
    line_ = line;
    if (!holds(comparison, left, right)) {
      return Value::boolean(false);
    }
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Interpreter::evaluate(const ConcatenateExpression& expression) {
  const int line = line_;
  std::string text;
  for (const ExpressionPointer& part : expression.parts) {
    text += to_text(evaluate(*part));
    line_ = line;
    require_string_size(text.size());
  }
  charge(text.size());
  return Value::string(std::move(text));
}

Value Interpreter::evaluate(const ConditionalExpression& expression) {
  if (truthy(evaluate(*expression.condition))) {
    return evaluate(*expression.then);
  }
  return expression.otherwise != nullptr ? evaluate(*expression.otherwise)
                                         : Value::undefined("the inline if-expression is false and has no else");
}

Value Interpreter::evaluate(const AttributeExpression& expression) {
  const int line = line_;
  const Value object = evaluate(*expression.object);
  line_ = line;
  return get_attribute(object, expression.name);
}

Value Interpreter::evaluate(const SubscriptExpression& expression) {
  const int line = line_;
  const Value object = evaluate(*expression.object);
  const Value index = evaluate(*expression.index);
  line_ = line;
  charge(object.is(Kind::kString) ? object.text().size() : 0);
  return get_item(object, index);
}

Value Interpreter::evaluate(const SliceExpression& expression) {
  const int line = line_;
  const Value object = evaluate(*expression.object);
  const Value start = expression.start != nullptr ? evaluate(*expression.start) : Value::none();
  const Value stop = expression.stop != nullptr ? evaluate(*expression.stop) : Value::none();
  const Value step = expression.step != nullptr ? evaluate(*expression.step) : Value::none();
  line_ = line;
  charge(object);
  return get_slice(object, start, stop, step);
}

Arguments Interpreter::evaluate_arguments(const CallArguments& arguments) {
  Arguments evaluated;
  evaluated.positional = evaluate_all(arguments.positional);
  for (const auto& [name, value] : arguments.named) {
    evaluated.named.emplace_back(name, evaluate(*value));
  }
  return evaluated;
}

Value Interpreter::call(const Value& function, Arguments& arguments) {
  base::require(!function.is(Kind::kUndefined), "{}: it cannot be called",
                function.is(Kind::kUndefined) ? function.undefined_hint() : "");
  base::require(function.is(Kind::kFunction), "'{}' object cannot be called", type_name(function));
  Value result = function.as_function().call(*this, arguments);
  charge(result);
  return result;
}

Value Interpreter::evaluate(const CallExpression& expression) {
  const int line = line_;
  const Value function = evaluate(*expression.function);
  Arguments arguments = evaluate_arguments(expression.arguments);
  line_ = line;
  return call(function, arguments);
}

Value Interpreter::apply_filter(const FilterExpression& filter, const Value& input) {
  const int line = line_;
  Arguments arguments = evaluate_arguments(filter.arguments);
  line_ = line;
  charge(input);
  Value result = filter.function(*this, input, arguments);
  charge(result);
  return result;
}

Value Interpreter::evaluate(const FilterExpression& expression) {
  base::check(expression.input != nullptr, "the filter {} has no input", expression.name);
  const int line = line_;
  const Value input = evaluate(*expression.input);
  line_ = line;
  return apply_filter(expression, input);
}

Value Interpreter::apply_filters(const Expression& filter, const Value& text) {
  const Depth depth(*this);
  line_ = filter.line;
  const auto& node = std::get<FilterExpression>(filter.node);
  return apply_filter(node, node.input == nullptr ? text : apply_filters(*node.input, text));
}

Value Interpreter::evaluate(const TestExpression& expression) {
  const int line = line_;
  const Value input = evaluate(*expression.input);
  Arguments arguments = evaluate_arguments(expression.arguments);
  line_ = line;
  for (const Value& argument : arguments.positional) {
    charge_deeply(argument);
  }
  return Value::boolean(expression.function(input, arguments));
}

void Interpreter::bind_parameters(const MacroStatement& macro, Arguments& arguments) {
  std::vector<Value> extra;
  for (std::size_t i = macro.parameters.size(); i < arguments.positional.size(); ++i) {
    extra.push_back(arguments.positional[i]);
  }
  base::require(extra.empty() || macro.uses_varargs, "the macro {} takes at most {} arguments, found {}", macro.name,
                macro.parameters.size(), arguments.positional.size());
  for (std::size_t i = 0; i < macro.parameters.size(); ++i) {
    const Parameter& parameter = macro.parameters[i];
    const auto named = std::find_if(arguments.named.begin(), arguments.named.end(),
                                    [&](const auto& argument) { return argument.first == parameter.name; });
    if (i < arguments.positional.size()) {
      scope_->set(parameter.symbol, arguments.positional[i]);
    } else if (named != arguments.named.end()) {
      scope_->set(parameter.symbol, named->second);
      arguments.named.erase(named);
    } else if (parameter.fallback != nullptr) {
      scope_->set(parameter.symbol, evaluate(*parameter.fallback));
    } else {
      scope_->set(parameter.symbol, Value::undefined(fmt::format("parameter '{}' was not provided", parameter.name)));
    }
  }
  const auto caller = std::find_if(arguments.named.begin(), arguments.named.end(),
                                   [](const auto& argument) { return argument.first == "caller"; });
  if (macro.uses_caller) {
    const bool given = caller != arguments.named.end();
    scope_->set(kCallerSymbol, given ? caller->second : Value::undefined("the macro was called without a caller"));
    if (given) {
      arguments.named.erase(caller);
    }
  }
  base::require(arguments.named.empty() || macro.uses_kwargs, "the macro {} takes no argument named {}", macro.name,
                arguments.named.empty() ? "" : arguments.named.front().first);
  if (macro.uses_kwargs) {
    Dict rest;
    for (const auto& [name, value] : arguments.named) {
      rest.set(Value::string(name), value);
    }
    scope_->set(kKwargsSymbol, Value::dict(std::move(rest)));
  }
  if (macro.uses_varargs) {
    scope_->set(kVarargsSymbol, Value::tuple(std::move(extra)));
  }
}

Value Interpreter::call_macro(const MacroStatement& macro, const std::shared_ptr<Scope>& defined_in,
                              Arguments& arguments) {
  const Depth depth(*this);
  const std::shared_ptr<Scope> outer = std::exchange(scope_, std::make_shared<Scope>(Scope{defined_in, {}}));
  bind_parameters(macro, arguments);
  Value text = captured(macro.body, scope_);
  scope_ = outer;
  return text;
}

/// A macro sees the scope that it was defined in, without keeping it alive: the scope may hold the macro itself.
Function Interpreter::make_macro(const MacroStatement& macro) {
  Function function;
  function.name = macro.name;
  function.call = [&macro, scope = std::weak_ptr<Scope>(scope_)](Interpreter& interpreter, Arguments& arguments) {
    const std::shared_ptr<Scope> defined_in = scope.lock();
    base::require(defined_in != nullptr, "the macro {} is called outside of the loop or block that defines it",
                  macro.name);
    return interpreter.call_macro(macro, defined_in, arguments);
  };
  return function;
}

}  // namespace flyover::data::jinja
