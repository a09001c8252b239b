// What template expressions can do with values: operators, attributes and methods, filters, tests, global functions.
#pragma once

#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/jinja/syntax.h"
#include "data/jinja/value.h"

namespace flyover::data::jinja {

/// The arguments of one call by the names of the parameters. Throws Error for too many, unknown, repeated or missing
/// (the first `required` ones) arguments.
class BoundArguments {
 public:
  BoundArguments(std::string_view function, Arguments& arguments, std::initializer_list<std::string_view> names,
                 std::size_t required = 0);

  /// Null if the argument was not given.
  const Value* find(std::size_t index) const { return values_[index] ? &*values_[index] : nullptr; }
  Value get(std::size_t index, const Value& fallback) const { return values_[index] ? *values_[index] : fallback; }
  const Value& operator[](std::size_t index) const { return *values_[index]; }
  std::int64_t integer(std::size_t index, std::int64_t fallback) const;
  bool boolean(std::size_t index, bool fallback) const;
  /// A string argument; none and a missing one give nothing.
  std::optional<std::string> string(std::size_t index) const;

 private:
  std::string function_;
  std::vector<std::optional<Value>> values_;
};

/// Null if there is none of that name.
FilterFunction find_filter(std::string_view name);
TestFunction find_test(std::string_view name);
/// range, dict, namespace, raise_exception, strftime_now; undefined for other names.
Value find_global(std::string_view name);

/// left <operation> right. Throws Error for unlike types, overflow and division by zero.
Value calculate(BinaryOperator operation, const Value& left, const Value& right);
Value negate(const Value& value);
Value add(const Value& left, const Value& right);
/// HTML-escaped, as markup.
Value escaped(const Value& value);

/// object.name and object[index] as Jinja resolves them: each falls back to the other; undefined if there is neither.
/// Throws Error for attributes of an undefined value and for Python methods that are not supported.
Value get_attribute(const Value& object, const std::string& name);
Value get_item(const Value& object, const Value& index);
/// object[start:stop:step]; bounds that are not given are undefined or none.
Value get_slice(const Value& object, const Value& start, const Value& stop, const Value& step);

/// A method of Python's type: how to call it, or null where the type has it and Flyover has not.
struct Method {
  std::string_view name;
  FilterFunction call;
};
std::span<const Method> string_methods();
std::span<const Method> dict_methods();
std::span<const Method> list_methods();

/// Python's `pattern % arguments` and pattern.format(arguments), for the common conversions.
std::string percent_format(const std::string& pattern, const Value& arguments);
std::string brace_format(const std::string& pattern, const Arguments& arguments);

/// Text of the string methods and filters, in code points.
std::string capitalized(std::string_view text);
std::string title_cased(std::string_view text);
std::string replaced(std::string_view text, std::string_view old, std::string_view replacement, std::int64_t count);
std::string joined(const std::vector<Value>& items, std::string_view separator);
std::string padded(std::string_view text, std::int64_t width, std::string_view fill, double left_share);
std::vector<std::string> lines_of(std::string_view text, bool keep_ends);
/// Throws Error unless `text` is ASCII: for the predicates whose Unicode tables Flyover does not have.
void require_ascii(std::string_view text, std::string_view function);

/// Groups of filters and tests; find_filter searches all.
struct NamedFilter {
  std::string_view name;
  FilterFunction function;
};
std::span<const NamedFilter> text_filters();
std::span<const NamedFilter> sequence_filters();
std::span<const NamedFilter> number_filters();

}  // namespace flyover::data::jinja
