// Binding of call arguments to parameters, and the look-up of filters by name.
#include <algorithm>

#include "base/error.h"
#include "data/jinja/builtins.h"

namespace flyover::data::jinja {

BoundArguments::BoundArguments(std::string_view function, Arguments& arguments,
                               std::initializer_list<std::string_view> names, std::size_t required)
    : function_(function), values_(names.size()) {
  base::require(arguments.positional.size() <= names.size(), "{} takes at most {} arguments, found {}", function,
                names.size(), arguments.positional.size());
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
    values_[i] = std::move(arguments.positional[i]);
  }
  for (auto& [name, value] : arguments.named) {
    const auto* const found = std::find(names.begin(), names.end(), name);
    base::require(found != names.end(), "{} has no argument named {}", function, name);
    const auto index = static_cast<std::size_t>(found - names.begin());
    base::require(!values_[index].has_value(), "{} is given the argument {} twice", function, name);
    values_[index] = std::move(value);
  }
  for (std::size_t i = 0; i < required; ++i) {
    base::require(values_[i].has_value(), "{} needs the argument {}", function, *(names.begin() + i));
  }
}

std::int64_t BoundArguments::integer(std::size_t index, std::int64_t fallback) const {
  const Value* value = find(index);
  if (value == nullptr) {
    return fallback;
  }
  base::require(value->is_integral(), "{} expects an integer, found '{}'", function_, type_name(*value));
  return value->as_integer();
}

bool BoundArguments::boolean(std::size_t index, bool fallback) const {
  const Value* value = find(index);
  return value == nullptr ? fallback : truthy(*value);
}

std::optional<std::string> BoundArguments::string(std::size_t index) const {
  const Value* value = find(index);
  if (value == nullptr || value->is(Kind::kNone)) {
    return std::nullopt;
  }
  base::require(value->is(Kind::kString), "{} expects a string, found '{}'", function_, type_name(*value));
  return value->text();
}

FilterFunction find_filter(std::string_view name) {
  for (const auto group : {text_filters(), sequence_filters(), number_filters()}) {
    const auto found = std::find_if(group.begin(), group.end(), [&](const auto& entry) { return entry.name == name; });
    if (found != group.end()) {
      return found->function;
    }
  }
  return nullptr;
}

}  // namespace flyover::data::jinja
