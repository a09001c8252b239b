// Reading a tokenizer document: a JSON value together with its path, so that every message says where.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace flyover::tokenizer {

/// Parses a document. Unlike base::Json its objects are sorted maps: the vocabulary is an object with more than 100,000
/// members, which takes base::Json, whose objects are lists, time that grows with the square (12 s for Qwen3).
/// Throws Error "<source>:<line>:<column>: ...".
nlohmann::json parse_document(std::string_view text, std::string_view source);

/// A value inside a document and where it stands. Does not own the value.
class Node {
 public:
  Node(const nlohmann::json& value, std::string where) : value_(&value), where_(std::move(where)) {}

  const nlohmann::json& value() const { return *value_; }
  /// "tokenizer.json: model.merges[3]".
  const std::string& where() const { return where_; }

  /// The member `key`, or nothing if it is missing or null. Throws Error if this is not an object.
  std::optional<Node> find(std::string_view key) const;
  /// The member `key`. Throws Error if it is missing or null.
  Node at(std::string_view key) const;
  /// The elements of an array. Throws Error if this is not one.
  std::vector<Node> elements() const;

  /// The value as such. Each throws Error if it has another type.
  const std::string& as_string() const;
  std::int64_t as_integer() const;
  bool as_boolean() const;

  /// Members with a default for those that are missing or null.
  std::string get_string(std::string_view key, std::string_view fallback) const;
  bool get_boolean(std::string_view key, bool fallback) const;

  /// Throws Error "<where>: <what> "<name>" is not supported (supported: ...)".
  [[noreturn]] void refuse(std::string_view what, std::string_view name, std::string_view supported) const;

 private:
  Node child(const nlohmann::json& value, std::string_view key) const;
  [[noreturn]] void wrong_type(std::string_view expected) const;

  const nlohmann::json* value_;
  std::string where_;
};

/// Components nest at most this deep; deeper documents are refused before they can exhaust the stack.
constexpr int kMaximumNesting = 32;

}  // namespace flyover::tokenizer
