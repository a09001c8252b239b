#include "tokenizer/document.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace flyover::tokenizer {
namespace {

using nlohmann::json;

/// "line:column" of a byte offset, both counted from one.
std::string position(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const std::size_t newline = before.rfind('\n');
  const std::size_t column = newline == std::string_view::npos ? before.size() + 1 : before.size() - newline;
  return fmt::format("{}:{}", std::count(before.begin(), before.end(), '\n') + 1, column);
}

std::string_view type_name(const json& value) {
  switch (value.type()) {
    case json::value_t::null:
      return "null";
    case json::value_t::object:
      return "an object";
    case json::value_t::array:
      return "an array";
    case json::value_t::string:
      return "a string";
    case json::value_t::boolean:
      return "a boolean";
    default:
      return "a number";
  }
}

}  // namespace

json parse_document(std::string_view text, std::string_view source) {
  // The library takes a NUL byte for the end of the text and would not look at what follows.
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
    base::fail("{}:{}: not valid JSON: a NUL byte", source, position(text, zero));
  }
  try {
    return json::parse(text.begin(), text.end());
  } catch (const json::parse_error& error) {
    const std::string_view message = error.what();
    const std::size_t start = message.find(": ", message.find("column"));
    base::fail("{}:{}: not valid JSON: {}", source, position(text, error.byte > 0 ? error.byte - 1 : 0),
               start == std::string_view::npos ? message : message.substr(start + 2));
  } catch (const json::exception& error) {
    base::fail("{}: not valid JSON: {}", source, error.what());
  }
}

Node Node::child(const json& value, std::string_view key) const {
  // The document's own "where" ends in its source; members of members are joined by dots.
  const bool top = where_.find(": ") == std::string::npos;
  return Node(value, fmt::format("{}{}{}", where_, top ? ": " : ".", key));
}

std::optional<Node> Node::find(std::string_view key) const {
  if (!value_->is_object()) {
    wrong_type("an object");
  }
  const auto found = value_->find(std::string(key));
  return found == value_->end() || found->is_null() ? std::nullopt : std::optional(child(*found, key));
}

Node Node::at(std::string_view key) const {
  std::optional<Node> found = find(key);
  base::require(found.has_value(), "{}: the key \"{}\" is missing", where_, key);
  return std::move(*found);
}

std::vector<Node> Node::elements() const {
  if (!value_->is_array()) {
    wrong_type("an array");
  }
  std::vector<Node> nodes;
  nodes.reserve(value_->size());
  for (std::size_t i = 0; i < value_->size(); ++i) {
    nodes.emplace_back((*value_)[i], fmt::format("{}[{}]", where_, i));
  }
  return nodes;
}

const std::string& Node::as_string() const {
  if (!value_->is_string()) {
    wrong_type("a string");
  }
  return value_->get_ref<const std::string&>();
}

std::int64_t Node::as_integer() const {
  const bool too_large =
      value_->is_number_unsigned() && value_->get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX);
  if (!value_->is_number_integer() || too_large) {
    wrong_type("an integer");
  }
  return value_->get<std::int64_t>();
}

bool Node::as_boolean() const {
  if (!value_->is_boolean()) {
    wrong_type("true or false");
  }
  return value_->get<bool>();
}

std::string Node::get_string(std::string_view key, std::string_view fallback) const {
  const std::optional<Node> found = find(key);
  return found ? found->as_string() : std::string(fallback);
}

bool Node::get_boolean(std::string_view key, bool fallback) const {
  const std::optional<Node> found = find(key);
  return found ? found->as_boolean() : fallback;
}

void Node::refuse(std::string_view what, std::string_view name, std::string_view supported) const {
  base::fail("{}: the {} \"{}\" is not supported (supported: {})", where_, what, name, supported);
}

void Node::wrong_type(std::string_view expected) const {
  std::string found;
  if (!value_->is_structured()) {
    found = ": " + value_->dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 80);
  }
  base::fail("{}: expected {}, found {}{}", where_, expected, type_name(*value_), found);
}

}  // namespace flyover::tokenizer
