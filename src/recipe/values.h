// Scalars of a document as typed values: what is a number, what is a boolean, and how a message says that it is not.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "recipe/yaml.h"

namespace flyover::recipe {

/// The values that a number (or the length that a string) may have.
struct Range {
  double lowest = -std::numeric_limits<double>::infinity();
  double highest = std::numeric_limits<double>::infinity();
  bool above = false;  ///< `lowest` itself is out
  bool below = false;  ///< `highest` itself is out
  bool contains(double value) const;
};

/// Tokens, steps and the like that may be asked for at most: what a plan still lists on the host.
inline constexpr std::int64_t kMostTokens = std::int64_t{1} << 24;

/// Sequences of a step at most: more than a run may visit (data::BatchPlan).
inline constexpr std::int64_t kMostBatchSequences = 100'000'000;
/// Tokens of a step at most.
inline constexpr std::int64_t kMostBatchTokens = std::int64_t{1} << 40;

constexpr Range at_least(double lowest) {
  return {.lowest = lowest};
}
constexpr Range above(double lowest) {
  return {.lowest = lowest, .above = true};
}
constexpr Range between(double lowest, double highest) {
  return {.lowest = lowest, .highest = highest};
}
constexpr Range from_up_to_below(double lowest, double highest) {
  return {.lowest = lowest, .highest = highest, .below = true};
}
constexpr Range above_up_to(double lowest, double highest) {
  return {.lowest = lowest, .highest = highest, .above = true};
}
/// For strings.
constexpr Range not_empty() {
  return at_least(1);
}

/// "a number > 0" for the noun "a number".
std::string with_range(std::string_view noun, const Range& range);

/// Text in double quotes with escapes, shortened, for messages.
std::string quote(std::string_view text);

/// What a node is, for messages: "-3", "\"fast\"", "a list", "a mapping", "nothing".
std::string describe(const Node& node);

/// Throws Error "<where>: <path>: expected <expected>, found ...".
[[noreturn]] void refuse(const Node& node, std::string_view path, std::string_view expected);

/// Typed readings. Each throws Error through refuse(). A number is decimal ("1e-4", not "0x10", "1_000", "010" or
/// ".inf"), an integer has neither point nor exponent, a boolean is true or false; a string is any scalar, verbatim.
double read_number(const Node& node, std::string_view path, const Range& range);
std::int64_t read_integer(const Node& node, std::string_view path, const Range& range);
std::uint64_t read_unsigned(const Node& node, std::string_view path);
bool read_boolean(const Node& node, std::string_view path);
std::string read_string(const Node& node, std::string_view path, const Range& length);
/// Bytes: "20GiB", "512 MB", "1.5TiB", or "" for 0.
std::uint64_t read_bytes(const Node& node, std::string_view path);

/// What the text of an unquoted scalar means if it is a number; nothing otherwise.
std::optional<double> parse_number(std::string_view text);
std::optional<std::int64_t> parse_integer(std::string_view text);
std::optional<std::uint64_t> parse_unsigned(std::string_view text);

/// The shortest text that parse_number reads back as the same value.
std::string number_text(double value);
/// The text that read_bytes reads back as the same count, in the largest unit that divides it.
std::string bytes_text(std::uint64_t bytes);

}  // namespace flyover::recipe
