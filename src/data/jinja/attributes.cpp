// object.name, object[index] and object[start:stop:step].
#include <algorithm>
#include <array>

#include "base/error.h"
#include "data/jinja/builtins.h"
#include "data/jinja/unicode.h"

namespace flyover::data::jinja {
namespace {

/// Methods that change their object; the sandbox of chat templates refuses to call them.
bool changes_object(Kind kind, std::string_view name) {
  constexpr std::array<std::string_view, 8> kList = {"append", "clear",  "extend",  "insert",
                                                     "pop",    "remove", "reverse", "sort"};
  constexpr std::array<std::string_view, 5> kDict = {"clear", "pop", "popitem", "setdefault", "update"};
  return (kind == Kind::kList && std::find(kList.begin(), kList.end(), name) != kList.end()) ||
         (kind == Kind::kDict && std::find(kDict.begin(), kDict.end(), name) != kDict.end());
}

bool is_number_attribute(std::string_view name) {
  constexpr std::array<std::string_view, 13> kNames = {
      "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator", "from_bytes", "fromhex", "hex", "imag",
      "is_integer",       "numerator", "real",       "to_bytes"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

std::span<const Method> methods_of(Kind kind) {
  switch (kind) {
    case Kind::kString:
      return string_methods();
    case Kind::kDict:
      return dict_methods();
    case Kind::kList:
    case Kind::kTuple:
      return list_methods();
    default:
      return {};
  }
}

/// The attribute that Python's object has (not its items), if any.
std::optional<Value> python_attribute(const Value& object, const std::string& name) {
  const Kind kind = object.kind();
  if ((name.starts_with("__") && name.ends_with("__")) || changes_object(kind, name)) {
    return Value::undefined(
        fmt::format("access to the attribute '{}' of a '{}' is unsafe in the sandbox", name, type_name(object)));
  }
  const std::span<const Method> methods = methods_of(kind);
  const auto found =
      std::find_if(methods.begin(), methods.end(), [&](const Method& method) { return method.name == name; });
  if (found == methods.end()) {
    base::require(!object.is_numeric() || !is_number_attribute(name), "the attribute '{}' of a '{}' is not supported",
                  name, type_name(object));
    return std::nullopt;
  }
  if (kind == Kind::kTuple && name == "copy") {
    return std::nullopt;
  }
  base::require(found->call != nullptr, "the method '{}' of a '{}' is not supported", name, type_name(object));
  base::require(!object.is_markup(), "the method '{}' on the result of `safe` or `escape` is not supported", name);
  Function function;
  function.name = name;
  function.extent = object.extent();
  function.call = [object, call = found->call](Interpreter& interpreter, Arguments& arguments) {
    return call(interpreter, object, arguments);
  };
  return Value::function(std::move(function));
}

Value loop_cycle(const Value& loop) {
  Function function;
  function.name = "cycle";
  function.call = [index = loop.as_loop().index](Interpreter&, Arguments& arguments) {
    base::require(!arguments.positional.empty() && arguments.named.empty(), "loop.cycle needs the items to cycle");
    return arguments.positional[index % arguments.positional.size()];
  };
  return Value::function(std::move(function));
}

std::optional<Value> loop_attribute(const Value& object, std::string_view name) {
  Loop& loop = object.as_loop();
  const auto index = static_cast<std::int64_t>(loop.index);
  const auto length = [&] {
    while (loop.has(loop.items.size())) {
    }
    return static_cast<std::int64_t>(loop.items.size());
  };
  if (name == "index") {
    return Value::integer(index + 1);
  }
  if (name == "index0") {
    return Value::integer(index);
  }
  if (name == "first") {
    return Value::boolean(index == 0);
  }
  if (name == "last") {
    return Value::boolean(!loop.has(loop.index + 1));
  }
  if (name == "length") {
    return Value::integer(length());
  }
  if (name == "revindex") {
    return Value::integer(length() - index);
  }
  if (name == "revindex0") {
    return Value::integer(length() - index - 1);
  }
  if (name == "previtem") {
    return loop.index > 0 ? loop.items[loop.index - 1] : Value::undefined("there is no previous item");
  }
  if (name == "nextitem") {
    return loop.has(loop.index + 1) ? loop.items[loop.index + 1] : Value::undefined("there is no next item");
  }
  if (name == "depth" || name == "depth0") {
    return Value::integer(name == "depth" ? 1 : 0);
  }
  if (name == "cycle") {
    return loop_cycle(object);
  }
  base::require(name != "changed", "loop.changed is not supported");
  return std::nullopt;
}

Value missing(const Value& object, std::string_view name) {
  return Value::undefined(fmt::format("'{}' object has no attribute '{}'", type_name(object), name));
}

/// Index into something of `size` elements counted from the end if negative, or -1 where there is no such element.
std::int64_t element_index(std::int64_t index, std::int64_t size) {
  const std::int64_t counted = index < 0 ? index + size : index;
  return counted >= 0 && counted < size ? counted : -1;
}

/// object[index] for Python's containers; nothing where Python would raise.
std::optional<Value> find_item(const Value& object, const Value& index) {
  if (object.is(Kind::kDict)) {
    if (index.is(Kind::kList) || index.is(Kind::kDict)) {
      return std::nullopt;
    }
    const Value* found = object.as_dict().find(index);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  if (!index.is_integral()) {
    return std::nullopt;
  }
  switch (object.kind()) {
    case Kind::kList:
    case Kind::kTuple: {
      const std::int64_t at = element_index(index.as_integer(), length(object));
      return at < 0 ? std::nullopt : std::optional(object.items()[static_cast<std::size_t>(at)]);
    }
    case Kind::kString: {
      const std::u32string points = code_points(object.text());
      const std::int64_t at = element_index(index.as_integer(), static_cast<std::int64_t>(points.size()));
      return at < 0 ? std::nullopt
                    : std::optional(
                          Value::string(utf8(std::u32string_view(points).substr(static_cast<std::size_t>(at), 1))));
    }
    case Kind::kRange: {
      const std::int64_t at = element_index(index.as_integer(), object.as_range().length());
      return at < 0 ? std::nullopt : std::optional(Value::integer(object.as_range().at(at)));
    }
    default:
      return std::nullopt;
  }
}

struct SliceBounds {
  std::int64_t start;
  std::int64_t step;
  std::int64_t count;
};

/// PySlice_AdjustIndices.
SliceBounds slice_bounds(const Value& start, const Value& stop, const Value& step, std::int64_t size) {
  const auto given = [](const Value& value) { return !value.is(Kind::kUndefined) && !value.is(Kind::kNone); };
  for (const Value* value : {&start, &stop, &step}) {
    base::require(!given(*value) || value->is_integral(), "a slice expects integers, found '{}'", type_name(*value));
  }
  const std::int64_t stride = given(step) ? std::max<std::int64_t>(step.as_integer(), -INT64_MAX) : 1;
  base::require(stride != 0, "the step of a slice cannot be zero");
  const auto bound = [&](const Value& value, std::int64_t fallback) {
    if (!given(value)) {
      return fallback;
    }
    std::int64_t index = value.as_integer();
    if (index < 0) {
      index += size;
    }
    return stride > 0 ? std::clamp<std::int64_t>(index, 0, size) : std::clamp<std::int64_t>(index, -1, size - 1);
  };
  const std::int64_t first = bound(start, stride > 0 ? 0 : size - 1);
  const std::int64_t last = bound(stop, stride > 0 ? size : -1);
  const Range range{first, last, stride};
  return {first, stride, range.length()};
}

}  // namespace

Value get_attribute(const Value& object, const std::string& name) {
  switch (object.kind()) {
    case Kind::kUndefined:
      base::fail("{}: its attribute '{}' cannot be read", object.undefined_hint(), name);
    case Kind::kNamespace:
      for (const auto& [key, value] : object.as_namespace().attributes) {
        if (key == name) {
          return value;
        }
      }
      return missing(object, name);
    case Kind::kLoop:
      return loop_attribute(object, name).value_or(missing(object, name));
    default:
      break;
  }
  if (std::optional<Value> attribute = python_attribute(object, name)) {
    return *attribute;
  }
  if (object.is(Kind::kDict)) {
    if (const Value* found = object.as_dict().find(std::string_view(name))) {
      return *found;
    }
  }
  return missing(object, name);
}

Value get_item(const Value& object, const Value& index) {
  base::require(!object.is(Kind::kUndefined), "{}: its element {} cannot be read",
                object.is(Kind::kUndefined) ? object.undefined_hint() : "",
                object.is(Kind::kUndefined) ? representation(index) : "");
  if (std::optional<Value> item = find_item(object, index)) {
    return *item;
  }
  if (index.is(Kind::kString)) {
    if (object.is(Kind::kNamespace) || object.is(Kind::kLoop)) {
      return get_attribute(object, index.text());
    }
    return python_attribute(object, index.text()).value_or(missing(object, index.text()));
  }
  return Value::undefined(fmt::format("'{}' object has no such element", type_name(object)));
}

Value get_slice(const Value& object, const Value& start, const Value& stop, const Value& step) {
  switch (object.kind()) {
    case Kind::kString: {
      const std::u32string points = code_points(object.text());
      const SliceBounds bounds = slice_bounds(start, stop, step, static_cast<std::int64_t>(points.size()));
      std::u32string part;
      for (std::int64_t i = 0; i < bounds.count; ++i) {
        part += points[static_cast<std::size_t>(bounds.start + i * bounds.step)];
      }
      return object.is_markup() ? Value::markup(utf8(part)) : Value::string(utf8(part));
    }
    case Kind::kList:
    case Kind::kTuple: {
      const SliceBounds bounds = slice_bounds(start, stop, step, length(object));
      std::vector<Value> part;
      part.reserve(static_cast<std::size_t>(bounds.count));
      for (std::int64_t i = 0; i < bounds.count; ++i) {
        part.push_back(object.items()[static_cast<std::size_t>(bounds.start + i * bounds.step)]);
      }
      return object.is(Kind::kList) ? Value::list(std::move(part)) : Value::tuple(std::move(part));
    }
    case Kind::kUndefined:
      base::fail("{}: it cannot be sliced", object.undefined_hint());
    default:
      base::fail("a slice of a '{}' is not supported", type_name(object));
  }
}

}  // namespace flyover::data::jinja
