// Values as text: Python's str() and repr(), and json.dumps.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/utf8.h"
#include "data/jinja/unicode.h"
#include "data/jinja/value.h"

namespace flyover::data::jinja {
namespace {

std::string quoted(const std::string& text) {
  const bool has_single = text.find('\'') != std::string::npos;
  const char quote = has_single && text.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t offset = 0; offset < text.size();) {
    const std::size_t start = offset;
    const char32_t point = base::decode_utf8(text, offset);
    if (point == static_cast<char32_t>(quote) || point == U'\\') {
      out += '\\';
      out += static_cast<char>(point);
    } else if (point == U'\n' || point == U'\r' || point == U'\t') {
      out += point == U'\n' ? "\\n" : point == U'\r' ? "\\r" : "\\t";
    } else if (is_printable(point)) {
      out.append(text, start, offset - start);
    } else {
      const auto number = static_cast<std::uint32_t>(point);
      out += number < 0x100     ? fmt::format("\\x{:02x}", number)
             : number < 0x10000 ? fmt::format("\\u{:04x}", number)
                                : fmt::format("\\U{:08x}", number);
    }
  }
  out += quote;
  return out;
}

void append_representation(const Value& value, std::string& out);

void append_items(const std::vector<Value>& items, std::string& out) {
  for (std::size_t i = 0; i < items.size(); ++i) {
    out += i > 0 ? ", " : "";
    append_representation(items[i], out);
    require_string_size(out.size());
  }
}

void append_representation(const Value& value, std::string& out) {
  switch (value.kind()) {
    case Kind::kUndefined:
      out += "Undefined";
      return;
    case Kind::kString:
      base::require(!value.is_markup(), "printing the result of `safe` or `escape` within a list is not supported");
      out += quoted(value.text());
      return;
    case Kind::kList:
      out += '[';
      append_items(value.items(), out);
      out += ']';
      return;
    case Kind::kTuple:
      out += '(';
      append_items(value.items(), out);
      out += value.items().size() == 1 ? ",)" : ")";
      return;
    case Kind::kView:
      out += value.sequence().view_name + "([";
      append_items(value.items(), out);
      out += "])";
      return;
    case Kind::kDict: {
      out += '{';
      bool first = true;
      for (const auto& [key, item] : value.as_dict().entries()) {
        out += first ? "" : ", ";
        first = false;
        append_representation(key, out);
        out += ": ";
        append_representation(item, out);
        require_string_size(out.size());
      }
      out += '}';
      return;
    }
    default:
      out += to_text(value);
  }
}

void append_json_string(const std::string& text, bool ensure_ascii, std::string& out) {
  out += '"';
  for (std::size_t offset = 0; offset < text.size();) {
    const std::size_t start = offset;
    const char32_t point = base::decode_utf8(text, offset);
    constexpr std::string_view kShort = "\"\\\b\f\n\r\t";
    constexpr std::string_view kLetters = "\"\\bfnrt";
    if (const std::size_t found = point < 0x80 ? kShort.find(static_cast<char>(point)) : std::string_view::npos;
        found != std::string_view::npos) {
      out += '\\';
      out += kLetters[found];
    } else if (point < 0x20 || (ensure_ascii && point >= 0x7F && point < 0x10000)) {
      out += fmt::format("\\u{:04x}", static_cast<std::uint32_t>(point));
    } else if (ensure_ascii && point >= 0x10000) {
      const auto offset_in_planes = static_cast<std::uint32_t>(point) - 0x10000;
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (offset_in_planes >> 10), 0xDC00 + (offset_in_planes & 0x3FF));
    } else {
      out.append(text, start, offset - start);
    }
  }
  out += '"';
}

std::string json_number(double value) {
  if (std::isnan(value)) {
    return "NaN";
  }
  if (std::isinf(value)) {
    return value > 0 ? "Infinity" : "-Infinity";
  }
  return float_text(value);
}

std::string json_key(const Value& key) {
  switch (key.kind()) {
    case Kind::kString:
      return key.text();
    case Kind::kFloat:
      return json_number(key.as_double());
    case Kind::kBoolean:
      return key.as_boolean() ? "true" : "false";
    case Kind::kNone:
      return "null";
    case Kind::kInteger:
      return fmt::format("{}", key.as_integer());
    default:
      base::fail("tojson: keys must be strings, numbers, booleans or none, found '{}'", type_name(key));
  }
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}

  void write(const Value& value) {
    switch (value.kind()) {
      case Kind::kNone:
        out_ += "null";
        return;
      case Kind::kBoolean:
        out_ += value.as_boolean() ? "true" : "false";
        return;
      case Kind::kInteger:
        out_ += fmt::format("{}", value.as_integer());
        return;
      case Kind::kFloat:
        out_ += json_number(value.as_double());
        return;
      case Kind::kString:
        append_json_string(value.text(), style_.ensure_ascii, out_);
        return;
      case Kind::kList:
      case Kind::kTuple:
        write_items(value.items());
        return;
      case Kind::kDict:
        write_entries(value.as_dict().entries());
        return;
      case Kind::kUndefined:
        base::fail("tojson: {}", value.undefined_hint());
      default:
        base::fail("tojson: object of type {} is not JSON serializable{}", type_name(value),
                   is_iterable(value) ? " (put `| list` before it)" : "");
    }
  }

  std::string take() { return std::move(out_); }

 private:
  void line(int level) {
    if (style_.indented) {
      out_ += '\n';
      for (int i = 0; i < level; ++i) {
        out_ += style_.indent;
      }
    }
    require_string_size(out_.size());
  }

  void write_items(const std::vector<Value>& items) {
    if (items.empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    ++level_;
    for (std::size_t i = 0; i < items.size(); ++i) {
      out_ += i > 0 ? style_.item_separator : "";
      line(level_);
      write(items[i]);
    }
    line(--level_);
    out_ += ']';
  }

  void write_entries(std::vector<std::pair<Value, Value>> entries) {
    if (entries.empty()) {
      out_ += "{}";
      return;
    }
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto& a, const auto& b) { return compare(a.first, b.first, "<") == -1; });
    }
    out_ += '{';
    ++level_;
    bool first = true;
    for (const auto& [key, value] : entries) {
      out_ += first ? "" : style_.item_separator;
      first = false;
      line(level_);
      append_json_string(json_key(key), style_.ensure_ascii, out_);
      out_ += style_.key_separator;
      write(value);
    }
    line(--level_);
    out_ += '}';
  }

  const JsonStyle& style_;
  std::string out_;
  int level_ = 0;
};

}  // namespace

std::string float_text(double value) {
  if (std::isnan(value)) {
    return "nan";
  }
  if (std::isinf(value)) {
    return value > 0 ? "inf" : "-inf";
  }
  // The shortest digits that read back as the same number; Python writes an exponent below 1e-4 and from 1e16.
  std::array<char, 64> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  const std::string_view scientific(buffer.data(), static_cast<std::size_t>(result.ptr - buffer.data()));
  const std::size_t split = scientific.find('e');
  int exponent = 0;
  const std::size_t digits_of_exponent = split + (scientific[split + 1] == '+' ? 2 : 1);
  std::from_chars(scientific.data() + digits_of_exponent, scientific.data() + scientific.size(), exponent);
  if (exponent < -4 || exponent >= 16) {
    return fmt::format("{}e{}{:02}", scientific.substr(0, split), exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  const auto fixed = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed);
  std::string text(buffer.data(), fixed.ptr);
  return text.find('.') == std::string::npos ? text + ".0" : text;
}

std::string representation(const Value& value) {
  std::string out;
  append_representation(value, out);
  return out;
}

std::string to_text(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return "";
    case Kind::kNone:
      return "None";
    case Kind::kBoolean:
      return value.as_boolean() ? "True" : "False";
    case Kind::kInteger:
      return fmt::format("{}", value.as_integer());
    case Kind::kFloat:
      return float_text(value.as_double());
    case Kind::kString:
      return value.text();
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
    case Kind::kDict:
      return representation(value);
    case Kind::kRange: {
      const Range& range = value.as_range();
      return range.step == 1 ? fmt::format("range({}, {})", range.start, range.stop)
                             : fmt::format("range({}, {}, {})", range.start, range.stop, range.step);
    }
    case Kind::kIterator:
      base::fail("printing what a lazy filter such as map or select gives is not supported (put `| list` behind it)");
    default:
      base::fail("printing a {} is not supported", type_name(value));
  }
}

std::string json_text(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  writer.write(value);
  return writer.take();
}

}  // namespace flyover::data::jinja
