// Arithmetic with Python's rules; an overflow of 64-bit integers is an error.
#include <array>
#include <cmath>

#include "base/error.h"
#include "data/jinja/builtins.h"

namespace flyover::data::jinja {
namespace {

constexpr std::array<std::string_view, 7> kSymbols = {"+", "-", "*", "/", "//", "%", "**"};

[[noreturn]] void unsupported(BinaryOperator operation, const Value& left, const Value& right) {
  for (const Value* value : {&left, &right}) {
    base::require(!value->is(Kind::kUndefined), "{}", value->is(Kind::kUndefined) ? value->undefined_hint() : "");
  }
  base::fail("'{}' is not defined between '{}' and '{}'", kSymbols[static_cast<std::size_t>(operation)],
             type_name(left), type_name(right));
}

[[noreturn]] void overflow(BinaryOperator operation, std::int64_t left, std::int64_t right) {
  base::fail("{} {} {} does not fit into 64 bits", left, kSymbols[static_cast<std::size_t>(operation)], right);
}

std::int64_t floor_divide(std::int64_t left, std::int64_t right) {
  base::require(right != 0, "division by zero");
  if (right == -1) {
    if (left == INT64_MIN) {
      overflow(BinaryOperator::kFloorDivide, left, right);
    }
    return -left;
  }
  const std::int64_t quotient = left / right;
  return left % right != 0 && (left < 0) != (right < 0) ? quotient - 1 : quotient;
}

std::int64_t floor_modulo(std::int64_t left, std::int64_t right) {
  base::require(right != 0, "modulo by zero");
  if (right == -1) {
    return 0;
  }
  const std::int64_t rest = left % right;
  return rest != 0 && (rest < 0) != (right < 0) ? rest + right : rest;
}

Value power(std::int64_t base_number, std::int64_t exponent) {
  if (exponent < 0) {
    base::require(base_number != 0, "0 cannot be raised to a negative power");
    return Value::number(std::pow(static_cast<double>(base_number), static_cast<double>(exponent)));
  }
  std::int64_t result = 1;
  std::int64_t factor = base_number;
  for (std::int64_t rest = exponent; rest > 0; rest /= 2) {
    if (rest % 2 == 1 && __builtin_mul_overflow(result, factor, &result)) {
      overflow(BinaryOperator::kPower, base_number, exponent);
    }
    if (rest > 1 && __builtin_mul_overflow(factor, factor, &factor)) {
      overflow(BinaryOperator::kPower, base_number, exponent);
    }
  }
  return Value::integer(result);
}

Value calculate_integers(BinaryOperator operation, std::int64_t left, std::int64_t right) {
  std::int64_t result = 0;
  bool overflows = false;
  switch (operation) {
    case BinaryOperator::kAdd:
      overflows = __builtin_add_overflow(left, right, &result);
      break;
    case BinaryOperator::kSubtract:
      overflows = __builtin_sub_overflow(left, right, &result);
      break;
    case BinaryOperator::kMultiply:
      overflows = __builtin_mul_overflow(left, right, &result);
      break;
    case BinaryOperator::kDivide:
      base::require(right != 0, "division by zero");
      return Value::number(static_cast<double>(static_cast<long double>(left) / static_cast<long double>(right)));
    case BinaryOperator::kFloorDivide:
      return Value::integer(floor_divide(left, right));
    case BinaryOperator::kModulo:
      return Value::integer(floor_modulo(left, right));
    case BinaryOperator::kPower:
      return power(left, right);
  }
  if (overflows) {
    overflow(operation, left, right);
  }
  return Value::integer(result);
}

double float_modulo(double left, double right) {
  const double rest = std::fmod(left, right);
  if (rest == 0.0) {
    return std::copysign(0.0, right);
  }
  return (rest < 0) != (right < 0) ? rest + right : rest;
}

/// As CPython's float_divmod: exact where (left - rest) / right is.
double float_floor_divide(double left, double right) {
  const double rest = std::fmod(left, right);
  double quotient = (left - rest) / right;
  if (rest != 0.0 && (rest < 0) != (right < 0)) {
    quotient -= 1.0;
  }
  if (quotient == 0.0) {
    return std::copysign(0.0, left / right);
  }
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1.0 : whole;
}

Value calculate_floats(BinaryOperator operation, double left, double right) {
  switch (operation) {
    case BinaryOperator::kAdd:
      return Value::number(left + right);
    case BinaryOperator::kSubtract:
      return Value::number(left - right);
    case BinaryOperator::kMultiply:
      return Value::number(left * right);
    case BinaryOperator::kDivide:
      base::require(right != 0.0, "division by zero");
      return Value::number(left / right);
    case BinaryOperator::kFloorDivide:
      base::require(right != 0.0, "division by zero");
      return Value::number(float_floor_divide(left, right));
    case BinaryOperator::kModulo:
      base::require(right != 0.0, "modulo by zero");
      return Value::number(float_modulo(left, right));
    case BinaryOperator::kPower: {
      base::require(left != 0.0 || right >= 0.0, "0 cannot be raised to a negative power");
      const double result = std::pow(left, right);
      base::require(!std::isnan(result) || std::isnan(left) || std::isnan(right),
                    "a negative number cannot be raised to a fractional power");
      base::require(!std::isinf(result) || std::isinf(left) || std::isinf(right), "the power is too large");
      return Value::number(result);
    }
  }
  base::check(false, "unknown operation");
  return {};
}

bool is_repeatable(const Value& value) {
  return (value.is(Kind::kString) && !value.is_markup()) || value.is(Kind::kList) || value.is(Kind::kTuple);
}

Value repeat(const Value& value, std::int64_t count) {
  const std::uint64_t times = count > 0 ? static_cast<std::uint64_t>(count) : 0;
  const auto checked_size = [&](std::uint64_t size, void (*limit)(std::uint64_t)) {
    std::uint64_t total = 0;
    limit(__builtin_mul_overflow(size, times, &total) ? UINT64_MAX : total);
    return total;
  };
  if (value.is(Kind::kString)) {
    std::string text;
    text.reserve(checked_size(value.text().size(), require_string_size));
    for (std::uint64_t i = 0; i < times && !value.text().empty(); ++i) {
      text += value.text();
    }
    return Value::string(std::move(text));
  }
  std::vector<Value> items;
  items.reserve(checked_size(value.items().size(), require_element_count));
  for (std::uint64_t i = 0; i < times && !value.items().empty(); ++i) {
    items.insert(items.end(), value.items().begin(), value.items().end());
  }
  return value.is(Kind::kList) ? Value::list(std::move(items)) : Value::tuple(std::move(items));
}

}  // namespace

Value escaped(const Value& value) {
  if (value.is_markup()) {
    return value;
  }
  std::string out;
  for (const char byte : to_text(value)) {
    switch (byte) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += byte;
    }
  }
  return Value::markup(std::move(out));
}

Value add(const Value& left, const Value& right) {
  if (left.is(Kind::kString) && right.is(Kind::kString)) {
    require_string_size(left.text().size() + right.text().size());
    if (left.is_markup() || right.is_markup()) {
      return Value::markup(escaped(left).text() + escaped(right).text());
    }
    return Value::string(left.text() + right.text());
  }
  if ((left.is(Kind::kList) && right.is(Kind::kList)) || (left.is(Kind::kTuple) && right.is(Kind::kTuple))) {
    std::vector<Value> items = left.items();
    items.insert(items.end(), right.items().begin(), right.items().end());
    return left.is(Kind::kList) ? Value::list(std::move(items)) : Value::tuple(std::move(items));
  }
  if (left.is_integral() && right.is_integral()) {
    return calculate_integers(BinaryOperator::kAdd, left.as_integer(), right.as_integer());
  }
  if (left.is_numeric() && right.is_numeric()) {
    return Value::number(left.as_double() + right.as_double());
  }
  unsupported(BinaryOperator::kAdd, left, right);
}

Value calculate(BinaryOperator operation, const Value& left, const Value& right) {
  if (operation == BinaryOperator::kAdd) {
    return add(left, right);
  }
  if (left.is_integral() && right.is_integral()) {
    return calculate_integers(operation, left.as_integer(), right.as_integer());
  }
  if (left.is_numeric() && right.is_numeric()) {
    return calculate_floats(operation, left.as_double(), right.as_double());
  }
  if (operation == BinaryOperator::kMultiply && is_repeatable(left) && right.is_integral()) {
    return repeat(left, right.as_integer());
  }
  if (operation == BinaryOperator::kMultiply && left.is_integral() && is_repeatable(right)) {
    return repeat(right, left.as_integer());
  }
  if (operation == BinaryOperator::kModulo && left.is(Kind::kString) && !left.is_markup()) {
    return Value::string(percent_format(left.text(), right));
  }
  unsupported(operation, left, right);
}

Value negate(const Value& value) {
  if (value.is_integral()) {
    base::require(value.as_integer() != INT64_MIN, "-({}) does not fit into 64 bits", value.as_integer());
    return Value::integer(-value.as_integer());
  }
  if (value.is(Kind::kFloat)) {
    return Value::number(-value.as_double());
  }
  base::require(!value.is(Kind::kUndefined), "{}", value.is(Kind::kUndefined) ? value.undefined_hint() : "");
  base::fail("unary minus is not defined for '{}'", type_name(value));
}

}  // namespace flyover::data::jinja
