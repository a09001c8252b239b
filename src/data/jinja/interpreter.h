// Walks the syntax tree of a template. One interpreter renders once.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/jinja/syntax.h"
#include "data/jinja/template.h"
#include "data/jinja/value.h"

namespace flyover::data::jinja {

/// Names that are visible in a part of the template. An inner scope reads those around it and writes only its own.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<int, Value>> values;

  void set(int symbol, Value value);
  const Value* find(int symbol) const;
};

class Interpreter {
 public:
  Interpreter(const Syntax& syntax, const RenderOptions& options) : syntax_(syntax), options_(options) {}
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  Rendered run(const base::Json& variables);
  /// Of what was evaluated last.
  int line() const { return line_; }

  /// For the global functions.
  const RenderOptions& options() const { return options_; }
  Value new_namespace(std::vector<std::pair<std::string, Value>> attributes);

 private:
  enum class Flow { kNormal, kBreak, kContinue };
  /// One more level of recursion while it lives.
  class Depth {
   public:
    explicit Depth(Interpreter& interpreter);
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;
    ~Depth() { --interpreter_.depth_; }

   private:
    Interpreter& interpreter_;
  };

  Value evaluate(const Expression& expression);
  Value evaluate(const LiteralExpression& expression);
  Value evaluate(const NameExpression& expression);
  Value evaluate(const ListExpression& expression);
  Value evaluate(const TupleExpression& expression);
  Value evaluate(const DictExpression& expression);
  Value evaluate(const UnaryExpression& expression);
  Value evaluate(const BinaryExpression& expression);
  Value evaluate(const LogicalExpression& expression);
  Value evaluate(const CompareExpression& expression);
  Value evaluate(const ConcatenateExpression& expression);
  Value evaluate(const ConditionalExpression& expression);
  Value evaluate(const AttributeExpression& expression);
  Value evaluate(const SubscriptExpression& expression);
  Value evaluate(const SliceExpression& expression);
  Value evaluate(const CallExpression& expression);
  Value evaluate(const FilterExpression& expression);
  Value evaluate(const TestExpression& expression);
  std::vector<Value> evaluate_all(const std::vector<ExpressionPointer>& expressions);
  Arguments evaluate_arguments(const CallArguments& arguments);
  bool holds(Comparison comparison, const Value& left, const Value& right);
  Value call(const Value& function, Arguments& arguments);
  Value apply_filter(const FilterExpression& filter, const Value& input);
  /// A chain of filters around a block's text.
  Value apply_filters(const Expression& filter, const Value& text);
  Function make_macro(const MacroStatement& macro);
  Value call_macro(const MacroStatement& macro, const std::shared_ptr<Scope>& defined_in, Arguments& arguments);
  void bind_parameters(const MacroStatement& macro, Arguments& arguments);

  Flow execute(const Body& body);
  Flow execute(const DataStatement& statement);
  Flow execute(const OutputStatement& statement);
  Flow execute(const ForStatement& statement);
  Flow execute(const IfStatement& statement);
  Flow execute(const SetStatement& statement);
  Flow execute(const BlockSetStatement& statement);
  Flow execute(const MacroStatement& statement);
  Flow execute(const CallStatement& statement);
  Flow execute(const FilterStatement& statement);
  Flow execute(const WithStatement& statement);
  Flow execute(const GenerationStatement& statement);
  Flow execute(const BreakStatement& statement);
  Flow execute(const ContinueStatement& statement);
  std::shared_ptr<Loop> start_loop(const ForStatement& statement);
  /// The text of a body, run in a scope of its own within `parent`.
  Value captured(const Body& body, const std::shared_ptr<Scope>& parent);
  void assign(const Target& target, const Value& value);
  void write(std::string_view text);
  void charge(std::uint64_t bytes);
  /// Charges for the text or the elements of a value.
  void charge(const Value& value);
  void charge_deeply(const Value& value);

  const Syntax& syntax_;
  const RenderOptions& options_;
  std::deque<Namespace> namespaces_;
  std::shared_ptr<Scope> scope_;
  std::string* output_ = nullptr;
  std::vector<Span> generation_;
  std::uint64_t steps_ = 0;
  std::uint64_t work_bytes_ = 0;
  int depth_ = 0;
  int line_ = 1;
};

}  // namespace flyover::data::jinja
