// Python's two ways to format text into a pattern: '%s' % x and '{}'.format(x), as far as chat templates use them.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "base/error.h"
#include "data/jinja/builtins.h"
#include "data/jinja/unicode.h"

namespace flyover::data::jinja {
namespace {

constexpr int kMaximumWidth = 10000;
constexpr int kMaximumPrecision = 100;

struct Conversion {
  std::string key;
  bool has_key = false;
  std::string flags;
  int width = 0;
  int precision = -1;
  char type = 's';
};

/// Reads the conversion behind the '%' at `position`, which is moved behind it.
class ConversionReader {
 public:
  ConversionReader(const std::string& pattern, std::size_t& position) : pattern_(pattern), position_(position) {}

  Conversion read() {
    Conversion conversion;
    if (peek() == '(') {
      const std::size_t end = pattern_.find(')', position_);
      base::require(end != std::string::npos, "a format has a ( without )");
      conversion.key = pattern_.substr(position_ + 1, end - position_ - 1);
      conversion.has_key = true;
      position_ = end + 1;
    }
    while (std::string_view("-+ 0#").find(peek()) != std::string_view::npos) {
      conversion.flags += take();
    }
    conversion.width = number(kMaximumWidth);
    if (peek() == '.') {
      take();
      conversion.precision = number(kMaximumPrecision);
    }
    conversion.type = take();
    return conversion;
  }

 private:
  char peek() const {
    base::require(position_ < pattern_.size(), "the format \"{}\" ends within a conversion", pattern_.substr(0, 40));
    return pattern_[position_];
  }
  char take() {
    const char byte = peek();
    ++position_;
    return byte;
  }
  int number(int limit) {
    int value = 0;
    while (peek() >= '0' && peek() <= '9') {
      value = value * 10 + (take() - '0');
      base::require(value <= limit, "a width or precision above {} is not supported", limit);
    }
    return value;
  }

  const std::string& pattern_;
  std::size_t& position_;
};

std::string with_sign_and_width(std::string digits, bool negative, const Conversion& conversion) {
  const auto has = [&](char flag) { return conversion.flags.find(flag) != std::string::npos; };
  const std::string sign = negative ? "-" : has('+') ? "+" : has(' ') ? " " : "";
  if (has('0') && !has('-')) {
    digits = padded(digits, conversion.width - static_cast<int>(sign.size()), "0", 1.0);
  }
  return padded(sign + digits, conversion.width, " ", has('-') ? 0.0 : 1.0);
}

std::string format_integer(const Value& value, const Conversion& conversion) {
  base::require(value.is_integral() ||
                    (value.is(Kind::kFloat) && conversion.type == 'd' && std::fabs(value.as_double()) < 9.0e18),
                "%{} expects an integer, found '{}'", conversion.type, type_name(value));
  base::require(conversion.precision < 0 && conversion.flags.find('#') == std::string::npos,
                "a precision or # with %{} is not supported", conversion.type);
  const std::int64_t number =
      value.is(Kind::kFloat) ? static_cast<std::int64_t>(value.as_double()) : value.as_integer();
  const std::uint64_t magnitude =
      number < 0 ? std::uint64_t{0} - static_cast<std::uint64_t>(number) : static_cast<std::uint64_t>(number);
  const std::string digits = conversion.type == 'x'   ? fmt::format("{:x}", magnitude)
                             : conversion.type == 'X' ? fmt::format("{:X}", magnitude)
                             : conversion.type == 'o' ? fmt::format("{:o}", magnitude)
                                                      : fmt::format("{}", magnitude);
  return with_sign_and_width(digits, number < 0, conversion);
}

std::string format_float(const Value& value, const Conversion& conversion) {
  base::require(value.is_numeric(), "%{} expects a number, found '{}'", conversion.type, type_name(value));
  const double number = value.as_double();
  base::require(std::isfinite(number), "formatting of inf and nan is not supported");
  base::require(conversion.flags.find('#') == std::string::npos, "# with %{} is not supported", conversion.type);
  const std::array<char, 6> pattern = {'%', '.', '*', conversion.type, '\0', '\0'};
  std::array<char, 512> buffer{};
  const int size = std::snprintf(buffer.data(), buffer.size(), pattern.data(),
                                 conversion.precision < 0 ? 6 : conversion.precision, std::fabs(number));
  base::check(size > 0 && static_cast<std::size_t>(size) < buffer.size(), "a formatted number of {} bytes", size);
  return with_sign_and_width(std::string(buffer.data(), static_cast<std::size_t>(size)), std::signbit(number),
                             conversion);
}

std::string format_value(const Value& value, Conversion conversion) {
  switch (conversion.type) {
    case 'd':
    case 'i':
    case 'u':
      conversion.type = 'd';
      return format_integer(value, conversion);
    case 'x':
    case 'X':
    case 'o':
      return format_integer(value, conversion);
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
      return format_float(value, conversion);
    case 's':
    case 'r': {
      std::string text = conversion.type == 's' ? to_text(value) : representation(value);
      if (conversion.precision >= 0) {
        text = utf8(code_points(text).substr(0, static_cast<std::size_t>(conversion.precision)));
      }
      return padded(text, conversion.width, " ", conversion.flags.find('-') != std::string::npos ? 0.0 : 1.0);
    }
    default:
      base::fail("the conversion %{} is not supported", conversion.type);
  }
}

}  // namespace

std::string percent_format(const std::string& pattern, const Value& arguments) {
  const bool is_tuple = arguments.is(Kind::kTuple);
  const std::size_t available = is_tuple ? arguments.items().size() : 1;
  std::size_t used = 0;
  bool used_keys = false;
  std::string out;
  for (std::size_t position = 0; position < pattern.size();) {
    if (pattern[position] != '%') {
      out += pattern[position++];
      continue;
    }
    ++position;
    const Conversion conversion = ConversionReader(pattern, position).read();
    if (conversion.type == '%') {
      out += '%';
    } else if (conversion.has_key) {
      base::require(arguments.is(Kind::kDict), "a format with names expects a dict");
      const Value* found = arguments.as_dict().find(std::string_view(conversion.key));
      base::require(found != nullptr, "the format's name \"{}\" is not in the dict", conversion.key);
      used_keys = true;
      out += format_value(*found, conversion);
    } else {
      base::require(used < available, "not enough arguments for the format \"{}\"", pattern.substr(0, 40));
      out += format_value(is_tuple ? arguments.items()[used] : arguments, conversion);
      ++used;
    }
    require_string_size(out.size());
  }
  base::require(used == available || used_keys || arguments.is(Kind::kDict) || arguments.is(Kind::kList) ||
                    arguments.is(Kind::kUndefined),
                "not all arguments were used by the format \"{}\"", pattern.substr(0, 40));
  return out;
}

std::string brace_format(const std::string& pattern, const Arguments& arguments) {
  std::string out;
  std::size_t next_automatic = 0;
  for (std::size_t position = 0; position < pattern.size(); ++position) {
    const char byte = pattern[position];
    if (byte != '{' && byte != '}') {
      out += byte;
      continue;
    }
    if (position + 1 < pattern.size() && pattern[position + 1] == byte) {
      out += byte;
      ++position;
      continue;
    }
    const std::size_t end = pattern.find('}', position);
    base::require(byte == '{' && end != std::string::npos, "format: a single brace in \"{}\"", pattern.substr(0, 40));
    const std::string field = pattern.substr(position + 1, end - position - 1);
    base::require(field.find_first_of(".[:!{") == std::string::npos, "format: the field {{{}}} is not supported",
                  field);
    const bool is_number = field.find_first_not_of("0123456789") == std::string::npos;
    if (is_number) {
      base::require(field.size() < 6, "format: the field {{{}}} has no argument", field);
      const std::size_t index = field.empty() ? next_automatic++ : static_cast<std::size_t>(std::stoi(field));
      base::require(index < arguments.positional.size(), "format: the field {{{}}} has no argument", field);
      out += to_text(arguments.positional[index]);
    } else {
      const auto found = std::find_if(arguments.named.begin(), arguments.named.end(),
                                      [&](const auto& argument) { return argument.first == field; });
      base::require(found != arguments.named.end(), "format: the field {{{}}} has no argument", field);
      out += to_text(found->second);
    }
    require_string_size(out.size());
    position = end;
  }
  return out;
}

}  // namespace flyover::data::jinja
