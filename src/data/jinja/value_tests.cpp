// The tests behind `is`.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "data/jinja/builtins.h"
#include "data/jinja/unicode.h"

namespace flyover::data::jinja {
namespace {

void no_arguments(std::string_view name, Arguments& arguments) {
  const BoundArguments none(name, arguments, {});
}

Value one_argument(std::string_view name, Arguments& arguments) {
  return BoundArguments(name, arguments, {"other"}, 1)[0];
}

/// value % divisor == rest, with Python's rules for each type.
bool leaves_rest(const Value& value, const Value& divisor, std::int64_t rest) {
  return equal(calculate(BinaryOperator::kModulo, value, divisor), Value::integer(rest));
}

bool test_defined(const Value& value, Arguments& arguments) {
  no_arguments("defined", arguments);
  return !value.is(Kind::kUndefined);
}
bool test_undefined(const Value& value, Arguments& arguments) {
  no_arguments("undefined", arguments);
  return value.is(Kind::kUndefined);
}
bool test_none(const Value& value, Arguments& arguments) {
  no_arguments("none", arguments);
  return value.is(Kind::kNone);
}
bool test_boolean(const Value& value, Arguments& arguments) {
  no_arguments("boolean", arguments);
  return value.is(Kind::kBoolean);
}
bool test_true(const Value& value, Arguments& arguments) {
  no_arguments("true", arguments);
  return value.is(Kind::kBoolean) && value.as_boolean();
}
bool test_false(const Value& value, Arguments& arguments) {
  no_arguments("false", arguments);
  return value.is(Kind::kBoolean) && !value.as_boolean();
}
bool test_integer(const Value& value, Arguments& arguments) {
  no_arguments("integer", arguments);
  return value.is(Kind::kInteger);
}
bool test_float(const Value& value, Arguments& arguments) {
  no_arguments("float", arguments);
  return value.is(Kind::kFloat);
}
bool test_number(const Value& value, Arguments& arguments) {
  no_arguments("number", arguments);
  return value.is_numeric();
}
bool test_string(const Value& value, Arguments& arguments) {
  no_arguments("string", arguments);
  return value.is(Kind::kString);
}
bool test_mapping(const Value& value, Arguments& arguments) {
  no_arguments("mapping", arguments);
  return value.is(Kind::kDict);
}
bool test_iterable(const Value& value, Arguments& arguments) {
  no_arguments("iterable", arguments);
  return is_iterable(value);
}
/// Has a length and elements by index, as Jinja asks: true for dicts and for undefined values, too.
bool test_sequence(const Value& value, Arguments& arguments) {
  no_arguments("sequence", arguments);
  return has_length(value) && !value.is(Kind::kView);
}
bool test_callable(const Value& value, Arguments& arguments) {
  no_arguments("callable", arguments);
  return value.is(Kind::kFunction) || value.is(Kind::kUndefined) || value.is(Kind::kLoop);
}
bool test_escaped(const Value& value, Arguments& arguments) {
  no_arguments("escaped", arguments);
  return value.is_markup();
}
bool test_odd(const Value& value, Arguments& arguments) {
  no_arguments("odd", arguments);
  return leaves_rest(value, Value::integer(2), 1);
}
bool test_even(const Value& value, Arguments& arguments) {
  no_arguments("even", arguments);
  return leaves_rest(value, Value::integer(2), 0);
}
bool test_divisibleby(const Value& value, Arguments& arguments) {
  return leaves_rest(value, one_argument("divisibleby", arguments), 0);
}
bool has_case(const Value& value, std::string_view name, bool upper_case) {
  const std::string text = to_text(value);
  require_ascii(text, fmt::format("the test {}", name));
  const auto is_upper = [](char byte) { return byte >= 'A' && byte <= 'Z'; };
  const auto is_lower = [](char byte) { return byte >= 'a' && byte <= 'z'; };
  const bool any_upper = std::any_of(text.begin(), text.end(), is_upper);
  const bool any_lower = std::any_of(text.begin(), text.end(), is_lower);
  return upper_case ? any_upper && !any_lower : any_lower && !any_upper;
}
bool test_lower(const Value& value, Arguments& arguments) {
  no_arguments("lower", arguments);
  return has_case(value, "lower", false);
}
bool test_upper(const Value& value, Arguments& arguments) {
  no_arguments("upper", arguments);
  return has_case(value, "upper", true);
}
bool test_sameas(const Value& value, Arguments& arguments) {
  return value.same_object(one_argument("sameas", arguments));
}
bool test_in(const Value& value, Arguments& arguments) {
  return contains(one_argument("in", arguments), value);
}
bool test_equal(const Value& value, Arguments& arguments) {
  return equal(value, one_argument("eq", arguments));
}
bool test_not_equal(const Value& value, Arguments& arguments) {
  return !equal(value, one_argument("ne", arguments));
}
bool test_less(const Value& value, Arguments& arguments) {
  return compare(value, one_argument("lt", arguments), "<") == -1;
}
bool test_less_equal(const Value& value, Arguments& arguments) {
  const int order = compare(value, one_argument("le", arguments), "<=");
  return order == -1 || order == 0;
}
bool test_greater(const Value& value, Arguments& arguments) {
  return compare(value, one_argument("gt", arguments), ">") == 1;
}
bool test_greater_equal(const Value& value, Arguments& arguments) {
  const int order = compare(value, one_argument("ge", arguments), ">=");
  return order == 1 || order == 0;
}

struct NamedTest {
  std::string_view name;
  TestFunction function;
};

constexpr std::array<NamedTest, 37> kTests = {{{"!=", test_not_equal},      {"<", test_less},
                                               {"<=", test_less_equal},     {"==", test_equal},
                                               {">", test_greater},         {">=", test_greater_equal},
                                               {"boolean", test_boolean},   {"callable", test_callable},
                                               {"defined", test_defined},   {"divisibleby", test_divisibleby},
                                               {"eq", test_equal},          {"equalto", test_equal},
                                               {"escaped", test_escaped},   {"even", test_even},
                                               {"false", test_false},       {"float", test_float},
                                               {"ge", test_greater_equal},  {"greaterthan", test_greater},
                                               {"gt", test_greater},        {"in", test_in},
                                               {"integer", test_integer},   {"iterable", test_iterable},
                                               {"le", test_less_equal},     {"lessthan", test_less},
                                               {"lower", test_lower},       {"lt", test_less},
                                               {"mapping", test_mapping},   {"ne", test_not_equal},
                                               {"none", test_none},         {"number", test_number},
                                               {"odd", test_odd},           {"sameas", test_sameas},
                                               {"sequence", test_sequence}, {"string", test_string},
                                               {"true", test_true},         {"undefined", test_undefined},
                                               {"upper", test_upper}}};

}  // namespace

TestFunction find_test(std::string_view name) {
  const auto* const found =
      std::find_if(kTests.begin(), kTests.end(), [&](const NamedTest& test) { return test.name == name; });
  return found == kTests.end() ? nullptr : found->function;
}

}  // namespace flyover::data::jinja
