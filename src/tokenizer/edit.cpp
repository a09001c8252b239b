#include "tokenizer/edit.h"

#include <algorithm>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/utf8.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/document.h"
#include "tokenizer/tokenizer.h"

namespace flyover::tokenizer {
namespace {

/// Walks over a document that is known to be valid JSON.
class Scanner {
 public:
  /// Begins at `position`.
  Scanner(std::string_view text, std::size_t position) : text_(text), position_(position) {}

  std::size_t position() const { return position_; }

  char peek() {
    while (std::string_view(" \t\r\n").find(text_[position_]) != std::string_view::npos) {
      ++position_;
    }
    return text_[position_];
  }

  void skip_punctuation() {
    peek();
    ++position_;
  }

  /// Moves behind the next value.
  void skip_value() {
    std::size_t depth = 0;
    do {
      const char first = peek();
      if (first == '"') {
        skip_string();
      } else if (first == '{' || first == '[') {
        ++depth;
        ++position_;
      } else if (first == '}' || first == ']') {
        --depth;
        ++position_;
      } else if (first == ',' || first == ':') {
        ++position_;
      } else {
        position_ = std::min(text_.find_first_of(" \t\r\n,:{}[]", position_), text_.size());
      }
    } while (depth > 0);
  }

 private:
  void skip_string() {
    for (++position_; text_[position_] != '"'; ++position_) {
      position_ += text_[position_] == '\\' ? 1 : 0;
    }
    ++position_;
  }

  std::string_view text_;
  std::size_t position_;
};

/// Where the value of a member of the document stands; of equal keys the last, as in parsing.
std::optional<ByteRange> find_value(std::string_view document, std::string_view key) {
  std::optional<ByteRange> found;
  Scanner scanner(document, document.find('{'));  // a byte order mark may stand before it
  scanner.skip_punctuation();
  while (scanner.peek() != '}') {
    if (scanner.peek() == ',') {
      scanner.skip_punctuation();
    }
    scanner.peek();
    const std::size_t key_begin = scanner.position();
    scanner.skip_value();
    const ByteRange key_range{key_begin, scanner.position()};
    scanner.skip_punctuation();
    scanner.peek();
    const std::size_t begin = scanner.position();
    scanner.skip_value();
    if (nlohmann::json::parse(key_range.of(document)) == key) {
      found = ByteRange{begin, scanner.position()};
    }
  }
  return found;
}

/// One entry as the `tokenizers` library writes it, on one line or indented.
std::string format_entry(std::int32_t id, const std::string& content, bool indented) {
  const std::string separator = indented ? "\n      " : " ";
  std::string entry = indented ? "    {\n      " : "{";
  entry += fmt::format("\"id\": {},{}\"content\": {},{}", id, separator, nlohmann::json(content).dump(), separator);
  for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized"}) {
    entry += fmt::format("\"{}\": false,{}", flag, separator);
  }
  return entry + (indented ? "\"special\": true\n    }" : "\"special\": true}");
}

}  // namespace

std::string with_added_special_tokens(std::string_view tokenizer_json, std::string_view source,
                                      std::span<const std::string> tokens) {
  const nlohmann::json document = parse_document(tokenizer_json, source);
  const Tokenizer tokenizer = Tokenizer::parse(tokenizer_json, source);
  std::vector<std::string> known;
  if (const std::optional<Node> entries = Node(document, std::string(source)).find("added_tokens")) {
    for (const AddedToken& token : read_added_tokens(*entries)) {
      known.push_back(token.content);
    }
  }
  const bool had_entries = !known.empty();
  const std::optional<ByteRange> array = find_value(tokenizer_json, "added_tokens");
  const bool indented = tokenizer_json.find('\n') != std::string_view::npos;
  std::string entries;
  std::int64_t next_id = tokenizer.vocabulary_size();
  for (const std::string& token : tokens) {
    base::require(!token.empty() && base::find_invalid_utf8(token) == std::string::npos,
                  "{}: a special token must be a non-empty UTF-8 text, found \"{}\"", source, token);
    if (std::find(known.begin(), known.end(), token) != known.end()) {
      continue;
    }
    const std::optional<std::int32_t> in_model = tokenizer.token_to_id(token);
    const std::int32_t id = in_model ? *in_model : static_cast<std::int32_t>(next_id++);
    entries += entries.empty() ? "" : indented ? ",\n" : ", ";
    entries += format_entry(id, token, indented);
    known.push_back(token);
  }
  if (entries.empty()) {
    return std::string(tokenizer_json);
  }
  std::string result(tokenizer_json);
  const std::string close = indented ? "\n  ]" : "]";
  const std::string open = indented ? "[\n" : "[";
  if (!array) {
    const std::size_t object = result.find('{');
    result.insert(object + 1, fmt::format("{}\"added_tokens\": {}{}{},", indented ? "\n  " : "", open, entries, close));
  } else if (!had_entries) {
    result.replace(array->begin, array->size(), open + entries + close);
  } else {
    const std::size_t last = tokenizer_json.rfind('}', array->end - 1);
    result.insert(last + 1, (indented ? ",\n" : ", ") + entries);
  }
  return result;
}

}  // namespace flyover::tokenizer
