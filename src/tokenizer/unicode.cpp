#include "tokenizer/unicode.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "tokenizer/unicode_tables.h"

namespace flyover::tokenizer {
namespace {

/// Sorts each run of combining marks by class, keeping the order of equals (canonical ordering, D108).
void order_marks(std::u32string& text) {
  std::vector<std::pair<std::uint8_t, char32_t>> marks;
  for (std::size_t i = 0; i < text.size();) {
    marks.clear();
    std::size_t end = i;
    for (; end < text.size(); ++end) {
      const std::uint8_t mark_class = combining_class(text[end]);
      if (mark_class == 0) {
        break;
      }
      marks.emplace_back(mark_class, text[end]);
    }
    std::stable_sort(marks.begin(), marks.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& mark : marks) {
      text[i++] = mark.second;
    }
    i = end + 1;
  }
}

/// Canonical composition (D117): a mark joins the last starter unless one of its class or higher stands between.
void compose_all(std::u32string& text) {
  std::size_t written = 0;
  std::size_t starter = std::u32string::npos;
  std::uint8_t last_class = 0;
  for (const char32_t code_point : text) {
    const std::uint8_t current_class = combining_class(code_point);
    const bool adjacent = starter != std::u32string::npos && written == starter + 1;
    const bool blocked = !adjacent && (last_class == 0 || last_class >= current_class);
    const char32_t composite = starter == std::u32string::npos || blocked ? 0 : compose(text[starter], code_point);
    if (composite != 0) {
      text[starter] = composite;
      continue;
    }
    if (current_class == 0) {
      starter = written;
    }
    last_class = current_class;
    text[written++] = code_point;
  }
  text.resize(written);
}

struct Decoded {
  char32_t code_point;
  bool well_formed;
};

Decoded decode(std::string_view text, std::size_t& offset) {
  const std::size_t start = offset;
  const char32_t code_point = base::decode_utf8(text, offset);
  return {code_point, offset - start > 1 || static_cast<unsigned char>(text[start]) < 0x80};
}

/// One code point that nothing before it can join, with all that can join it: normalized by itself.
struct Chunk {
  std::size_t end;
  bool may_change;
};

Chunk next_chunk(std::string_view text, std::size_t begin, const FormTable& table) {
  std::size_t offset = begin;
  const Decoded first = decode(text, offset);
  if (!first.well_formed) {
    return {offset, false};
  }
  Chunk chunk{offset, (table.flags[first.code_point] & FormTable::kChanges) != 0};
  while (offset < text.size()) {
    const Decoded next = decode(text, offset);
    if (!next.well_formed || (table.flags[next.code_point] & FormTable::kBoundary) != 0) {
      break;
    }
    chunk = {offset, true};
  }
  return chunk;
}

/// Length of the prefix that every form leaves alone and whose last byte nothing can join: ASCII before ASCII.
std::size_t plain_prefix(std::string_view text, std::size_t begin) {
  std::size_t end = begin;
  while (end < text.size() && static_cast<unsigned char>(text[end]) < 0x80) {
    ++end;
  }
  return end == text.size() ? end : std::max(begin, end > 0 ? end - 1 : 0);
}

}  // namespace

void normalize(AlignedText& text, NormalizationForm form) {
  const std::string_view source = text.text();
  if (plain_prefix(source, 0) == source.size()) {
    return;
  }
  const FormTable& table = form_table(form);
  const bool compatibility = form == NormalizationForm::kNfkc || form == NormalizationForm::kNfkd;
  const bool composed = form == NormalizationForm::kNfc || form == NormalizationForm::kNfkc;
  TextEditor editor(text);
  std::size_t copied = 0;
  std::u32string points;
  std::string normalized;
  for (std::size_t begin = plain_prefix(source, 0); begin < source.size();) {
    const Chunk chunk = next_chunk(source, begin, table);
    if (chunk.may_change) {
      points.clear();
      for (std::size_t offset = begin; offset < chunk.end;) {
        append_decomposition(points, base::decode_utf8(source, offset), compatibility);
      }
      order_marks(points);
      if (composed) {
        compose_all(points);
      }
      normalized.clear();
      for (const char32_t point : points) {
        base::append_utf8(normalized, point);
      }
      const ByteRange bytes{begin, chunk.end};
      if (normalized != bytes.of(source)) {
        editor.copy({copied, begin});
        editor.put(normalized, bytes);
        copied = chunk.end;
      }
    }
    begin = plain_prefix(source, chunk.end);
  }
  if (copied > 0) {
    editor.copy({copied, source.size()});
    text = editor.finish();
  }
}

bool is_white_space(char32_t code_point) {
  return (code_point >= 0x9 && code_point <= 0xD) || code_point == 0x20 || code_point == 0x85 || code_point == 0xA0 ||
         code_point == 0x1680 || (code_point >= 0x2000 && code_point <= 0x200A) || code_point == 0x2028 ||
         code_point == 0x2029 || code_point == 0x202F || code_point == 0x205F || code_point == 0x3000;
}

}  // namespace flyover::tokenizer
