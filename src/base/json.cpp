#include "base/json.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"

namespace flyover::base {
namespace {

constexpr int kMaximumDepth = 512;

/// "line:column" of a byte offset, both counted from one.
std::string position(std::string_view text, std::size_t offset, std::int64_t first_line) {
  offset = std::min(offset, text.size());
  const std::string_view before = text.substr(0, offset);
  const auto line = first_line + std::count(before.begin(), before.end(), '\n');
  const std::size_t newline = before.rfind('\n');
  const std::size_t column = newline == std::string_view::npos ? offset + 1 : offset - newline;
  return fmt::format("{}:{}", line, column);
}

/// The library's message without its "[json.exception...] parse error at line 1, column 2:" preamble.
std::string_view without_preamble(std::string_view message) {
  const std::size_t start = message.find(": ", message.find("column"));
  return start == std::string_view::npos ? message : message.substr(start + 2);
}

const Json& member(const Json& object, std::string_view key, std::string_view source, std::string_view expected) {
  const Json* value = find_member(object, key, source);
  require(value != nullptr, "{}: the key \"{}\" is missing (expected {})", source, key, expected);
  return *value;
}

[[noreturn]] void wrong_type(const Json& value, std::string_view key, std::string_view source,
                             std::string_view expected) {
  fail("{}: \"{}\" must be {}, found {}: {}", source, key, expected, json_type_name(value),
       value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 80));
}

std::int64_t as_integer(const Json& value, std::string_view key, std::string_view source) {
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX)) {
    wrong_type(value, key, source, "a 64-bit integer");
  }
  if (!value.is_number_integer()) {
    wrong_type(value, key, source, "an integer");
  }
  return value.get<std::int64_t>();
}

double as_number(const Json& value, std::string_view key, std::string_view source) {
  if (!value.is_number()) {
    wrong_type(value, key, source, "a number");
  }
  return value.get<double>();
}

std::string as_string(const Json& value, std::string_view key, std::string_view source) {
  if (!value.is_string()) {
    wrong_type(value, key, source, "a string");
  }
  return value.get<std::string>();
}

}  // namespace

Json parse_json(std::string_view text, std::string_view source, std::int64_t first_line) {
  int deepest = 0;
  const Json::parser_callback_t watch_depth = [&](int depth, Json::parse_event_t, Json&) {
    deepest = std::max(deepest, depth);
    require(depth <= kMaximumDepth, "{}: more than {} nested values", source, kMaximumDepth);
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), watch_depth);
  } catch (const Json::parse_error& error) {
    const std::size_t offset = error.byte > 0 ? error.byte - 1 : 0;
    fail("{}:{}: not valid JSON: {}", source, position(text, offset, first_line), without_preamble(error.what()));
  } catch (const Json::exception& error) {
    fail("{}: not valid JSON: {}", source, without_preamble(error.what()));
  }
}

Json read_json_file(const std::filesystem::path& path) {
  return parse_json(read_file(path), path.string());
}

std::string_view json_type_name(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    default:
      return "a number";
  }
}

const Json* find_member(const Json& object, std::string_view key, std::string_view source) {
  require(object.is_object(), "{}: expected an object, found {}", source, json_type_name(object));
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::int64_t get_integer(const Json& object, std::string_view key, std::string_view source) {
  return as_integer(member(object, key, source, "an integer"), key, source);
}

std::int64_t get_integer(const Json& object, std::string_view key, std::string_view source, std::int64_t fallback) {
  const Json* value = find_member(object, key, source);
  return value == nullptr ? fallback : as_integer(*value, key, source);
}

double get_number(const Json& object, std::string_view key, std::string_view source) {
  return as_number(member(object, key, source, "a number"), key, source);
}

double get_number(const Json& object, std::string_view key, std::string_view source, double fallback) {
  const Json* value = find_member(object, key, source);
  return value == nullptr ? fallback : as_number(*value, key, source);
}

bool get_boolean(const Json& object, std::string_view key, std::string_view source, bool fallback) {
  const Json* value = find_member(object, key, source);
  if (value == nullptr) {
    return fallback;
  }
  if (!value->is_boolean()) {
    wrong_type(*value, key, source, "true or false");
  }
  return value->get<bool>();
}

std::string get_string(const Json& object, std::string_view key, std::string_view source) {
  return as_string(member(object, key, source, "a string"), key, source);
}

std::string get_string(const Json& object, std::string_view key, std::string_view source, std::string_view fallback) {
  const Json* value = find_member(object, key, source);
  return value == nullptr ? std::string(fallback) : as_string(*value, key, source);
}

std::optional<std::string> find_string(const Json& object, std::string_view key, std::string_view source) {
  const Json* value = find_member(object, key, source);
  return value == nullptr ? std::nullopt : std::optional(as_string(*value, key, source));
}

}  // namespace flyover::base
