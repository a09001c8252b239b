// Filters on numbers, and conversions to numbers.
#include <array>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "data/jinja/builtins.h"
#include "data/jinja/unicode.h"

namespace flyover::data::jinja {
namespace {

Value filter_abs(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments none("abs", arguments, {});
  base::require(input.is_numeric(), "abs expects a number, found '{}'", type_name(input));
  if (input.is(Kind::kFloat)) {
    return Value::number(std::fabs(input.as_double()));
  }
  return input.as_integer() < 0 ? negate(input) : Value::integer(input.as_integer());
}

/// Digits with single underscores between them removed, or nothing for anything else around an underscore.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '_') {
      const auto is_digit = [&](std::size_t at) {
        return at < text.size() && std::isalnum(static_cast<unsigned char>(text[at])) != 0;
      };
      if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) {
        return std::nullopt;
      }
    } else {
      out += text[i];
    }
  }
  return out;
}

/// int(text, base) of Python, or nothing where it raises ValueError. Throws Error for more than 64 bits.
std::optional<std::int64_t> parse_integer(std::string_view given, std::int64_t number_base) {
  base::require(number_base == 0 || (number_base >= 2 && number_base <= 36), "int: the base {} is not supported",
                number_base);
  std::string_view text = strip(given);
  require_ascii(text, "int");
  const bool negative = text.starts_with('-');
  text.remove_prefix(negative || text.starts_with('+') ? 1 : 0);
  for (const auto& [letter, prefixed_base] : {std::pair('x', 16), std::pair('o', 8), std::pair('b', 2)}) {
    if (text.size() > 2 && text[0] == '0' && (text[1] | 0x20) == letter &&
        (number_base == 0 || number_base == prefixed_base)) {
      number_base = prefixed_base;
      text.remove_prefix(text[2] == '_' ? 3 : 2);
      break;
    }
  }
  const std::optional<std::string> digits = without_underscores(text);
  if (!digits || digits->empty() || (*digits)[0] == '-' || (*digits)[0] == '+') {
    return std::nullopt;
  }
  if (number_base == 0 && (*digits)[0] == '0' && digits->find_first_not_of('0') != std::string::npos) {
    return std::nullopt;
  }
  const std::string signed_digits = (negative ? "-" : "") + *digits;
  std::int64_t value = 0;
  const auto result = std::from_chars(signed_digits.data(), signed_digits.data() + signed_digits.size(), value,
                                      static_cast<int>(number_base == 0 ? 10 : number_base));
  base::require(result.ec != std::errc::result_out_of_range, "int: {} does not fit into 64 bits", given.substr(0, 40));
  if (result.ec != std::errc() || result.ptr != signed_digits.data() + signed_digits.size()) {
    return std::nullopt;
  }
  return value;
}

/// float(text) of Python, or nothing where it raises ValueError.
std::optional<double> parse_float(std::string_view given) {
  std::string_view text = strip(given);
  if (!is_ascii(text)) {
    require_ascii(text, "float");
  }
  const bool negative = text.starts_with('-');
  text.remove_prefix(negative || text.starts_with('+') ? 1 : 0);
  const std::optional<std::string> digits = without_underscores(text);
  if (!digits || digits->empty() || (*digits)[0] == '-' || (*digits)[0] == '+' ||
      digits->find('(') != std::string::npos) {
    return std::nullopt;
  }
  double value = 0;
  const auto result = std::from_chars(digits->data(), digits->data() + digits->size(), value);
  if (result.ptr != digits->data() + digits->size() || result.ec == std::errc::invalid_argument) {
    return std::nullopt;
  }
  if (result.ec == std::errc::result_out_of_range) {
    const bool is_tiny = digits->find("e-") != std::string::npos || digits->find("E-") != std::string::npos;
    value = is_tiny ? 0.0 : HUGE_VAL;
  }
  return negative ? -value : value;
}

std::optional<std::int64_t> truncated(double value) {
  if (!std::isfinite(value)) {
    return std::nullopt;
  }
  base::require(std::fabs(value) < 9.2e18, "int: {} does not fit into 64 bits", value);
  return static_cast<std::int64_t>(value);
}

Value filter_int(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments bound("int", arguments, {"default", "base"});
  const Value fallback = bound.get(0, Value::integer(0));
  std::optional<std::int64_t> result;
  if (input.is_integral()) {
    result = input.as_integer();
  } else if (input.is(Kind::kFloat)) {
    base::require(!std::isinf(input.as_double()), "int: infinity has no integer");
    result = truncated(input.as_double());
  } else if (input.is(Kind::kString)) {
    result = parse_integer(input.text(), bound.integer(1, 10));
    if (!result) {
      const std::optional<double> number = parse_float(input.text());
      result = number ? truncated(*number) : std::nullopt;
    }
  } else {
    base::require(!input.is(Kind::kUndefined), "{}", input.is(Kind::kUndefined) ? input.undefined_hint() : "");
  }
  return result ? Value::integer(*result) : fallback;
}

Value filter_float(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments bound("float", arguments, {"default"});
  const Value fallback = bound.get(0, Value::number(0.0));
  if (input.is_numeric()) {
    return Value::number(input.as_double());
  }
  base::require(!input.is(Kind::kUndefined), "{}", input.is(Kind::kUndefined) ? input.undefined_hint() : "");
  const std::optional<double> number = input.is(Kind::kString) ? parse_float(input.text()) : std::nullopt;
  return number ? Value::number(*number) : fallback;
}

/// Python's round(value, digits): to even on the exact binary value.
double rounded(double value, std::int64_t digits) {
  base::require(digits >= 0, "round with a negative precision is not supported");
  if (!std::isfinite(value) || digits > 300) {
    return value;
  }
  const std::string text = fmt::format("{:.{}f}", value, digits);
  double result = 0;
  std::from_chars(text.data(), text.data() + text.size(), result);
  return result;
}

Value filter_round(Interpreter&, const Value& input, Arguments& arguments) {
  const BoundArguments bound("round", arguments, {"precision", "method"});
  const std::int64_t precision = bound.integer(0, 0);
  const std::string method = bound.string(1).value_or("common");
  base::require(method == "common" || method == "ceil" || method == "floor",
                "round: the method must be common, ceil or floor, found \"{}\"", method);
  base::require(input.is_numeric(), "round expects a number, found '{}'", type_name(input));
  if (method == "common") {
    base::require(precision >= 0, "round with a negative precision is not supported");
    return input.is_integral() ? Value::integer(input.as_integer())
                               : Value::number(rounded(input.as_double(), precision));
  }
  base::require(precision >= 0 && precision <= 15, "round: the precision {} is not supported with ceil and floor",
                precision);
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = input.as_double() * scale;
  base::require(std::isfinite(scaled), "round: the number is too large");
  return Value::number((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

constexpr std::array<NamedFilter, 4> kNumberFilters = {
    {{"abs", filter_abs}, {"float", filter_float}, {"int", filter_int}, {"round", filter_round}}};

}  // namespace

std::span<const NamedFilter> number_filters() {
  return kNumberFilters;
}

}  // namespace flyover::data::jinja
