// The values that template expressions compute with: Python's types with Python's semantics. All are immutable, as the
// sandbox of chat templates demands, except namespaces and the position of iterators.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"

namespace flyover::data::jinja {

class Dict;
class Interpreter;
class Value;
struct Arguments;

/// A string longer than this, or a list with more elements, is an error and not an attempt.
constexpr std::uint64_t kMaximumStringBytes = std::uint64_t{64} << 20;
constexpr std::uint64_t kMaximumElements = std::uint64_t{1} << 20;
/// Lists within lists within ..., and the number of values that one value may hold in all (the same list within a list
/// twice counts twice: whoever walks it does so).
constexpr int kMaximumNesting = 600;
constexpr std::uint64_t kMaximumWeight = std::uint64_t{1} << 22;

/// Throws Error if a string of `bytes` or a list of `elements` would be too large.
void require_string_size(std::uint64_t bytes);
void require_element_count(std::uint64_t elements);

/// How deep and how large a value is with all that it holds.
struct Extent {
  int depth = 0;
  std::uint64_t weight = 1;
};

struct String {
  std::string text;
  bool markup = false;  ///< came out of `safe` or `escape`
};

/// List, tuple, or the view that dict.items(), keys() and values() give.
struct Sequence {
  enum class Type { kList, kTuple, kView };
  Type type = Type::kList;
  std::string view_name;  ///< "dict_items", ... for a view
  std::vector<Value> items;
  Extent extent;
};

/// What the lazy filters give (map, select, reverse, ...): can be walked once, has no length and cannot be printed.
struct Iterator {
  std::vector<Value> items;
  std::size_t position = 0;
  Extent extent;
};

struct Range {
  std::int64_t start = 0;
  std::int64_t stop = 0;
  std::int64_t step = 1;
  std::int64_t length() const;
  std::int64_t at(std::int64_t index) const { return start + index * step; }
};

/// What namespace(...) gives; owned by the interpreter, so that namespaces that hold each other do not leak.
struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;
};

/// A macro, a method bound to its object, or a global function.
struct Function {
  std::string name;
  std::function<Value(Interpreter&, Arguments&)> call;
  Extent extent;
};

/// The `loop` variable. Items that a filtering loop has not looked at yet are fetched when asked for.
struct Loop {
  std::vector<Value> items;
  std::size_t index = 0;
  std::vector<Value> candidates;  ///< of a filtering loop
  std::function<bool()> fetch;    ///< appends the next item, or says that there is none
  Extent extent;

  /// Whether there is an item at `position`.
  bool has(std::size_t position);
};

enum class Kind {
  kUndefined,
  kNone,
  kBoolean,
  kInteger,
  kFloat,
  kString,
  kList,
  kTuple,
  kView,
  kIterator,
  kRange,
  kDict,
  kNamespace,
  kFunction,
  kLoop
};

class Value {
 public:
  /// An undefined value; `hint` says why, for the error that using it raises.
  Value() = default;
  static Value undefined(std::string hint);
  static Value none();
  static Value boolean(bool value);
  static Value integer(std::int64_t value);
  static Value number(double value);
  static Value string(std::string text);
  static Value markup(std::string text);
  /// Throw Error for too many or too deeply nested elements.
  static Value list(std::vector<Value> items);
  static Value tuple(std::vector<Value> items);
  static Value view(std::string name, std::vector<Value> items);
  static Value iterator(std::vector<Value> items);
  static Value range(Range range);
  static Value dict(Dict dict);
  static Value name_space(Namespace* attributes);
  static Value function(Function function);
  static Value loop(std::shared_ptr<Loop> loop);
  /// Throws Error for text that is not UTF-8, integers beyond 64 bits and too deep nesting.
  static Value from_json(const base::Json& json, int depth = 0);

  Kind kind() const;
  bool is(Kind other) const { return kind() == other; }
  bool is_markup() const { return is(Kind::kString) && std::get<StringPointer>(data_)->markup; }
  /// Integer, or a boolean as 0 or 1.
  bool is_integral() const { return is(Kind::kInteger) || is(Kind::kBoolean); }
  bool is_numeric() const { return is_integral() || is(Kind::kFloat); }

  /// The contents; the caller knows the kind.
  std::string undefined_hint() const;
  bool as_boolean() const { return std::get<bool>(data_); }
  std::int64_t as_integer() const { return is(Kind::kBoolean) ? as_boolean() : std::get<std::int64_t>(data_); }
  double as_double() const { return is(Kind::kFloat) ? std::get<double>(data_) : static_cast<double>(as_integer()); }
  const std::string& text() const { return std::get<StringPointer>(data_)->text; }
  const Sequence& sequence() const { return *std::get<SequencePointer>(data_); }
  const std::vector<Value>& items() const { return sequence().items; }
  Iterator& as_iterator() const { return *std::get<IteratorPointer>(data_); }
  const Range& as_range() const { return *std::get<RangePointer>(data_); }
  const Dict& as_dict() const { return *std::get<DictPointer>(data_); }
  Namespace& as_namespace() const { return *std::get<Namespace*>(data_); }
  const Function& as_function() const { return *std::get<FunctionPointer>(data_); }
  Loop& as_loop() const { return *std::get<LoopPointer>(data_); }

  /// Python's `is` for the values where it is well defined.
  bool same_object(const Value& other) const;
  Extent extent() const;

 private:
  using UndefinedPointer = std::shared_ptr<const std::string>;
  using StringPointer = std::shared_ptr<const String>;
  using SequencePointer = std::shared_ptr<const Sequence>;
  using IteratorPointer = std::shared_ptr<Iterator>;
  using RangePointer = std::shared_ptr<const Range>;
  using DictPointer = std::shared_ptr<const Dict>;
  using FunctionPointer = std::shared_ptr<const Function>;
  using LoopPointer = std::shared_ptr<Loop>;
  template <typename Contents>
  static Value of(Contents contents);
  static Value of_sequence(Sequence sequence);

  std::variant<UndefinedPointer, std::monostate, bool, std::int64_t, double, StringPointer, SequencePointer,
               IteratorPointer, RangePointer, DictPointer, Namespace*, FunctionPointer, LoopPointer>
      data_;
};

/// Keeps the order in which keys came.
class Dict {
 public:
  /// Adds or replaces. Throws Error for a key that cannot be one (a list, a dict, ...).
  void set(const Value& key, Value value);
  /// Null if there is no such key. Throws Error for what cannot be a key.
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  const std::vector<std::pair<Value, Value>>& entries() const { return entries_; }
  Extent extent() const { return extent_; }

 private:
  const Value* find_encoded(const std::string& encoded) const;

  std::vector<std::pair<Value, Value>> entries_;
  std::unordered_map<std::string, std::size_t> index_;
  Extent extent_;
};

/// Arguments of a call, evaluated.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// "str", "int", "list", ...: the type's name in messages.
std::string_view type_name(const Value& value);
bool truthy(const Value& value);
bool equal(const Value& left, const Value& right);
/// Negative, zero or positive; `operation` ("<", "sort", ...) is for the Error that unlike types raise. Not-a-number
/// compares as unordered: 2.
int compare(const Value& left, const Value& right, std::string_view operation);
bool contains(const Value& container, const Value& element);
/// The elements in order, as a for loop sees them; uses up an iterator. Throws Error for what cannot be walked.
std::vector<Value> iterate(const Value& value);
bool is_iterable(const Value& value);
/// len(). Throws Error for what has none.
std::int64_t length(const Value& value);
bool has_length(const Value& value);

/// Python's str() and repr().
std::string to_text(const Value& value);
std::string representation(const Value& value);
std::string float_text(double value);

/// json.dumps as chat templates have it (transformers, utils/chat_template_utils.py).
struct JsonStyle {
  bool ensure_ascii = false;
  bool indented = false;
  std::string indent;  ///< once per level
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};
std::string json_text(const Value& value, const JsonStyle& style);

}  // namespace flyover::data::jinja
