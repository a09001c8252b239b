// The methods of Python's dict, list and tuple that do not change their object.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "data/jinja/builtins.h"

namespace flyover::data::jinja {
namespace {

Value dict_items(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments none("items", arguments, {});
  std::vector<Value> items;
  for (const auto& [key, value] : self.as_dict().entries()) {
    items.push_back(Value::tuple({key, value}));
  }
  return Value::view("dict_items", std::move(items));
}

Value dict_keys(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments none("keys", arguments, {});
  return Value::view("dict_keys", iterate(self));
}

Value dict_values(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments none("values", arguments, {});
  std::vector<Value> values;
  for (const auto& [key, value] : self.as_dict().entries()) {
    values.push_back(value);
  }
  return Value::view("dict_values", std::move(values));
}

Value dict_get(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments bound("get", arguments, {"key", "default"}, 1);
  const Value* found = self.as_dict().find(bound[0]);
  return found == nullptr ? bound.get(1, Value::none()) : *found;
}

Value copy(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments none("copy", arguments, {});
  return self;
}

Value list_count(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments bound("count", arguments, {"value"}, 1);
  return Value::integer(std::count_if(self.items().begin(), self.items().end(),
                                      [&](const Value& item) { return equal(item, bound[0]); }));
}

Value list_index(Interpreter&, const Value& self, Arguments& arguments) {
  const BoundArguments bound("index", arguments, {"value"}, 1);
  const auto found =
      std::find_if(self.items().begin(), self.items().end(), [&](const Value& item) { return equal(item, bound[0]); });
  base::require(found != self.items().end(), "index: the value is not in the list");
  return Value::integer(found - self.items().begin());
}

constexpr std::array<Method, 6> kDictMethods = {{{"copy", copy},
                                                 {"fromkeys", nullptr},
                                                 {"get", dict_get},
                                                 {"items", dict_items},
                                                 {"keys", dict_keys},
                                                 {"values", dict_values}}};
constexpr std::array<Method, 3> kListMethods = {{{"copy", copy}, {"count", list_count}, {"index", list_index}}};

}  // namespace

std::span<const Method> dict_methods() {
  return kDictMethods;
}

std::span<const Method> list_methods() {
  return kListMethods;
}

}  // namespace flyover::data::jinja
