#include "recipe/overrides.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/text.h"
#include "base/utf8.h"
#include "recipe/schema.h"

namespace flyover::recipe {
namespace {

constexpr std::string_view kWhere = "--set";

/// "stages[0].data.train" -> stages, 0, data, train.
std::vector<std::string> split_path(std::string_view path, std::string_view argument) {
  std::vector<std::string> steps;
  std::string step;
  const auto finish = [&] {
    base::require(!step.empty(), "--set {}: the path has an empty part", quote(argument));
    steps.push_back(std::move(step));
    step.clear();
  };
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (path[i] == '.') {
      finish();
    } else if (path[i] == '[') {
      const std::size_t close = path.find(']', i);
      base::require(close != std::string_view::npos, "--set {}: \"[\" without \"]\" in the path", quote(argument));
      finish();
      step = path.substr(i + 1, close - i - 1);
      i = close;
      base::require(close + 1 == path.size() || path[close + 1] == '.' || path[close + 1] == '[',
                    "--set {}: expected \".\" after \"]\" in the path", quote(argument));
    } else {
      step += path[i];
    }
  }
  finish();
  return steps;
}

void set_place(Node& node) {
  node.where = kWhere;
  for (Entry& entry : node.entries) {
    entry.where = kWhere;
    set_place(entry.value);
  }
}

Node mapping_node() {
  Node node;
  node.kind = Node::Kind::kMapping;
  node.where = kWhere;
  return node;
}

/// Where a path has got to: a value of the document and what the recipe's structs say of it.
struct Cursor {
  Node* node;
  const Section* section;  ///< of the value, or of the elements of a list; null for scalars
  bool is_list;
  bool is_free_form;
  std::string path;
  /// Where the value hangs, to take it out again.
  Node* parent = nullptr;
  std::size_t position = 0;

  void enter(std::size_t child) {
    parent = node;
    position = child;
    node = &node->entries[child].value;
  }
};

/// The name by which an element of a list is known, as stages are.
std::string name_of_element(const Section& section, const Node& element) {
  for (const std::string& key : section.named_by) {
    const Key* described = find_key(section, key);
    for (const Entry& entry : element.entries) {
      if (find_key(section, entry.key) == described && entry.value.kind == Node::Kind::kScalar) {
        return entry.value.text;
      }
    }
  }
  return "";
}

std::size_t index_by_name(const Cursor& list, const std::string& step) {
  std::vector<std::string> names;
  for (const Entry& entry : list.node->entries) {
    names.push_back(name_of_element(*list.section, entry.value));
  }
  const auto found = std::find(names.begin(), names.end(), step);
  if (found == names.end()) {
    std::string known;
    for (const std::string& name : names) {
      known += (known.empty() ? "" : ", ") + name;
    }
    base::fail("{}: {}: no element is named {} (known: {}){}", kWhere, list.path, quote(step), known,
               step.size() <= 64 ? base::suggestion(step, names) : "");
  }
  return static_cast<std::size_t>(found - names.begin());
}

void enter_element(Cursor& cursor, const std::string& step) {
  const auto index = parse_unsigned(step);
  std::size_t element = 0;
  if (index) {
    base::require(*index < cursor.node->entries.size(), "{}: {}[{}]: the list in the recipe has {} element{}", kWhere,
                  cursor.path, *index, cursor.node->entries.size(), cursor.node->entries.size() == 1 ? "" : "s");
    element = static_cast<std::size_t>(*index);
  } else {
    base::require(cursor.section != nullptr && !cursor.section->named_by.empty(),
                  "{}: {}: expected the number of an element, as in {}[0], found {}", kWhere, cursor.path, cursor.path,
                  quote(step));
    element = index_by_name(cursor, step);
  }
  cursor.enter(element);
  cursor.path += fmt::format("[{}]", element);
  cursor.is_list = false;
}

void enter_key(Cursor& cursor, const std::string& step) {
  Node& node = *cursor.node;
  const Key* key = nullptr;
  if (!cursor.is_free_form) {
    base::require(cursor.section != nullptr, "{}: {}: has no keys, found {} behind it", kWhere, cursor.path,
                  quote(step));
    key = find_key(*cursor.section, step);
    if (key == nullptr) {
      refuse_unknown_key(*cursor.section, step, kWhere, cursor.path);
    }
    if (node.kind == Node::Kind::kScalar && !cursor.section->shorthand.empty()) {
      Node whole = mapping_node();
      std::string where = node.where;
      whole.entries.push_back(Entry{cursor.section->shorthand, std::move(where), std::move(node)});
      node = std::move(whole);
    }
  }
  if (node.kind == Node::Kind::kNull) {
    node = mapping_node();
  }
  if (node.kind != Node::Kind::kMapping) {
    refuse(node, cursor.path, "a mapping");
  }
  const auto found = std::find_if(node.entries.begin(), node.entries.end(), [&](const Entry& entry) {
    return key != nullptr ? find_key(*cursor.section, entry.key) == key : entry.key == step;
  });
  const auto child = static_cast<std::size_t>(found - node.entries.begin());
  if (found == node.entries.end()) {
    node.entries.push_back(Entry{key != nullptr ? key->text.name : step, std::string(kWhere), Node{}});
  }
  cursor.enter(child);
  cursor.path = join_path(cursor.path, key != nullptr ? key->text.name : step);
  if (key != nullptr) {
    cursor.section = key->section;
    cursor.is_list = key->is_list;
    cursor.is_free_form = key->is_free_form;
  }
}

void enter(Cursor& cursor, const std::string& step) {
  if (cursor.is_free_form && cursor.node->kind == Node::Kind::kSequence) {
    enter_element(cursor, step);
    return;
  }
  if (cursor.is_list && cursor.node->kind != Node::Kind::kSequence) {
    const bool may_be_single = cursor.section != nullptr && !cursor.section->shorthand.empty();
    if (cursor.node->kind == Node::Kind::kNull || !may_be_single) {
      base::fail("{}: {}: the recipe has no list here; set the whole list, as in {}=[...]", kWhere, cursor.path,
                 cursor.path);
    }
    // One element without the list around it: [0] is itself.
    cursor.is_list = false;
    if (parse_unsigned(step) == 0) {
      return;
    }
  }
  if (cursor.is_list) {
    enter_element(cursor, step);
  } else {
    enter_key(cursor, step);
  }
}

}  // namespace

void apply_override(Node& root, std::string_view argument) {
  const std::size_t equals = argument.find('=');
  base::require(equals != std::string_view::npos && equals > 0, "--set {}: expected path.to.key=value",
                quote(argument));
  base::require(base::find_invalid_utf8(argument) == std::string_view::npos, "--set {}: not valid UTF-8",
                quote(argument));
  Node value = parse_yaml(argument.substr(equals + 1), fmt::format("--set {}", quote(argument)));
  set_place(value);
  Cursor cursor{&root, &section_of(static_cast<const Recipe*>(nullptr)), false, false, ""};
  for (const std::string& step : split_path(argument.substr(0, equals), argument)) {
    enter(cursor, step);
  }
  if (value.kind == Node::Kind::kNull) {
    cursor.parent->entries.erase(cursor.parent->entries.begin() + static_cast<std::ptrdiff_t>(cursor.position));
    return;
  }
  *cursor.node = std::move(value);
  cursor.parent->entries[cursor.position].where = kWhere;
}

}  // namespace flyover::recipe
