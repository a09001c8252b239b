// Operations on text that string methods and filters share.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/utf8.h"
#include "data/jinja/builtins.h"
#include "data/jinja/unicode.h"

namespace flyover::data::jinja {
namespace {

/// Where a code point starts or the text ends.
bool at_boundary(std::string_view text, std::size_t offset) {
  return offset == text.size() || (static_cast<unsigned char>(text[offset]) & 0xC0) != 0x80;
}

std::string interleaved(std::string_view text, std::string_view replacement, std::int64_t count) {
  std::string out;
  for (std::size_t offset = 0; offset <= text.size(); ++offset) {
    if (at_boundary(text, offset) && count > 0) {
      out += replacement;
      --count;
      require_string_size(out.size());
    }
    if (offset < text.size()) {
      out += text[offset];
    }
  }
  return out;
}

bool splits_words(char32_t point) {
  return point == U'-' || point == U'(' || point == U'{' || point == U'[' || point == U'<' || is_space(point);
}

}  // namespace

void require_ascii(std::string_view text, std::string_view function) {
  base::require(is_ascii(text), "{} is supported for ASCII text only, found \"{}\"", function, text.substr(0, 40));
}

std::string capitalized(std::string_view text) {
  std::u32string points = code_points(text);
  for (std::size_t i = 0; i < points.size(); ++i) {
    points[i] = i == 0 ? to_upper(points[i]) : to_lower(points[i]);
  }
  return utf8(points);
}

/// The filter `title`, which starts a word behind white space, a hyphen or an opening bracket.
std::string title_cased(std::string_view text) {
  std::u32string points = code_points(text);
  bool starts_word = true;
  for (char32_t& point : points) {
    const bool splits = splits_words(point);
    point = starts_word && !splits ? to_upper(point) : to_lower(point);
    starts_word = splits;
  }
  return utf8(points);
}

std::string replaced(std::string_view text, std::string_view old, std::string_view replacement, std::int64_t count) {
  count = count < 0 ? INT64_MAX : count;
  if (old.empty()) {
    return interleaved(text, replacement, count);
  }
  std::string out;
  std::size_t position = 0;
  for (std::size_t found = text.find(old); found != std::string_view::npos && count > 0;
       found = text.find(old, position), --count) {
    out.append(text, position, found - position);
    out += replacement;
    position = found + old.size();
    require_string_size(out.size());
  }
  out.append(text, position);
  return out;
}

std::string joined(const std::vector<Value>& items, std::string_view separator) {
  std::string out;
  for (std::size_t i = 0; i < items.size(); ++i) {
    out += i > 0 ? separator : std::string_view();
    out += to_text(items[i]);
    require_string_size(out.size());
  }
  return out;
}

/// `left_share` of the missing width goes to the left: 0, 1, or 0.5 for str.center.
std::string padded(std::string_view text, std::int64_t width, std::string_view fill, double left_share) {
  base::require(length_in_code_points(fill) == 1, "the fill character must be exactly one character long");
  const std::int64_t size = length_in_code_points(text);
  if (width <= size) {
    return std::string(text);
  }
  const std::int64_t missing = width - size;
  require_string_size(static_cast<std::uint64_t>(missing));
  // str.center puts the odd character to the left where the width is odd.
  const std::int64_t left = left_share == 0.5 ? missing / 2 + (missing & width & 1) : left_share == 0.0 ? 0 : missing;
  std::string out;
  for (std::int64_t i = 0; i < left; ++i) {
    out += fill;
  }
  out += text;
  for (std::int64_t i = left; i < missing; ++i) {
    out += fill;
  }
  return out;
}

std::vector<std::string> lines_of(std::string_view text, bool keep_ends) {
  std::vector<std::string> lines;
  std::size_t start = 0;
  for (std::size_t offset = 0; offset < text.size();) {
    const std::size_t end = offset;
    if (!is_line_break(base::decode_utf8(text, offset))) {
      continue;
    }
    if (text[end] == '\r' && offset < text.size() && text[offset] == '\n') {
      ++offset;
    }
    lines.emplace_back(text.substr(start, (keep_ends ? offset : end) - start));
    start = offset;
  }
  if (start < text.size()) {
    lines.emplace_back(text.substr(start));
  }
  return lines;
}

}  // namespace flyover::data::jinja
