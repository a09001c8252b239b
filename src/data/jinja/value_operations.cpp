// Truth, equality, order, membership, length and iteration of values.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/utf8.h"
#include "data/jinja/unicode.h"
#include "data/jinja/value.h"

namespace flyover::data::jinja {
namespace {

bool is_number_pair(const Value& left, const Value& right) {
  return left.is_numeric() && right.is_numeric();
}

/// -1, 0, 1, or 2 where one is not a number. Integers and floats compare by exact value, as in Python.
int compare_numbers(const Value& left, const Value& right) {
  if (left.is_integral() && right.is_integral()) {
    return left.as_integer() < right.as_integer() ? -1 : left.as_integer() > right.as_integer();
  }
  // Where long double has a mantissa of 64 bits it holds every 64-bit integer and every double.
  const auto widened = [](const Value& value) -> long double {
    return value.is(Kind::kFloat) ? static_cast<long double>(value.as_double())
                                  : static_cast<long double>(value.as_integer());
  };
  const long double a = widened(left);
  const long double b = widened(right);
  if (std::isnan(a) || std::isnan(b)) {
    return 2;
  }
  return a < b ? -1 : a > b;
}

bool equal_items(const std::vector<Value>& left, const std::vector<Value>& right) {
  return left.size() == right.size() && std::equal(left.begin(), left.end(), right.begin(), equal);
}

bool equal_dicts(const Dict& left, const Dict& right) {
  if (left.entries().size() != right.entries().size()) {
    return false;
  }
  return std::all_of(left.entries().begin(), left.entries().end(), [&](const auto& entry) {
    const Value* other = right.find(entry.first);
    return other != nullptr && equal(entry.second, *other);
  });
}

bool contains_item(const std::vector<Value>& items, const Value& element) {
  return std::any_of(items.begin(), items.end(), [&](const Value& item) { return equal(item, element); });
}

std::vector<Value> characters(const std::string& text) {
  std::vector<Value> items;
  require_element_count(static_cast<std::uint64_t>(length_in_code_points(text)));
  for (std::size_t offset = 0; offset < text.size();) {
    const std::size_t start = offset;
    base::decode_utf8(text, offset);
    items.push_back(Value::string(text.substr(start, offset - start)));
  }
  return items;
}

}  // namespace

std::string_view type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBoolean:
      return "bool";
    case Kind::kInteger:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kView:
      return value.sequence().view_name;
    case Kind::kIterator:
      return "generator";
    case Kind::kRange:
      return "range";
    case Kind::kDict:
      return "dict";
    case Kind::kNamespace:
      return "namespace";
    case Kind::kFunction:
      return "function";
    case Kind::kLoop:
      return "loop";
  }
  base::check(false, "unknown kind of value");
  return {};
}

bool truthy(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBoolean:
      return value.as_boolean();
    case Kind::kInteger:
      return value.as_integer() != 0;
    case Kind::kFloat:
      return value.as_double() != 0.0;
    case Kind::kString:
      return !value.text().empty();
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
      return !value.items().empty();
    case Kind::kRange:
      return value.as_range().length() > 0;
    case Kind::kDict:
      return !value.as_dict().entries().empty();
    default:
      return true;
  }
}

bool equal(const Value& left, const Value& right) {
  if (is_number_pair(left, right)) {
    return compare_numbers(left, right) == 0;
  }
  if (left.kind() != right.kind()) {
    return false;
  }
  switch (left.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      return left.text() == right.text();
    case Kind::kList:
    case Kind::kTuple:
      return equal_items(left.items(), right.items());
    case Kind::kDict:
      return equal_dicts(left.as_dict(), right.as_dict());
    case Kind::kRange: {
      const Range& a = left.as_range();
      const Range& b = right.as_range();
      return a.length() == b.length() &&
             (a.length() == 0 || (a.start == b.start && (a.length() == 1 || a.step == b.step)));
    }
    case Kind::kView:
      base::fail("comparing {} with {} is not supported (put `| list` behind both)", type_name(left), type_name(right));
    default:
      return left.same_object(right);
  }
}

int compare(const Value& left, const Value& right, std::string_view operation) {
  if (is_number_pair(left, right)) {
    return compare_numbers(left, right);
  }
  if (left.is(Kind::kString) && right.is(Kind::kString)) {
    // The order of UTF-8 bytes is the order of code points.
    const int order = left.text().compare(right.text());
    return order < 0 ? -1 : order > 0;
  }
  if (left.kind() == right.kind() && (left.is(Kind::kList) || left.is(Kind::kTuple))) {
    const std::size_t common = std::min(left.items().size(), right.items().size());
    for (std::size_t i = 0; i < common; ++i) {
      if (!equal(left.items()[i], right.items()[i])) {
        return compare(left.items()[i], right.items()[i], operation);
      }
    }
    return left.items().size() < right.items().size() ? -1 : left.items().size() > right.items().size();
  }
  for (const Value* value : {&left, &right}) {
    base::require(!value->is(Kind::kUndefined), "{}", value->is(Kind::kUndefined) ? value->undefined_hint() : "");
  }
  base::fail("'{}' is not defined between '{}' and '{}'", operation, type_name(left), type_name(right));
}

bool contains(const Value& container, const Value& element) {
  switch (container.kind()) {
    case Kind::kString:
      base::require(element.is(Kind::kString), "'in <string>' requires a string on its left, found '{}'",
                    type_name(element));
      return container.text().find(element.text()) != std::string::npos;
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
      return contains_item(container.items(), element);
    case Kind::kDict:
      return container.as_dict().find(element) != nullptr;
    case Kind::kIterator: {
      Iterator& iterator = container.as_iterator();
      while (iterator.position < iterator.items.size()) {
        if (equal(iterator.items[iterator.position++], element)) {
          return true;
        }
      }
      return false;
    }
    default:
      return contains_item(iterate(container), element);
  }
}

bool is_iterable(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
    case Kind::kIterator:
    case Kind::kRange:
    case Kind::kDict:
      return true;
    default:
      return false;
  }
}

std::vector<Value> iterate(const Value& value) {
  std::vector<Value> items;
  switch (value.kind()) {
    case Kind::kUndefined:
      return items;
    case Kind::kString:
      return characters(value.text());
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
      return value.items();
    case Kind::kIterator: {
      Iterator& iterator = value.as_iterator();
      items.assign(iterator.items.begin() + static_cast<std::ptrdiff_t>(iterator.position), iterator.items.end());
      iterator.position = iterator.items.size();
      return items;
    }
    case Kind::kRange:
      require_element_count(static_cast<std::uint64_t>(value.as_range().length()));
      for (std::int64_t i = 0; i < value.as_range().length(); ++i) {
        items.push_back(Value::integer(value.as_range().at(i)));
      }
      return items;
    case Kind::kDict:
      for (const auto& [key, item] : value.as_dict().entries()) {
        items.push_back(key);
      }
      return items;
    default:
      base::fail("'{}' object is not iterable", type_name(value));
  }
}

bool has_length(const Value& value) {
  return is_iterable(value) && !value.is(Kind::kIterator);
}

std::int64_t length(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      return length_in_code_points(value.text());
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
      return static_cast<std::int64_t>(value.items().size());
    case Kind::kRange:
      return value.as_range().length();
    case Kind::kDict:
      return static_cast<std::int64_t>(value.as_dict().entries().size());
    case Kind::kIterator:
      base::fail("object of type 'generator' has no length (put `| list` before it)");
    default:
      base::fail("object of type '{}' has no length", type_name(value));
  }
}

}  // namespace flyover::data::jinja
