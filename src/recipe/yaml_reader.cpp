// Builds the tree from yaml-cpp's events rather than its nodes: events allow limits on depth and size while parsing.
#include <algorithm>
#include <istream>
#include <map>
#include <sstream>

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include "base/error.h"
#include "base/utf8.h"
#include "recipe/values.h"
#include "recipe/yaml.h"

namespace flyover::recipe {
namespace {

constexpr std::size_t kMaximumDepth = 64;
constexpr std::size_t kMaximumText = std::size_t{1} << 20;
constexpr std::size_t kMaximumExpanded = std::size_t{16} << 20;

std::size_t depth_of(const Node& node) {
  std::size_t deepest = 0;
  for (const Entry& entry : node.entries) {
    deepest = std::max(deepest, depth_of(entry.value));
  }
  return deepest + 1;
}

/// Bytes that a tree takes, roughly.
std::size_t size_of(const Node& node) {
  std::size_t size = sizeof(Entry) + node.text.size();
  for (const Entry& entry : node.entries) {
    size += entry.key.size() + size_of(entry.value);
  }
  return size;
}

class TreeBuilder final : public YAML::EventHandler {
 public:
  explicit TreeBuilder(std::string_view source) : source_(source) {}

  Node take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    // A stray "]" or "," behind the document also arrives here, as a document that never ends.
    base::require(!has_document_, "{}: a second document, or text that does not belong to the first, starts here",
                  place(mark));
    has_document_ = true;
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    base::require(!expects_key(), "{}: a mapping has a value without a key here", place(mark));
    begin(mark, Node::Kind::kNull, anchor);
    end();
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    refuse_tag(tag, mark);
    if (expects_key()) {
      add_key(mark, value);
      return;
    }
    Node& node = begin(mark, Node::Kind::kScalar, anchor);
    node.text = value;
    node.quoted = tag == "!";
    grow(value.size(), node.where);
    end();
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    refuse_tag(tag, mark);
    begin(mark, Node::Kind::kSequence, anchor);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    refuse_tag(tag, mark);
    begin(mark, Node::Kind::kMapping, anchor);
  }
  void OnMapEnd() override {
    merge();
    end();
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchored_.find(anchor);
    base::require(found != anchored_.end(), "{}: this alias (*) names a key or a value that contains it", place(mark));
    base::require(!expects_key(), "{}: a key cannot be an alias (*)", place(mark));
    base::require(open_.size() + depth_of(found->second) <= kMaximumDepth, "{}: more than {} nested values",
                  place(mark), kMaximumDepth);
    grow(size_of(found->second), place(mark));
    begin(mark, Node::Kind::kNull, 0) = found->second;
    end();
  }

 private:
  struct Open {
    Node node;
    YAML::anchor_t anchor = 0;
    bool has_key = false;                                  ///< of a mapping: the last entry still lacks its value
    std::map<std::string, std::string, std::less<>> keys;  ///< of a mapping, with their places
  };

  std::string place(const YAML::Mark& mark) const { return fmt::format("{}:{}", source_, mark.line + 1); }

  bool expects_key() const {
    return !open_.empty() && open_.back().node.kind == Node::Kind::kMapping && !open_.back().has_key;
  }

  void refuse_tag(const std::string& tag, const YAML::Mark& mark) const {
    base::require(tag.empty() || tag == "?" || tag == "!", "{}: YAML tags are not supported, found {}", place(mark),
                  quote(tag));
  }

  void grow(std::size_t bytes, std::string_view where) {
    size_ += bytes;
    base::require(size_ <= kMaximumExpanded, "{}: aliases expand the document to more than {} MiB", where,
                  kMaximumExpanded >> 20);
  }

  void add_key(const YAML::Mark& mark, const std::string& key) {
    Open& mapping = open_.back();
    const auto [first, added] = mapping.keys.emplace(key, place(mark));
    base::require(added, "{}: the key {} is given twice (first at {})", place(mark), quote(key), first->second);
    mapping.node.entries.push_back(Entry{key, place(mark), Node{}});
    mapping.has_key = true;
    grow(key.size(), place(mark));
  }

  Node& begin(const YAML::Mark& mark, Node::Kind kind, YAML::anchor_t anchor) {
    base::require(!expects_key(), "{}: a key must be plain text (or a bracket is not closed)", place(mark));
    base::require(open_.size() < kMaximumDepth, "{}: more than {} nested values", place(mark), kMaximumDepth);
    Open& added = open_.emplace_back();
    added.node.kind = kind;
    added.node.where = place(mark);
    added.anchor = anchor;
    grow(sizeof(Entry), added.node.where);
    return added.node;
  }

  void end() {
    Open done = std::move(open_.back());
    open_.pop_back();
    if (done.anchor != 0) {
      grow(size_of(done.node), done.node.where);
      anchored_[done.anchor] = done.node;
    }
    if (open_.empty()) {
      root_ = std::move(done.node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == Node::Kind::kMapping) {
      parent.node.entries.back().value = std::move(done.node);
      parent.has_key = false;
    } else {
      std::string where = done.node.where;
      parent.node.entries.push_back(Entry{"", std::move(where), std::move(done.node)});
    }
  }

  /// `<<: *a` or `<<: [*a, *b]`: members of the others that the open mapping lacks (the YAML 1.1 type "merge").
  void merge() {
    Open& mapping = open_.back();
    auto& entries = mapping.node.entries;
    const auto found = std::find_if(entries.begin(), entries.end(), [](const Entry& e) { return e.key == "<<"; });
    if (found == entries.end()) {
      return;
    }
    const Entry merged = std::move(*found);
    entries.erase(found);
    const auto add = [&](const Node& other) {
      base::require(other.kind == Node::Kind::kMapping, "{}: \"<<\" merges mappings, found {}", merged.where,
                    describe(other));
      for (const Entry& entry : other.entries) {
        if (mapping.keys.emplace(entry.key, entry.where).second) {
          entries.push_back(entry);
        }
      }
    };
    if (merged.value.kind == Node::Kind::kSequence) {
      for (const Entry& element : merged.value.entries) {
        add(element.value);
      }
    } else {
      add(merged.value);
    }
  }

  std::string_view source_;
  Node root_;
  bool has_document_ = false;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Node> anchored_;
  std::size_t size_ = 0;
};

std::string position(std::string_view text, std::size_t offset, std::string_view source) {
  const std::string_view before = text.substr(0, offset);
  const std::size_t newline = before.rfind('\n');
  const std::size_t column = newline == std::string_view::npos ? offset + 1 : offset - newline;
  return fmt::format("{}:{}:{}", source, std::count(before.begin(), before.end(), '\n') + 1, column);
}

/// What yaml-cpp would take for another encoding (NUL bytes) or for the end of the text (0x04) must not reach it.
void require_plain_text(std::string_view text, std::string_view source) {
  base::require(text.size() <= kMaximumText, "{}: {} bytes are too many for a recipe (at most {})", source, text.size(),
                kMaximumText);
  const std::size_t invalid = base::find_invalid_utf8(text);
  base::require(invalid == std::string_view::npos, "{}: not valid UTF-8: byte 0x{:02x}",
                position(text, std::min(invalid, text.size()), source),
                invalid < text.size() ? static_cast<unsigned char>(text[invalid]) : 0);
  const auto control = std::find_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f;
  });
  if (control != text.end()) {
    const auto offset = static_cast<std::size_t>(control - text.begin());
    base::fail("{}: not valid YAML: control character 0x{:02x}", position(text, offset, source),
               static_cast<unsigned char>(*control));
  }
}

}  // namespace

Node scalar_node(std::string text, bool quoted) {
  Node node;
  node.kind = Node::Kind::kScalar;
  node.text = std::move(text);
  node.quoted = quoted;
  return node;
}

Node parse_yaml(std::string_view text, std::string_view source) {
  require_plain_text(text, source);
  // yaml-cpp takes a quote that is open at the end of the text for closed, but not at the end of a document.
  std::istringstream stream(fmt::format("{}{}...\n", text, text.ends_with('\n') ? "" : "\n"));
  TreeBuilder builder(source);
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    base::fail("{}:{}:{}: not valid YAML: {}", source, error.mark.line + 1, error.mark.column + 1, error.msg);
  }
  Node root = builder.take_root();
  if (root.kind == Node::Kind::kNull) {
    root.where = fmt::format("{}:1", source);
  }
  return root;
}

}  // namespace flyover::recipe
