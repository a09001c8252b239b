#include "cli/number_options.h"

#include <cmath>
#include <optional>
#include <type_traits>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <fmt/core.h>

namespace flyover::cli {
namespace {

/// The value that the text stands for, if the type holds it.
template <typename Value>
std::optional<Value> parse(const std::string& text) {
  if constexpr (std::is_same_v<Value, std::uint64_t>) {
    return recipe::parse_unsigned(text);
  } else if constexpr (std::is_integral_v<Value>) {
    const auto value = recipe::parse_integer(text);
    return value && *value == static_cast<Value>(*value) ? std::optional(static_cast<Value>(*value)) : std::nullopt;
  } else {
    const auto value = recipe::parse_number(text);
    const auto narrow = static_cast<Value>(value.value_or(NAN));
    return std::isfinite(narrow) ? std::optional(narrow) : std::nullopt;
  }
}

template <typename Value>
CLI::Option* add(CLI::App& command, const std::string& name, Value& value, const recipe::Range& range,
                 const std::string& help) {
  const auto check = [range](const std::string& text) {
    const auto number = parse<Value>(text);
    if (number && range.contains(static_cast<double>(*number))) {
      return std::string();
    }
    const std::string expected = recipe::with_range(std::is_integral_v<Value> ? "an integer" : "a number", range);
    return fmt::format("expected {}, found {}", expected, recipe::quote(text));
  };
  return command.add_option(name, value, help)->check(check)->capture_default_str();
}

}  // namespace

CLI::Option* add_number(CLI::App& command, const std::string& name, int& value, const recipe::Range& range,
                        const std::string& help) {
  return add(command, name, value, range, help);
}

CLI::Option* add_number(CLI::App& command, const std::string& name, std::int64_t& value, const recipe::Range& range,
                        const std::string& help) {
  return add(command, name, value, range, help);
}

CLI::Option* add_number(CLI::App& command, const std::string& name, std::uint64_t& value, const recipe::Range& range,
                        const std::string& help) {
  return add(command, name, value, range, help);
}

CLI::Option* add_number(CLI::App& command, const std::string& name, float& value, const recipe::Range& range,
                        const std::string& help) {
  return add(command, name, value, range, help);
}

}  // namespace flyover::cli
