#include "data/jinja/unicode.h"

#include <algorithm>
#include <array>
#include <clocale>
#include <cwctype>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/error.h"
#include "base/utf8.h"

namespace flyover::data::jinja {
namespace {

/// Code points whose upper or lower case is more than one code point, or depends on what is around (Unicode 14,
/// SpecialCasing.txt): ranges, first and last.
constexpr std::array<std::pair<char32_t, char32_t>, 23> kSpecialUpper = {
    {{0x00DF, 0x00DF}, {0x0149, 0x0149}, {0x01C4, 0x01CC}, {0x01F0, 0x01F3}, {0x0390, 0x0390}, {0x03B0, 0x03B0},
     {0x0587, 0x0587}, {0x1E96, 0x1E9A}, {0x1F50, 0x1F50}, {0x1F52, 0x1F52}, {0x1F54, 0x1F54}, {0x1F56, 0x1F56},
     {0x1F80, 0x1FAF}, {0x1FB2, 0x1FB4}, {0x1FB6, 0x1FB7}, {0x1FBC, 0x1FBC}, {0x1FC2, 0x1FC7}, {0x1FCC, 0x1FCC},
     {0x1FD2, 0x1FD7}, {0x1FE2, 0x1FE7}, {0x1FF2, 0x1FFC}, {0xFB00, 0xFB06}, {0xFB13, 0xFB17}}};
constexpr std::array<std::pair<char32_t, char32_t>, 2> kSpecialLower = {{{0x0130, 0x0130}, {0x03A3, 0x03A3}}};

template <std::size_t count>
bool in_ranges(const std::array<std::pair<char32_t, char32_t>, count>& ranges, char32_t point) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const auto& range) { return point >= range.first && point <= range.second; });
}

locale_t unicode_locale() {
  static const locale_t locale = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  base::require(locale != nullptr,
                "changing the case of text beyond ASCII needs the locale C.UTF-8, which this system does not have");
  return locale;
}

bool is_ascii_point(char32_t point) {
  return point < 0x80;
}

}  // namespace

std::u32string code_points(std::string_view text) {
  std::u32string points;
  points.reserve(text.size());
  for (std::size_t offset = 0; offset < text.size();) {
    points.push_back(base::decode_utf8(text, offset));
  }
  return points;
}

std::string utf8(std::u32string_view points) {
  std::string text;
  text.reserve(points.size());
  for (const char32_t point : points) {
    base::append_utf8(text, point);
  }
  return text;
}

std::int64_t length_in_code_points(std::string_view text) {
  return std::count_if(text.begin(), text.end(),
                       [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; });
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char byte) { return static_cast<unsigned char>(byte) < 0x80; });
}

bool is_space(char32_t point) {
  if (is_ascii_point(point)) {
    return (point >= 0x09 && point <= 0x0D) || (point >= 0x1C && point <= 0x20);
  }
  return point == 0x85 || point == 0xA0 || point == 0x1680 || (point >= 0x2000 && point <= 0x200A) || point == 0x2028 ||
         point == 0x2029 || point == 0x202F || point == 0x205F || point == 0x3000;
}

bool is_line_break(char32_t point) {
  return (point >= 0x0A && point <= 0x0D) || (point >= 0x1C && point <= 0x1E) || point == 0x85 || point == 0x2028 ||
         point == 0x2029;
}

bool is_printable(char32_t point) {
  if (is_ascii_point(point)) {
    return point >= 0x20 && point < 0x7F;
  }
  int error = 0;
  PCRE2_SIZE error_offset = 0;
  static const pcre2_code* const kUnprintable =
      ::pcre2_compile(reinterpret_cast<PCRE2_SPTR>("[\\p{C}\\p{Z}]"), PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                      &error, &error_offset, nullptr);
  base::check(kUnprintable != nullptr, "the pattern of unprintable characters does not compile: {}", error);
  std::string text;
  base::append_utf8(text, point);
  pcre2_match_data* match = ::pcre2_match_data_create(1, nullptr);
  const int found =
      ::pcre2_match(kUnprintable, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, 0, match, nullptr);
  ::pcre2_match_data_free(match);
  return found == PCRE2_ERROR_NOMATCH;
}

char32_t to_upper(char32_t point) {
  if (is_ascii_point(point)) {
    return point >= 'a' && point <= 'z' ? point - 32 : point;
  }
  base::require(!in_ranges(kSpecialUpper, point), "the upper case of U+{:04X} is not supported",
                static_cast<std::uint32_t>(point));
  return static_cast<char32_t>(::towupper_l(static_cast<wint_t>(point), unicode_locale()));
}

char32_t to_lower(char32_t point) {
  if (is_ascii_point(point)) {
    return point >= 'A' && point <= 'Z' ? point + 32 : point;
  }
  base::require(!in_ranges(kSpecialLower, point), "the lower case of U+{:04X} is not supported",
                static_cast<std::uint32_t>(point));
  return static_cast<char32_t>(::towlower_l(static_cast<wint_t>(point), unicode_locale()));
}

std::string upper(std::string_view text) {
  std::string out;
  for (const char32_t point : code_points(text)) {
    if (point == 0x00DF) {
      out += "SS";
    } else {
      base::append_utf8(out, to_upper(point));
    }
  }
  return out;
}

std::string lower(std::string_view text) {
  std::u32string points = code_points(text);
  std::transform(points.begin(), points.end(), points.begin(), to_lower);
  return utf8(points);
}

namespace {

template <typename Removed>
std::string_view strip_where(std::string_view text, StripEnds ends, const Removed& removed) {
  while (ends.left && !text.empty()) {
    std::size_t offset = 0;
    if (!removed(base::decode_utf8(text, offset))) {
      break;
    }
    text.remove_prefix(offset);
  }
  while (ends.right && !text.empty()) {
    std::size_t start = text.size() - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) {
      --start;
    }
    std::size_t offset = start;
    if (!removed(base::decode_utf8(text, offset))) {
      break;
    }
    text.remove_suffix(text.size() - start);
  }
  return text;
}

}  // namespace

std::string_view strip(std::string_view text, StripEnds ends) {
  return strip_where(text, ends, is_space);
}

std::string_view strip(std::string_view text, std::string_view characters, StripEnds ends) {
  const std::u32string set = code_points(characters);
  return strip_where(text, ends, [&](char32_t point) { return set.find(point) != std::u32string::npos; });
}

}  // namespace flyover::data::jinja
