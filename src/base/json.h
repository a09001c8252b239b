// JSON values from outside: parsing with positions in errors, and typed look-ups that name what is wrong.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace flyover::base {

/// Keys keep the order of the file, so that what is written back looks like what was read.
using Json = nlohmann::ordered_json;

/// Parses one JSON document, in time that grows with its length alone. Of two members of an object with the same key
/// the last counts. Throws Error "<source>:<line>:<column>: ..." on a syntax error, a NUL byte or invalid UTF-8, and
/// for more than 512 nested values. `first_line` is the number of the first line of `text` within `source`.
Json parse_json(std::string_view text, std::string_view source, std::int64_t first_line = 1);

/// Reads and parses a JSON file.
Json read_json_file(const std::filesystem::path& path);

/// The word for a value's type in messages: "a string", "a number", "null", ...
std::string_view json_type_name(const Json& value);

/// The member `key` of the object `object`, or null if the object has none or it is null. Throws Error naming `source`
/// if `object` is not an object.
const Json* find_member(const Json& object, std::string_view key, std::string_view source);

/// Typed look-ups of an object's member. Each throws Error naming source, key, what was expected and what was found if
/// the member has another type; those without a default throw also if it is missing or null.
std::int64_t get_integer(const Json& object, std::string_view key, std::string_view source);
std::int64_t get_integer(const Json& object, std::string_view key, std::string_view source, std::int64_t fallback);
double get_number(const Json& object, std::string_view key, std::string_view source);
double get_number(const Json& object, std::string_view key, std::string_view source, double fallback);
bool get_boolean(const Json& object, std::string_view key, std::string_view source, bool fallback);
std::string get_string(const Json& object, std::string_view key, std::string_view source);
std::string get_string(const Json& object, std::string_view key, std::string_view source, std::string_view fallback);
std::optional<std::string> find_string(const Json& object, std::string_view key, std::string_view source);

}  // namespace flyover::base
