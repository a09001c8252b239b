#include "base/json.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"

namespace flyover::base {
namespace {

constexpr std::size_t kMaximumDepth = 512;

/// "line:column" of a byte offset, both counted from one.
std::string position(std::string_view text, std::size_t offset, std::int64_t first_line) {
  offset = std::min(offset, text.size());
  const std::string_view before = text.substr(0, offset);
  const auto line = first_line + std::count(before.begin(), before.end(), '\n');
  const std::size_t newline = before.rfind('\n');
  const std::size_t column = newline == std::string_view::npos ? offset + 1 : offset - newline;
  return fmt::format("{}:{}", line, column);
}

/// The library's message without its "[json.exception.parse_error.101] parse error at line 1, column 2: " preamble, cut
/// where it repeats much of the text.
std::string without_preamble(std::string_view message) {
  constexpr std::size_t kLongest = 300;
  const std::size_t name = message.find("] ");
  message.remove_prefix(name == std::string_view::npos ? 0 : name + 2);
  if (message.starts_with("parse error at ")) {
    const std::size_t start = message.find(": ");
    message.remove_prefix(start == std::string_view::npos ? 0 : start + 2);
  }
  return message.size() <= kLongest ? std::string(message) : std::string(message.substr(0, kLongest)) + " ...";
}

/// Members of an object while it is read. The library's ordered object compares each key with all before it, which
/// takes time that grows with the square of their number, and copies its values when it grows.
class Members {
 public:
  void add(std::string key, Json value) { members_.emplace_back(std::move(key), std::move(value)); }

  Json finish() {
    merge_repeated();
    Json::object_t object;
    object.reserve(members_.size());
    for (auto& [key, value] : members_) {
      object.emplace_back(std::move(key), std::move(value));
    }
    return Json(std::move(object));
  }

 private:
  /// Of members with one key the last counts, in the place of the first.
  void merge_repeated() {
    std::vector<std::size_t> order(members_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      const int sign = members_[a].first.compare(members_[b].first);
      return sign != 0 ? sign < 0 : a < b;
    });
    std::vector<bool> repeated(members_.size(), false);
    std::size_t first = 0;  // in `order`, of those with the same key
    for (std::size_t i = 1; i < order.size(); ++i) {
      if (members_[order[i]].first != members_[order[first]].first) {
        first = i;
        continue;
      }
      members_[order[first]].second = std::move(members_[order[i]].second);
      repeated[order[i]] = true;
    }
    std::size_t index = 0;
    std::erase_if(members_, [&](const auto&) { return repeated[index++]; });
  }

  std::vector<std::pair<std::string, Json>> members_;
};

/// Builds a document from the library's events.
class DocumentReader final : public nlohmann::json_sax<Json> {
 public:
  DocumentReader(std::string_view text, std::string_view source, std::int64_t first_line)
      : text_(text), source_(source), first_line_(first_line) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { throw InternalError("JSON text has no binary values"); }
  bool start_object(std::size_t) override { return open(true); }
  bool key(string_t& value) override {
    open_.back().key = std::move(value);
    return true;
  }
  bool end_object() override { return close(open_.back().members.finish()); }
  bool start_array(std::size_t) override { return open(false); }
  bool end_array() override { return close(std::move(open_.back().elements)); }
  bool parse_error(std::size_t byte, const std::string&, const nlohmann::json::exception& error) override {
    refuse(byte > 0 ? byte - 1 : 0, without_preamble(error.what()));
  }

  [[noreturn]] void refuse(std::size_t offset, std::string_view problem) const {
    fail("{}:{}: not valid JSON: {}", source_, position(text_, offset, first_line_), problem);
  }
  Json finish() { return std::move(document_); }

 private:
  /// An array or object whose end has not come yet.
  struct Open {
    bool is_object;
    Json::array_t elements;
    Members members;
    std::string key;  ///< of the member that comes next
  };

  bool add(Json value) {
    if (open_.empty()) {
      document_ = std::move(value);
    } else if (open_.back().is_object) {
      open_.back().members.add(std::move(open_.back().key), std::move(value));
    } else {
      open_.back().elements.push_back(std::move(value));
    }
    return true;
  }
  bool open(bool is_object) {
    require(open_.size() < kMaximumDepth, "{}: more than {} nested values", source_, kMaximumDepth);
    open_.push_back({is_object, {}, {}, {}});
    return true;
  }
  bool close(Json value) {
    open_.pop_back();
    return add(std::move(value));
  }

  std::string_view text_;
  std::string_view source_;
  std::int64_t first_line_;
  std::vector<Open> open_;
  Json document_;
};

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
  DocumentReader reader(text, source, first_line);
  // The library takes a NUL byte for the end of the text and would not look at what follows.
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
    reader.refuse(zero, "a NUL byte");
  }
  const bool complete = Json::sax_parse(text.begin(), text.end(), &reader);
  check(complete, "{}: reading JSON stopped early", source);
  return reader.finish();
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
