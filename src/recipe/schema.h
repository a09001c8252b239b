// The keys of the recipe's structs. Each struct lists its keys once (section_of in *_keys.cpp); reading, range checks,
// writing, overrides and the reference page derive from that list.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "recipe/choices.h"
#include "recipe/json_text.h"
#include "recipe/origin.h"
#include "recipe/recipe.h"
#include "recipe/values.h"
#include "recipe/yaml.h"

namespace flyover::recipe {

struct Section;

/// What the list of a struct says about one key.
struct KeyText {
  std::string name = {};
  std::string documentation = {};         ///< what it does, with its unit
  Range range = {};                       ///< of a number; not_empty() for a string
  std::vector<std::string> aliases = {};  ///< other systems' names for the same
  bool required = false;
  std::string default_text = {};  ///< for the reference page where the default depends on other keys
  bool input_only = false;        ///< other keys are filled from it; it is never written back
};

/// One key of a struct, with the struct's type erased: `object` is the struct.
struct Key {
  KeyText text;
  std::string expected;              ///< "a number > 0"
  std::string default_text;          ///< as the reference page shows it
  const Section* section = nullptr;  ///< what its mapping, or each mapping of its list, may hold
  bool is_list = false;
  bool is_free_form = false;  ///< any keys: passed on as JSON
  std::function<void(void* object, const Node& node, const std::string& path, Places& places)> read;
  std::function<Node(const void* object)> write;
};

/// The keys of one struct.
struct Section {
  std::string documentation;
  std::vector<Key> keys;
  std::string shorthand = {};              ///< the key that a plain string instead of a mapping stands for; empty: none
  std::vector<std::string> named_by = {};  ///< the keys whose first one present names an element of a list
};

const Section& section_of(const Recipe*);
const Section& section_of(const Model*);
const Section& section_of(const RandomModel*);
const Section& section_of(const TokenizerChoice*);
const Section& section_of(const TrainBpe*);
const Section& section_of(const EvaluationTask*);
const Section& section_of(const Stage*);
const Section& section_of(const Data*);
const Section& section_of(const Source*);
const Section& section_of(const Optimizer*);
const Section& section_of(const ParameterGroup*);
const Section& section_of(const Schedule*);
const Section& section_of(const Batch*);
const Section& section_of(const MixtureOfExperts*);
const Section& section_of(const LossSpike*);
const Section& section_of(const Checkpoint*);
const Section& section_of(const Validation*);
const Section& section_of(const Logging*);

/// The key with this name or alias, or null.
const Key* find_key(const Section& section, std::string_view name);

/// Fills the struct `object` from a mapping (or the section's shorthand). Throws Error for an unknown, repeated,
/// missing or ill-typed key.
void read_section(const Section& section, void* object, const Node& node, const std::string& path, Places& places);
/// Every key in order, except those that are input only.
Node write_section(const Section& section, const void* object);
/// Throws Error that names the nearest known key, or where the key belongs.
[[noreturn]] void refuse_unknown_key(const Section& section, std::string_view name, std::string_view where,
                                     std::string_view path);

/// How a type is read, written and described. The general one is for structs with a section.
template <typename Value>
struct Codec {
  static const Section* section() { return &section_of(static_cast<const Value*>(nullptr)); }
  static std::string expected(const Range&) {
    return section()->shorthand.empty() ? "a mapping" : "a string or a mapping";
  }
  static Value read(const Node& node, const std::string& path, const Range&, Places& places) {
    Value value;
    read_section(*section(), &value, node, path, places);
    return value;
  }
  static Node write(const Value& value) { return write_section(*section(), &value); }
};

/// For types without keys of their own.
struct ScalarCodec {
  static const Section* section() { return nullptr; }
};

template <>
struct Codec<double> : ScalarCodec {
  static std::string expected(const Range& range) { return with_range("a number", range); }
  static double read(const Node& node, const std::string& path, const Range& range, Places&) {
    return read_number(node, path, range);
  }
  static Node write(double value) { return scalar_node(number_text(value), false); }
};

template <>
struct Codec<std::int64_t> : ScalarCodec {
  static std::string expected(const Range& range) { return with_range("an integer", range); }
  static std::int64_t read(const Node& node, const std::string& path, const Range& range, Places&) {
    return read_integer(node, path, range);
  }
  static Node write(std::int64_t value) { return scalar_node(std::to_string(value), false); }
};

template <>
struct Codec<std::uint64_t> : ScalarCodec {
  static std::string expected(const Range&) { return "an integer from 0 to 18446744073709551615"; }
  static std::uint64_t read(const Node& node, const std::string& path, const Range&, Places&) {
    return read_unsigned(node, path);
  }
  static Node write(std::uint64_t value) { return scalar_node(std::to_string(value), false); }
};

template <>
struct Codec<bool> : ScalarCodec {
  static std::string expected(const Range&) { return "true or false"; }
  static bool read(const Node& node, const std::string& path, const Range&, Places&) {
    return read_boolean(node, path);
  }
  static Node write(bool value) { return scalar_node(value ? "true" : "false", false); }
};

template <>
struct Codec<std::string> : ScalarCodec {
  static std::string expected(const Range& length) {
    return length.lowest > 0 ? "a string that is not empty" : "a string";
  }
  static std::string read(const Node& node, const std::string& path, const Range& length, Places&) {
    return read_string(node, path, length);
  }
  static Node write(const std::string& value) { return scalar_node(value, true); }
};

template <>
struct Codec<ByteCount> : ScalarCodec {
  static std::string expected(const Range&) { return "a size such as 20GiB"; }
  static ByteCount read(const Node& node, const std::string& path, const Range&, Places&) {
    return {read_bytes(node, path)};
  }
  static Node write(const ByteCount& value) { return scalar_node(bytes_text(value.bytes), true); }
};

template <>
struct Codec<JsonObject> : ScalarCodec {
  static std::string expected(const Range&) { return "a mapping"; }
  static JsonObject read(const Node& node, const std::string& path, const Range&, Places&) {
    return {json_text(node, path)};
  }
  static Node write(const JsonObject& value) { return json_node(value.text); }
};

template <typename Enum>
requires std::is_enum_v<Enum>
struct Codec<Enum> : ScalarCodec {
  static std::string expected(const Range&) { return choice_names(choices_of(Enum{})); }
  static Enum read(const Node& node, const std::string& path, const Range&, Places&) {
    return static_cast<Enum>(read_choice(node, path, choices_of(Enum{})));
  }
  static Node write(Enum value) { return scalar_node(std::string(name_of(value)), true); }
};

template <typename Value>
struct Codec<std::optional<Value>> {
  static const Section* section() { return Codec<Value>::section(); }
  static std::string expected(const Range& range) { return Codec<Value>::expected(range); }
  static std::optional<Value> read(const Node& node, const std::string& path, const Range& range, Places& places) {
    return node.kind == Node::Kind::kNull ? std::nullopt : std::optional(Codec<Value>::read(node, path, range, places));
  }
  static Node write(const std::optional<Value>& value) { return value ? Codec<Value>::write(*value) : Node{}; }
};

/// A list; where its elements have a shorthand, also one element without the list around it.
template <typename Value>
struct Codec<std::vector<Value>> {
  static const Section* section() { return Codec<Value>::section(); }
  static bool allows_single() { return section() != nullptr && !section()->shorthand.empty(); }
  static std::string expected(const Range& range) {
    if (section() == nullptr) {
      return "a list, each " + Codec<Value>::expected(range);
    }
    return allows_single() ? Codec<Value>::expected(range) + ", or a list of them" : "a list";
  }
  static std::vector<Value> read(const Node& node, const std::string& path, const Range& range, Places& places) {
    std::vector<Value> values;
    if (node.kind != Node::Kind::kSequence) {
      if (!allows_single() || node.kind == Node::Kind::kNull) {
        refuse(node, path, expected(range));
      }
      values.push_back(Codec<Value>::read(node, path + "[0]", range, places));
      return values;
    }
    for (const Entry& entry : node.entries) {
      const std::string element = path + "[" + std::to_string(values.size()) + "]";
      places.emplace(element, entry.where);
      values.push_back(Codec<Value>::read(entry.value, element, range, places));
    }
    return values;
  }
  static Node write(const std::vector<Value>& values) {
    Node node;
    node.kind = Node::Kind::kSequence;
    for (const Value& value : values) {
      node.entries.push_back(Entry{"", "", Codec<Value>::write(value)});
    }
    return node;
  }
};

template <typename Value, std::size_t count>
struct Codec<std::array<Value, count>> : ScalarCodec {
  static std::string expected(const Range& range) {
    return "a list of " + std::to_string(count) + ", each " + Codec<Value>::expected(range);
  }
  static std::array<Value, count> read(const Node& node, const std::string& path, const Range& range, Places& places) {
    if (node.kind != Node::Kind::kSequence || node.entries.size() != count) {
      refuse(node, path, expected(range));
    }
    const auto values = Codec<std::vector<Value>>::read(node, path, range, places);
    std::array<Value, count> result;
    std::copy(values.begin(), values.end(), result.begin());
    return result;
  }
  static Node write(const std::array<Value, count>& values) {
    return Codec<std::vector<Value>>::write({values.begin(), values.end()});
  }
};

template <typename Value>
inline constexpr bool kIsList = false;
template <typename Value>
inline constexpr bool kIsList<std::vector<Value>> = true;
template <typename Value, std::size_t count>
inline constexpr bool kIsList<std::array<Value, count>> = true;

/// What the reference page shows as the default: `text.default_text`, or the member of a struct as it is made.
std::string default_text(const KeyText& text, const Section* section, bool is_list, const Node& value);

/// One line of a struct's list.
template <typename Struct, typename Member>
Key key(Member Struct::*member, KeyText text) {
  Key result;
  result.expected = Codec<Member>::expected(text.range);
  result.section = Codec<Member>::section();
  result.is_list = kIsList<Member>;
  result.is_free_form = std::is_same_v<Member, JsonObject>;
  result.default_text = default_text(text, result.section, result.is_list, Codec<Member>::write(Struct{}.*member));
  result.read = [member, range = text.range](void* object, const Node& node, const std::string& path, Places& places) {
    static_cast<Struct*>(object)->*member = Codec<Member>::read(node, path, range, places);
  };
  result.write = [member](const void* object) {
    return Codec<Member>::write(static_cast<const Struct*>(object)->*member);
  };
  result.text = std::move(text);
  return result;
}

}  // namespace flyover::recipe
