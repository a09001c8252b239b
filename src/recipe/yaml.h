// YAML documents as trees of text with the place of every value. What the keys mean is not known here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flyover::recipe {

struct Entry;

/// A value of a document. Scalars stay text: whether "no" is a string or a boolean is decided by who reads it.
struct Node {
  enum class Kind : std::uint8_t { kNull, kScalar, kSequence, kMapping };

  Kind kind = Kind::kNull;
  std::string text;            ///< of a scalar
  bool quoted = false;         ///< a scalar in quotes, or a block scalar: a string whatever it looks like
  std::vector<Entry> entries;  ///< of a mapping, in order; of a sequence, with empty keys
  std::string where;           ///< "recipe.yaml:12", for messages
};

/// A member of a mapping or an element of a sequence.
struct Entry {
  std::string key;
  std::string where;  ///< of the key
  Node value;
};

/// A node that is a scalar: of a string (`quoted`), or of a number or a word such as true.
Node scalar_node(std::string text, bool quoted);

/// Parses a document of exactly one value. Aliases are expanded and merge keys (`<<`) merged. Throws Error
/// "<source>:<line>: ..." on a syntax error, invalid UTF-8, control characters, a key given twice, a tag, a second
/// document, more than 64 nested values, more than 1 MiB of text or 16 MiB after expansion.
Node parse_yaml(std::string_view text, std::string_view source);

/// Writes a document in block style; what parse_yaml reads back is the same tree, apart from quotes and places.
std::string write_yaml(const Node& node);

/// The value on one line, as in "[0.9, 0.95]".
std::string write_flow(const Node& node);

}  // namespace flyover::recipe
