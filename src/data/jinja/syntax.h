// The syntax tree of a template. Names are numbered at parse time; filters and tests are resolved to functions.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "data/jinja/value.h"

namespace flyover::data::jinja {

struct Expression;
struct Statement;
using ExpressionPointer = std::unique_ptr<Expression>;
using Body = std::vector<Statement>;

/// A built-in filter or test: the value before `|` or `is`, and the arguments.
using FilterFunction = Value (*)(Interpreter&, const Value&, Arguments&);
using TestFunction = bool (*)(const Value&, Arguments&);

struct CallArguments {
  std::vector<ExpressionPointer> positional;
  std::vector<std::pair<std::string, ExpressionPointer>> named;
};

enum class UnaryOperator { kNegate, kPlus, kNot };
enum class BinaryOperator { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
enum class Comparison { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };

struct LiteralExpression {
  Value value;
};
struct NameExpression {
  int symbol = 0;
};
struct ListExpression {
  std::vector<ExpressionPointer> items;
};
struct TupleExpression {
  std::vector<ExpressionPointer> items;
};
struct DictExpression {
  std::vector<std::pair<ExpressionPointer, ExpressionPointer>> entries;
};
struct UnaryExpression {
  UnaryOperator operation;
  ExpressionPointer operand;
};
struct BinaryExpression {
  BinaryOperator operation;
  ExpressionPointer left;
  ExpressionPointer right;
};
/// `and` and `or`, which give one of their operands.
struct LogicalExpression {
  bool is_and = false;
  ExpressionPointer left;
  ExpressionPointer right;
};
/// a < b <= c ...
struct CompareExpression {
  ExpressionPointer first;
  std::vector<std::pair<Comparison, ExpressionPointer>> rest;
};
/// a ~ b ~ c
struct ConcatenateExpression {
  std::vector<ExpressionPointer> parts;
};
struct ConditionalExpression {
  ExpressionPointer condition;
  ExpressionPointer then;
  ExpressionPointer otherwise;  ///< null: undefined
};
struct AttributeExpression {
  ExpressionPointer object;
  std::string name;
};
struct SubscriptExpression {
  ExpressionPointer object;
  ExpressionPointer index;
};
struct SliceExpression {
  ExpressionPointer object;
  ExpressionPointer start;  ///< each may be null
  ExpressionPointer stop;
  ExpressionPointer step;
};
struct CallExpression {
  ExpressionPointer function;
  CallArguments arguments;
};
struct FilterExpression {
  ExpressionPointer input;  ///< null in a filter block and a filtered block set: the block's text
  std::string name;
  FilterFunction function = nullptr;
  CallArguments arguments;
};
struct TestExpression {
  ExpressionPointer input;
  std::string name;
  TestFunction function = nullptr;
  CallArguments arguments;
};

struct Expression {
  int line = 0;
  int depth = 0;  ///< of the tree below, limited by the parser
  std::variant<LiteralExpression, NameExpression, ListExpression, TupleExpression, DictExpression, UnaryExpression,
               BinaryExpression, LogicalExpression, CompareExpression, ConcatenateExpression, ConditionalExpression,
               AttributeExpression, SubscriptExpression, SliceExpression, CallExpression, FilterExpression,
               TestExpression>
      node;
};

/// What is assigned to: a name, an attribute of a namespace, or a tuple of these.
struct Target {
  int symbol = 0;
  std::string attribute;  ///< of the namespace `symbol`, if not empty
  bool is_tuple = false;
  std::vector<Target> items;
};

struct DataStatement {
  std::string text;
};
struct OutputStatement {
  ExpressionPointer value;
};
struct ForStatement {
  Target target;
  ExpressionPointer iterable;
  ExpressionPointer condition;  ///< may be null
  Body body;
  Body otherwise;
};
struct IfStatement {
  std::vector<std::pair<ExpressionPointer, Body>> branches;
  Body otherwise;
};
struct SetStatement {
  Target target;
  ExpressionPointer value;
};
struct BlockSetStatement {
  Target target;
  ExpressionPointer filter;  ///< may be null
  Body body;
};
struct Parameter {
  int symbol = 0;
  std::string name;
  ExpressionPointer fallback;  ///< null: undefined
};
struct MacroStatement {
  int symbol = 0;
  std::string name;
  std::vector<Parameter> parameters;
  bool uses_caller = false;
  bool uses_varargs = false;
  bool uses_kwargs = false;
  Body body;
};
/// {% call(parameters) f(arguments) %} body {% endcall %}: the body is the macro `caller` of the call.
struct CallStatement {
  ExpressionPointer call;
  MacroStatement caller;
};
struct FilterStatement {
  ExpressionPointer filter;
  Body body;
};
struct WithStatement {
  std::vector<std::pair<Target, ExpressionPointer>> values;
  Body body;
};
/// {% generation %}: what the assistant says.
struct GenerationStatement {
  Body body;
};
struct BreakStatement {};
struct ContinueStatement {};

struct Statement {
  int line = 0;
  std::variant<DataStatement, OutputStatement, ForStatement, IfStatement, SetStatement, BlockSetStatement,
               MacroStatement, CallStatement, FilterStatement, WithStatement, GenerationStatement, BreakStatement,
               ContinueStatement>
      node;
};

struct Syntax {
  Body body;
  std::vector<std::string> symbols;  ///< names by number
  bool has_generation = false;
};

/// Numbers that every template gives to the names that the interpreter itself defines.
enum PredefinedSymbol : int { kLoopSymbol, kCallerSymbol, kVarargsSymbol, kKwargsSymbol, kPredefinedSymbols };

}  // namespace flyover::data::jinja
