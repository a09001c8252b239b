// Filters on lists, dicts and what else can be walked.
#include <algorithm>
#include <array>
#include <unordered_set>

#include "base/error.h"
#include "data/jinja/builtins.h"
#include "data/jinja/unicode.h"

namespace flyover::data::jinja {
namespace {

/// The path of an `attribute` argument: "a.b.0" reads ["a"]["b"][0] of each item. Nothing given: the item itself.
class AttributePath {
 public:
  explicit AttributePath(const Value* attribute, const Value* fallback = nullptr) : fallback_(fallback) {
    if (attribute == nullptr || attribute->is(Kind::kNone)) {
      return;
    }
    if (!attribute->is(Kind::kString)) {
      parts_.push_back(*attribute);
      return;
    }
    std::string_view rest = attribute->text();
    while (true) {
      const std::size_t dot = rest.find('.');
      const std::string_view part = rest.substr(0, dot);
      const bool is_number =
          !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == std::string_view::npos;
      parts_.push_back(is_number ? Value::integer(std::stoi(std::string(part))) : Value::string(std::string(part)));
      if (dot == std::string_view::npos) {
        return;
      }
      rest = rest.substr(dot + 1);
    }
  }

  Value operator()(Value item) const {
    for (const Value& part : parts_) {
      item = get_item(item, part);
      if (item.is(Kind::kUndefined) && fallback_ != nullptr && !fallback_->is(Kind::kNone)) {
        item = *fallback_;
      }
    }
    return item;
  }

 private:
  std::vector<Value> parts_;
  const Value* fallback_;
};

Value ignoring_case(Value value, bool case_sensitive) {
  return !case_sensitive && value.is(Kind::kString) ? Value::string(lower(value.text())) : std::move(value);
}

bool is_less(const Value& left, const Value& right) {
  const int order = compare(left, right, "<");
  base::require(order != 2, "values that are not a number cannot be sorted");
  return order < 0;
}

/// Items in the order of their keys; equal keys keep their order, also when reversed.
std::vector<Value> sorted(std::vector<std::pair<Value, Value>> keyed, bool reverse) {
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reverse ? is_less(b.first, a.first) : is_less(a.first, b.first);
  });
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (auto& [key, item] : keyed) {
    items.push_back(std::move(item));
  }
  return items;
}

Value filter_length(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments none("length", arguments, {});
  return Value::integer(length(input));
}

Value filter_default(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments bound("default", arguments, {"default_value", "boolean"});
  const bool replaces = input.is(Kind::kUndefined) || (bound.boolean(1, false) && !truthy(input));
  return replaces ? bound.get(0, Value::string("")) : input;
}

Value filter_list(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments none("list", arguments, {});
  return Value::list(iterate(input));
}

Value filter_items(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments none("items", arguments, {});
  base::require(input.is(Kind::kUndefined) || input.is(Kind::kDict), "items expects a mapping, found '{}'",
                type_name(input));
  std::vector<Value> items;
  if (input.is(Kind::kDict)) {
    for (const auto& [key, value] : input.as_dict().entries()) {
      items.push_back(Value::tuple({key, value}));
    }
  }
  return Value::iterator(std::move(items));
}

Value filter_first(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments none("first", arguments, {});
  const Value empty = Value::undefined("first: the sequence is empty");
  if (input.is(Kind::kIterator)) {
    Iterator& iterator = input.as_iterator();
    return iterator.position < iterator.items.size() ? iterator.items[iterator.position++] : empty;
  }
  const std::vector<Value> items = iterate(input);
  return items.empty() ? empty : items.front();
}

Value filter_last(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments none("last", arguments, {});
  base::require(!input.is(Kind::kIterator), "last: a '{}' cannot be walked backwards", type_name(input));
  const std::vector<Value> items = iterate(input);
  return items.empty() ? Value::undefined("last: the sequence is empty") : items.back();
}

Value filter_reverse(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments none("reverse", arguments, {});
  base::require(!input.is_markup(), "reverse on the result of `safe` or `escape` is not supported");
  if (input.is(Kind::kString)) {
    std::u32string points = code_points(input.text());
    std::reverse(points.begin(), points.end());
    return Value::string(utf8(points));
  }
  std::vector<Value> items = iterate(input);
  std::reverse(items.begin(), items.end());
  return input.is(Kind::kIterator) ? Value::list(std::move(items)) : Value::iterator(std::move(items));
}

Value filter_join(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments bound("join", arguments, {"d", "attribute"});
  const AttributePath path(bound.find(1));
  std::vector<Value> items = iterate(input);
  std::transform(items.begin(), items.end(), items.begin(), path);
  return Value::string(joined(items, to_text(bound.get(0, Value::string("")))));
}

Value filter_sum(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments bound("sum", arguments, {"attribute", "start"});
  const AttributePath path(bound.find(0));
  Value total = bound.get(1, Value::integer(0));
  base::require(!total.is(Kind::kString), "sum cannot add strings (use join)");
  for (const Value& item : iterate(input)) {
    total = add(total, path(item));
  }
  return total;
}

Value extreme(std::string_view name, const Value& input, Arguments& arguments, bool largest) {
  const BoundArguments bound(name, arguments, {"case_sensitive", "attribute"});
  const AttributePath path(bound.find(1));
  const bool case_sensitive = bound.boolean(0, false);
  const std::vector<Value> items = iterate(input);
  if (items.empty()) {
    return Value::undefined(fmt::format("{}: the sequence is empty", name));
  }
  std::size_t best = 0;
  Value best_key = ignoring_case(path(items[0]), case_sensitive);
  for (std::size_t i = 1; i < items.size(); ++i) {
    Value key = ignoring_case(path(items[i]), case_sensitive);
    if (largest ? is_less(best_key, key) : is_less(key, best_key)) {
      best = i;
      best_key = std::move(key);
    }
  }
  return items[best];
}

Value filter_min(Interpreter&, const Value& input, Arguments& arguments) {
  return extreme("min", input, arguments, false);
}
Value filter_max(Interpreter&, const Value& input, Arguments& arguments) {
  return extreme("max", input, arguments, true);
}

Value filter_sort(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments bound("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  const bool case_sensitive = bound.boolean(1, false);
  std::vector<AttributePath> paths;
  if (bound.find(2) != nullptr && bound[2].is(Kind::kString)) {
    const std::string& names = bound[2].text();
    for (std::size_t start = 0, end = 0; end != std::string::npos; start = end + 1) {
      end = names.find(',', start);
      const Value name = Value::string(names.substr(start, end == std::string::npos ? end : end - start));
      paths.emplace_back(&name);
    }
  } else {
    paths.emplace_back(bound.find(2));
  }
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : iterate(input)) {
    std::vector<Value> key;
    key.reserve(paths.size());
    for (const AttributePath& path : paths) {
      key.push_back(ignoring_case(path(item), case_sensitive));
    }
    keyed.emplace_back(Value::list(std::move(key)), item);
  }
  return Value::list(sorted(std::move(keyed), bound.boolean(0, false)));
}

Value filter_dictsort(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments bound("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  base::require(input.is(Kind::kDict), "dictsort expects a dict, found '{}'", type_name(input));
  const std::string by = bound.string(1).value_or("key");
  base::require(by == "key" || by == "value", "dictsort sorts by \"key\" or \"value\", found \"{}\"", by);
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, value] : input.as_dict().entries()) {
    keyed.emplace_back(ignoring_case(by == "key" ? key : value, bound.boolean(0, false)), Value::tuple({key, value}));
  }
  return Value::list(sorted(std::move(keyed), bound.boolean(2, false)));
}

Value filter_unique(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments bound("unique", arguments, {"case_sensitive", "attribute"});
  const AttributePath path(bound.find(1));
  Dict seen;
  std::vector<Value> items;
  for (const Value& item : iterate(input)) {
    const Value key = ignoring_case(path(item), bound.boolean(0, false));
    if (seen.find(key) == nullptr) {
      seen.set(key, Value::none());
      items.push_back(item);
    }
  }
  return Value::iterator(std::move(items));
}

Value filter_batch(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments bound("batch", arguments, {"linecount", "fill_with"}, 1);
  const std::int64_t size = bound.integer(0, 0);
  base::require(size > 0, "batch expects a positive size, found {}", size);
  const bool fills = bound.find(1) != nullptr && !bound[1].is(Kind::kNone);
  std::vector<Value> batches;
  std::vector<Value> batch;
  for (const Value& item : iterate(input)) {
    if (static_cast<std::int64_t>(batch.size()) == size) {
      batches.push_back(Value::list(std::exchange(batch, {})));
    }
    batch.push_back(item);
  }
  if (!batch.empty()) {
    require_element_count(fills ? static_cast<std::uint64_t>(size) : 0);
    while (fills && static_cast<std::int64_t>(batch.size()) < size) {
      batch.push_back(bound[1]);
    }
    batches.push_back(Value::list(std::move(batch)));
  }
  return Value::iterator(std::move(batches));
}

Value filter_slice(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments bound("slice", arguments, {"slices", "fill_with"}, 1);
  const std::int64_t slices = bound.integer(0, 0);
  base::require(slices > 0 && slices <= 10000, "slice expects between 1 and 10000 slices, found {}", slices);
  const bool fills = bound.find(1) != nullptr && !bound[1].is(Kind::kNone);
  const std::vector<Value> items = iterate(input);
  const std::int64_t each = static_cast<std::int64_t>(items.size()) / slices;
  const std::int64_t with_extra = static_cast<std::int64_t>(items.size()) % slices;
  std::vector<Value> out;
  auto next = items.begin();
  for (std::int64_t i = 0; i < slices; ++i) {
    const auto end = next + each + (i < with_extra ? 1 : 0);
    std::vector<Value> slice(next, end);
    if (fills && i >= with_extra) {
      slice.push_back(bound[1]);
    }
    out.push_back(Value::list(std::move(slice)));
    next = end;
  }
  return Value::iterator(std::move(out));
}

/// Takes the first positional argument as the name of a filter or test.
std::string take_name(std::string_view filter, Arguments& arguments) {
  base::require(!arguments.positional.empty() && arguments.positional.front().is(Kind::kString),
                "{} expects a name as its next argument", filter);
  std::string name = arguments.positional.front().text();
  arguments.positional.erase(arguments.positional.begin());
  return name;
}

/// The elements as map, select and their kin see them: what counts as false has none, whatever it is.
std::vector<Value> iterate_if_true(const Value& value) {
  return truthy(value) ? iterate(value) : std::vector<Value>();
}

Value filter_map(Interpreter& interpreter, const Value& input, Arguments& arguments) {
  std::vector<Value> items = iterate_if_true(input);
  if (arguments.positional.empty()) {
    const BoundArguments bound("map", arguments, {"attribute", "default"}, 1);
    const AttributePath path(bound.find(0), bound.find(1));
    std::transform(items.begin(), items.end(), items.begin(), path);
    return Value::iterator(std::move(items));
  }
  const std::string name = take_name("map", arguments);
  const FilterFunction function = find_filter(name);
  base::require(function != nullptr, "map: the filter \"{}\" is not supported", name);
  for (Value& item : items) {
    Arguments copy = arguments;
    item = function(interpreter, item, copy);
  }
  return Value::iterator(std::move(items));
}

Value select_items(std::string_view filter, const Value& input, Arguments& arguments, bool by_attribute, bool wanted) {
  Value attribute;
  if (by_attribute) {
    base::require(!arguments.positional.empty(), "{} needs the name of an attribute", filter);
    attribute = arguments.positional.front();
    arguments.positional.erase(arguments.positional.begin());
  }
  const AttributePath path(by_attribute ? &attribute : nullptr);
  const bool has_test = !arguments.positional.empty();
  const std::string name = has_test ? take_name(filter, arguments) : std::string();
  const TestFunction test = has_test ? find_test(name) : nullptr;
  base::require(!has_test || test != nullptr, "{}: the test \"{}\" is not supported", filter, name);
  std::vector<Value> items;
  for (const Value& item : iterate_if_true(input)) {
    const Value value = path(item);
    Arguments copy = arguments;
    if ((has_test ? test(value, copy) : truthy(value)) == wanted) {
      items.push_back(item);
    }
  }
  return Value::iterator(std::move(items));
}

Value filter_select(Interpreter&, const Value& input, Arguments& arguments) {
  return select_items("select", input, arguments, false, true);
}
Value filter_reject(Interpreter&, const Value& input, Arguments& arguments) {
  return select_items("reject", input, arguments, false, false);
}
Value filter_selectattr(Interpreter&, const Value& input, Arguments& arguments) {
  return select_items("selectattr", input, arguments, true, true);
}
Value filter_rejectattr(Interpreter&, const Value& input, Arguments& arguments) {
  return select_items("rejectattr", input, arguments, true, false);
}

constexpr std::array<NamedFilter, 23> kSequenceFilters = {{{"batch", filter_batch},
                                                           {"count", filter_length},
                                                           {"d", filter_default},
                                                           {"default", filter_default},
                                                           {"dictsort", filter_dictsort},
                                                           {"first", filter_first},
                                                           {"items", filter_items},
                                                           {"join", filter_join},
                                                           {"last", filter_last},
                                                           {"length", filter_length},
                                                           {"list", filter_list},
                                                           {"map", filter_map},
                                                           {"max", filter_max},
                                                           {"min", filter_min},
                                                           {"reject", filter_reject},
                                                           {"rejectattr", filter_rejectattr},
                                                           {"reverse", filter_reverse},
                                                           {"select", filter_select},
                                                           {"selectattr", filter_selectattr},
                                                           {"slice", filter_slice},
                                                           {"sort", filter_sort},
                                                           {"sum", filter_sum},
                                                           {"unique", filter_unique}}};

}  // namespace

std::span<const NamedFilter> sequence_filters() {
  return kSequenceFilters;
}

}  // namespace flyover::data::jinja
