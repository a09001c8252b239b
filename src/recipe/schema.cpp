#include "recipe/schema.h"

#include <algorithm>

#include "base/error.h"

namespace flyover::recipe {
namespace {

void read_key(const Key& key, void* object, const Entry& entry, const std::string& path, Places& places) {
  const std::string key_path = join_path(path, key.text.name);
  places.emplace(key_path, entry.where);
  key.read(object, entry.value, key_path, places);
}

}  // namespace

const Key* find_key(const Section& section, std::string_view name) {
  const auto found = std::find_if(section.keys.begin(), section.keys.end(), [&](const Key& key) {
    const auto& aliases = key.text.aliases;
    return key.text.name == name || std::find(aliases.begin(), aliases.end(), name) != aliases.end();
  });
  return found == section.keys.end() ? nullptr : &*found;
}

void read_section(const Section& section, void* object, const Node& node, const std::string& path, Places& places) {
  places.emplace(path, node.where);
  if (node.kind == Node::Kind::kScalar && !section.shorthand.empty()) {
    read_key(*find_key(section, section.shorthand), object, Entry{"", node.where, node}, path, places);
    return;
  }
  if (node.kind != Node::Kind::kMapping) {
    refuse(node, path, section.shorthand.empty() ? "a mapping" : "a string or a mapping");
  }
  std::map<const Key*, const Entry*> given;
  for (const Entry& entry : node.entries) {
    const Key* key = find_key(section, entry.key);
    if (key == nullptr) {
      refuse_unknown_key(section, entry.key, entry.where, path);
    }
    const auto [first, added] = given.emplace(key, &entry);
    base::require(added, "{}: {}: given twice: \"{}\" (at {}) is another name for it", entry.where,
                  join_path(path, entry.key), first->second->key, first->second->where);
    read_key(*key, object, entry, path, places);
  }
  for (const Key& key : section.keys) {
    base::require(!key.text.required || given.contains(&key), "{}: {}: missing (expected {})", node.where,
                  join_path(path, key.text.name), key.expected);
  }
}

Node write_section(const Section& section, const void* object) {
  Node node;
  node.kind = Node::Kind::kMapping;
  for (const Key& key : section.keys) {
    if (!key.text.input_only) {
      node.entries.push_back(Entry{key.text.name, "", key.write(object)});
    }
  }
  return node;
}

std::string default_text(const KeyText& text, const Section* section, bool is_list, const Node& value) {
  if (text.required) {
    return "required";
  }
  if (!text.default_text.empty()) {
    return text.default_text;
  }
  if (value.kind == Node::Kind::kNull) {
    return "none";
  }
  return section != nullptr && !is_list ? "as below" : fmt::format("`{}`", write_flow(value));
}

}  // namespace flyover::recipe
