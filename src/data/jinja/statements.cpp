// The statements of templates.
#include <algorithm>

#include "base/error.h"
#include "data/jinja/builtins.h"
#include "data/jinja/interpreter.h"

namespace flyover::data::jinja {

void Interpreter::write(std::string_view text) {
  base::require(output_->size() + text.size() <= options_.maximum_output_bytes,
                "the rendered text is longer than {} bytes", options_.maximum_output_bytes);
  output_->append(text);
}

Value Interpreter::captured(const Body& body, const std::shared_ptr<Scope>& parent) {
  std::string text;
  std::string* const outer_output = std::exchange(output_, &text);
  const std::shared_ptr<Scope> outer_scope = std::exchange(scope_, std::make_shared<Scope>(Scope{parent, {}}));
  execute(body);
  scope_ = outer_scope;
  output_ = outer_output;
  charge(text.size());
  return Value::string(std::move(text));
}

void Interpreter::assign(const Target& target, const Value& value) {
  if (target.is_tuple) {
    const std::vector<Value> items = iterate(value);
    base::require(items.size() == target.items.size(), "cannot unpack {} values into {} names", items.size(),
                  target.items.size());
    for (std::size_t i = 0; i < items.size(); ++i) {
      assign(target.items[i], items[i]);
    }
    return;
  }
  if (target.attribute.empty()) {
    scope_->set(target.symbol, value);
    return;
  }
  const Value* object = scope_->find(target.symbol);
  const std::string& name = syntax_.symbols[static_cast<std::size_t>(target.symbol)];
  base::require(object != nullptr && object->is(Kind::kNamespace), "cannot set an attribute of {}: it is no namespace",
                name);
  base::require(!target.attribute.starts_with('_'), "a namespace cannot have the attribute {}", target.attribute);
  auto& attributes = object->as_namespace().attributes;
  const auto found = std::find_if(attributes.begin(), attributes.end(),
                                  [&](const auto& attribute) { return attribute.first == target.attribute; });
  if (found != attributes.end()) {
    found->second = value;
  } else {
    attributes.emplace_back(target.attribute, value);
  }
}

Interpreter::Flow Interpreter::execute(const Body& body) {
  const Depth depth(*this);
  for (const Statement& statement : body) {
    line_ = statement.line;
    base::require(++steps_ <= options_.maximum_steps, "rendering takes more than {} steps", options_.maximum_steps);
    const Flow flow = std::visit([this](const auto& node) { return execute(node); }, statement.node);
    if (flow != Flow::kNormal) {
      return flow;
    }
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute(const DataStatement& statement) {
  write(statement.text);
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute(const OutputStatement& statement) {
  const Value value = evaluate(*statement.value);
  if (value.is(Kind::kString)) {
    write(value.text());
  } else {
    write(to_text(value));
  }
  return Flow::kNormal;
}

std::shared_ptr<Loop> Interpreter::start_loop(const ForStatement& statement) {
  const Value iterable = evaluate(*statement.iterable);
  charge(iterable);
  auto loop = std::make_shared<Loop>();
  if (statement.condition == nullptr) {
    loop->items = iterate(iterable);
    return loop;
  }
  // Jinja filters lazily: what the body does to a namespace shows in the condition of the next item.
  loop->candidates = iterate(iterable);
  loop->fetch = [this, &statement, next = std::size_t{0}, outer = scope_, filled = loop.get()]() mutable {
    while (next < filled->candidates.size()) {
      const Value item = filled->candidates[next++];
      const std::shared_ptr<Scope> previous = std::exchange(scope_, std::make_shared<Scope>(Scope{outer, {}}));
      assign(statement.target, item);
      const bool wanted = truthy(evaluate(*statement.condition));
      scope_ = previous;
      if (wanted) {
        filled->items.push_back(item);
        return true;
      }
    }
    return false;
  };
  return loop;
}

Interpreter::Flow Interpreter::execute(const ForStatement& statement) {
  const std::shared_ptr<Loop> loop = start_loop(statement);
  const Value loop_value = Value::loop(loop);
  const std::shared_ptr<Scope> outer = scope_;
  bool completed_one = false;
  for (; loop->has(loop->index); ++loop->index) {
    base::require(++steps_ <= options_.maximum_steps, "rendering takes more than {} steps", options_.maximum_steps);
    const Value item = loop->items[loop->index];
    scope_ = std::make_shared<Scope>(Scope{outer, {}});
    scope_->set(kLoopSymbol, loop_value);
    assign(statement.target, item);
    const Flow flow = execute(statement.body);
    scope_ = outer;
    if (flow == Flow::kBreak) {
      break;
    }
    completed_one = completed_one || flow == Flow::kNormal;
  }
  loop->fetch = nullptr;
  // As Jinja compiles it: `else` runs unless the body reached its end once.
  if (!completed_one && !statement.otherwise.empty()) {
    scope_ = std::make_shared<Scope>(Scope{outer, {}});
    const Flow flow = execute(statement.otherwise);
    scope_ = outer;
    return flow;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute(const IfStatement& statement) {
  for (const auto& [condition, body] : statement.branches) {
    if (truthy(evaluate(*condition))) {
      return execute(body);
    }
  }
  return execute(statement.otherwise);
}

Interpreter::Flow Interpreter::execute(const SetStatement& statement) {
  assign(statement.target, evaluate(*statement.value));
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute(const BlockSetStatement& statement) {
  Value text = captured(statement.body, scope_);
  if (statement.filter != nullptr) {
    text = apply_filters(*statement.filter, text);
  }
  assign(statement.target, text);
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute(const MacroStatement& statement) {
  scope_->set(statement.symbol, Value::function(make_macro(statement)));
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute(const CallStatement& statement) {
  const auto& expression = std::get<CallExpression>(statement.call->node);
  const Value function = evaluate(*expression.function);
  Arguments arguments = evaluate_arguments(expression.arguments);
  arguments.named.emplace_back("caller", Value::function(make_macro(statement.caller)));
  line_ = statement.call->line;
  write(to_text(call(function, arguments)));
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute(const FilterStatement& statement) {
  const Value text = captured(statement.body, scope_);
  write(to_text(apply_filters(*statement.filter, text)));
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute(const WithStatement& statement) {
  const std::shared_ptr<Scope> outer = scope_;
  std::vector<Value> values;
  for (const auto& [target, value] : statement.values) {
    values.push_back(evaluate(*value));
  }
  scope_ = std::make_shared<Scope>(Scope{outer, {}});
  for (std::size_t i = 0; i < values.size(); ++i) {
    assign(statement.values[i].first, values[i]);
  }
  const Flow flow = execute(statement.body);
  scope_ = outer;
  return flow;
}

Interpreter::Flow Interpreter::execute(const GenerationStatement& statement) {
  const std::size_t begin = output_->size();
  const std::shared_ptr<Scope> outer = std::exchange(scope_, std::make_shared<Scope>(Scope{scope_, {}}));
  execute(statement.body);
  scope_ = outer;
  generation_.push_back({begin, output_->size()});
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::execute(const BreakStatement&) {
  return Flow::kBreak;
}

Interpreter::Flow Interpreter::execute(const ContinueStatement&) {
  return Flow::kContinue;
}

}  // namespace flyover::data::jinja
