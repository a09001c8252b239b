// Text as Python sees it: a sequence of code points, with Python's notion of white space, case and printability.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flyover::data::jinja {

/// The code points of UTF-8 text, and back.
std::u32string code_points(std::string_view text);
std::string utf8(std::u32string_view points);

/// Number of code points.
std::int64_t length_in_code_points(std::string_view text);
bool is_ascii(std::string_view text);
inline bool is_ascii_digit(char byte) {
  return byte >= '0' && byte <= '9';
}

/// str.isspace of one code point (bidirectional type WS, B or S, or category Zs).
bool is_space(char32_t point);
/// Ends a line for str.splitlines.
bool is_line_break(char32_t point);
/// str.isprintable of one code point: not of the categories "other" and "separator", except the space.
bool is_printable(char32_t point);

/// Simple case mappings. Throws Error for code points whose mapping is longer than one code point (ligatures and alike;
/// `upper` knows the German sharp s) and where the system has no Unicode locale.
char32_t to_upper(char32_t point);
char32_t to_lower(char32_t point);
std::string upper(std::string_view text);
std::string lower(std::string_view text);

/// Python's strip: white space, or any of the code points of `characters`, removed from the left and right end.
struct StripEnds {
  bool left = true;
  bool right = true;
};
std::string_view strip(std::string_view text, StripEnds ends = {});
std::string_view strip(std::string_view text, std::string_view characters, StripEnds ends = {});

}  // namespace flyover::data::jinja
