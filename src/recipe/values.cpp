#include "recipe/values.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace flyover::recipe {
namespace {

std::string_view take_digits(std::string_view& text) {
  const std::size_t end = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string_view digits = text.substr(0, end);
  text.remove_prefix(end);
  return digits;
}

bool take(std::string_view& text, std::string_view any_of) {
  const bool found = !text.empty() && any_of.find(text.front()) != std::string_view::npos;
  text.remove_prefix(found ? 1 : 0);
  return found;
}

/// [-+] digits [. digits] [e [-+] digits]; no leading zeros, which other readers take for octal.
bool is_decimal(std::string_view text, bool integer) {
  take(text, "-+");
  const std::string_view whole = take_digits(text);
  bool digits = !whole.empty();
  if (whole.size() > 1 && whole[0] == '0') {
    return false;
  }
  if (integer) {
    return digits && text.empty();
  }
  if (take(text, ".")) {
    digits = !take_digits(text).empty() || digits;
  }
  if (digits && take(text, "eE")) {
    take(text, "-+");
    digits = !take_digits(text).empty();
  }
  return digits && text.empty();
}

template <typename Value>
std::optional<Value> parse_decimal(std::string_view text, bool integer) {
  if (!is_decimal(text, integer)) {
    return std::nullopt;
  }
  text.remove_prefix(text.front() == '+' ? 1 : 0);
  Value value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(value) : std::nullopt;
}

struct Unit {
  std::string_view name;
  std::uint64_t bytes;
};
constexpr std::array<Unit, 9> kUnits = {{{"TiB", std::uint64_t{1} << 40},
                                         {"GiB", std::uint64_t{1} << 30},
                                         {"MiB", std::uint64_t{1} << 20},
                                         {"KiB", std::uint64_t{1} << 10},
                                         {"TB", 1'000'000'000'000},
                                         {"GB", 1'000'000'000},
                                         {"MB", 1'000'000},
                                         {"KB", 1'000},
                                         {"B", 1}}};

constexpr std::string_view kBytesExpected =
    "a size such as 20GiB or 512MB (units B, KiB, MiB, GiB, TiB, KB, MB, GB, TB)";

}  // namespace

bool Range::contains(double value) const {
  return (above ? value > lowest : value >= lowest) && (below ? value < highest : value <= highest);
}

std::string with_range(std::string_view noun, const Range& range) {
  const bool has_lowest = std::isfinite(range.lowest);
  const bool has_highest = std::isfinite(range.highest);
  std::string text(noun);
  if (has_lowest && has_highest && !range.above && !range.below) {
    return text + fmt::format(" from {} to {}", number_text(range.lowest), number_text(range.highest));
  }
  if (has_lowest) {
    text += fmt::format(" {} {}", range.above ? ">" : ">=", number_text(range.lowest));
  }
  if (has_highest) {
    text += fmt::format("{} {} {}", has_lowest ? " and" : "", range.below ? "<" : "<=", number_text(range.highest));
  }
  return text;
}

std::string quote(std::string_view text) {
  constexpr std::size_t kLongest = 80;
  const bool cut = text.size() > kLongest;
  // A cut within a character leaves an ill-formed tail, which is replaced.
  const nlohmann::json value = text.substr(0, kLongest);
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + (cut ? "..." : "");
}

std::string describe(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull:
      return "nothing";
    case Node::Kind::kSequence:
      return "a list";
    case Node::Kind::kMapping:
      return "a mapping";
    case Node::Kind::kScalar:
      break;
  }
  const bool is_word = node.text == "true" || node.text == "false" || is_decimal(node.text, false);
  if (!is_word) {
    return quote(node.text);
  }
  return node.quoted ? fmt::format("the string {}", quote(node.text)) : node.text.substr(0, 80);
}

void refuse(const Node& node, std::string_view path, std::string_view expected) {
  base::fail("{}: {}: expected {}, found {}", node.where, path.empty() ? "the recipe" : path, expected, describe(node));
}

std::optional<double> parse_number(std::string_view text) {
  return parse_decimal<double>(text, false);
}
std::optional<std::int64_t> parse_integer(std::string_view text) {
  return parse_decimal<std::int64_t>(text, true);
}
std::optional<std::uint64_t> parse_unsigned(std::string_view text) {
  return parse_decimal<std::uint64_t>(text, true);
}

double read_number(const Node& node, std::string_view path, const Range& range) {
  const auto value = node.kind == Node::Kind::kScalar && !node.quoted ? parse_number(node.text) : std::nullopt;
  if (!value || !std::isfinite(*value) || !range.contains(*value)) {
    refuse(node, path, with_range("a number", range));
  }
  return *value;
}

std::int64_t read_integer(const Node& node, std::string_view path, const Range& range) {
  const auto value = node.kind == Node::Kind::kScalar && !node.quoted ? parse_integer(node.text) : std::nullopt;
  if (!value || !range.contains(static_cast<double>(*value))) {
    refuse(node, path, with_range("an integer", range));
  }
  return *value;
}

std::uint64_t read_unsigned(const Node& node, std::string_view path) {
  const auto value = node.kind == Node::Kind::kScalar && !node.quoted ? parse_unsigned(node.text) : std::nullopt;
  if (!value) {
    refuse(node, path, "an integer from 0 to 18446744073709551615");
  }
  return *value;
}

bool read_boolean(const Node& node, std::string_view path) {
  if (node.kind != Node::Kind::kScalar || node.quoted || (node.text != "true" && node.text != "false")) {
    refuse(node, path, "true or false");
  }
  return node.text == "true";
}

std::string read_string(const Node& node, std::string_view path, const Range& length) {
  if (node.kind != Node::Kind::kScalar || !length.contains(static_cast<double>(node.text.size()))) {
    refuse(node, path, length.lowest > 0 ? "a string that is not empty" : "a string");
  }
  base::require(node.text.find('\0') == std::string::npos, "{}: {}: a string cannot hold a NUL character", node.where,
                path);
  return node.text;
}

std::uint64_t read_bytes(const Node& node, std::string_view path) {
  if (node.kind == Node::Kind::kScalar && node.text.empty()) {
    return 0;
  }
  if (node.kind != Node::Kind::kScalar) {
    refuse(node, path, kBytesExpected);
  }
  const std::string_view text = node.text;
  for (const Unit& unit : kUnits) {
    if (!text.ends_with(unit.name)) {
      continue;
    }
    std::string_view number = text.substr(0, text.size() - unit.name.size());
    number = number.substr(0, number.find_last_not_of(' ') + 1);
    if (const auto whole = parse_unsigned(number); whole && *whole <= UINT64_MAX / unit.bytes && *whole > 0) {
      return *whole * unit.bytes;
    }
    const auto value = parse_number(number);
    const double bytes = value.value_or(0) * static_cast<double>(unit.bytes);
    if (bytes >= 1 && bytes < 0x1p63) {
      return static_cast<std::uint64_t>(bytes);
    }
    break;
  }
  refuse(node, path, kBytesExpected);
}

std::string number_text(double value) {
  return fmt::format("{}", value);
}

std::string bytes_text(std::uint64_t bytes) {
  if (bytes == 0) {
    return "";
  }
  const Unit* best = &kUnits.back();
  for (const Unit& unit : kUnits) {
    best = bytes % unit.bytes == 0 && unit.bytes > best->bytes ? &unit : best;
  }
  return fmt::format("{}{}", bytes / best->bytes, best->name);
}

}  // namespace flyover::recipe
