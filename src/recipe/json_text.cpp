#include "recipe/json_text.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "recipe/values.h"

namespace flyover::recipe {
namespace {

using base::Json;

constexpr std::size_t kMaximumKeys = 4096;  // an ordered JSON object searches its keys one by one

Json scalar_to_json(const Node& node) {
  if (!node.quoted) {
    if (node.text == "true" || node.text == "false") {
      return node.text == "true";
    }
    if (const auto integer = parse_integer(node.text)) {
      return *integer;
    }
    if (const auto integer = parse_unsigned(node.text)) {
      return *integer;
    }
    if (const auto number = parse_number(node.text)) {
      return *number;
    }
  }
  return node.text;
}

Json to_json(const Node& node) {
  Json value;
  switch (node.kind) {
    case Node::Kind::kNull:
      return nullptr;
    case Node::Kind::kScalar:
      return scalar_to_json(node);
    case Node::Kind::kSequence:
      value = Json::array();
      for (const Entry& entry : node.entries) {
        value.push_back(to_json(entry.value));
      }
      return value;
    case Node::Kind::kMapping:
      base::require(node.entries.size() <= kMaximumKeys, "{}: {} keys are too many for one mapping (at most {})",
                    node.where, node.entries.size(), kMaximumKeys);
      value = Json::object();
      for (const Entry& entry : node.entries) {
        // Keys are unique in the document; operator[] would search for each.
        value.get_ref<Json::object_t&>().emplace_back(entry.key, to_json(entry.value));
      }
      return value;
  }
  return value;
}

Node to_node(const Json& value) {
  Node node;
  if (value.is_structured()) {
    node.kind = value.is_object() ? Node::Kind::kMapping : Node::Kind::kSequence;
    for (const auto& item : value.items()) {
      node.entries.push_back(Entry{value.is_object() ? item.key() : "", "", to_node(item.value())});
    }
    return node;
  }
  if (value.is_null()) {
    return node;
  }
  return value.is_string() ? scalar_node(value.get<std::string>(), true) : scalar_node(value.dump(), false);
}

}  // namespace

std::string json_text(const Node& node, std::string_view path) {
  if (node.kind != Node::Kind::kMapping) {
    refuse(node, path, "a mapping");
  }
  return to_json(node).dump();
}

Node json_node(std::string_view text) {
  return to_node(base::parse_json(text, "a recipe's JSON"));
}

}  // namespace flyover::recipe
