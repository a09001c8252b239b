#include <algorithm>
#include <array>
#include <cctype>

#include <nlohmann/json.hpp>

#include "recipe/yaml.h"

namespace flyover::recipe {
namespace {

/// Text that every YAML reader, also of version 1.1, takes for a string without quotes.
bool is_plain_string(std::string_view text) {
  constexpr std::array<std::string_view, 9> kWords = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"};
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (text.empty() || !(is_letter(text[0]) || text[0] == '_' || text[0] == '/')) {
    return false;
  }
  if (!std::all_of(text.begin(), text.end(), [&](char c) {
        return is_letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '/' || c == '.' || c == '-';
      })) {
    return false;
  }
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return std::find(kWords.begin(), kWords.end(), lower) == kWords.end();
}

/// JSON strings are YAML strings, but for the byte 0x7f, which YAML wants escaped.
std::string string_text(const std::string& text) {
  if (is_plain_string(text)) {
    return text;
  }
  std::string quoted = nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  for (std::size_t at = 0; (at = quoted.find('\x7f', at)) != std::string::npos;) {
    quoted.replace(at, 1, "\\x7f");
  }
  return quoted;
}

/// Lists of scalars and empty values stay on one line.
bool is_flow(const Node& node) {
  return node.kind == Node::Kind::kNull || node.kind == Node::Kind::kScalar || node.entries.empty() ||
         (node.kind == Node::Kind::kSequence &&
          std::all_of(node.entries.begin(), node.entries.end(),
                      [](const Entry& e) { return e.value.kind == Node::Kind::kScalar; }));
}

void write_block(const Node& node, std::size_t indent, bool continues_line, std::string& out) {
  bool at_margin = !continues_line;
  for (const Entry& entry : node.entries) {
    if (at_margin) {
      out.append(indent, ' ');
    }
    at_margin = true;
    const bool is_element = node.kind == Node::Kind::kSequence;
    out += is_element ? "-" : string_text(entry.key) + ":";
    if (is_flow(entry.value)) {
      out += " " + write_flow(entry.value) + "\n";
    } else if (is_element) {
      out += " ";
      write_block(entry.value, indent + 2, true, out);
    } else {
      out += "\n";
      write_block(entry.value, indent + 2, false, out);
    }
  }
}

}  // namespace

std::string write_flow(const Node& node) {
  if (node.kind == Node::Kind::kNull) {
    return "null";
  }
  if (node.kind == Node::Kind::kScalar) {
    return node.quoted ? string_text(node.text) : node.text;
  }
  const bool is_mapping = node.kind == Node::Kind::kMapping;
  std::string out = is_mapping ? "{" : "[";
  for (const Entry& entry : node.entries) {
    out += out.size() > 1 ? ", " : "";
    out += is_mapping ? string_text(entry.key) + ": " : "";
    out += write_flow(entry.value);
  }
  return out + (is_mapping ? "}" : "]");
}

std::string write_yaml(const Node& node) {
  if (is_flow(node)) {
    return write_flow(node) + "\n";
  }
  std::string out;
  write_block(node, 0, false, out);
  return out;
}

}  // namespace flyover::recipe
