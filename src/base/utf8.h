// UTF-8: validation, decoding and encoding of code points.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace flyover::base {

/// Byte offset of the first byte that does not start or continue a well-formed sequence (Unicode 15, table 3-7: no
/// overlong forms, no surrogates, nothing above U+10FFFF), or npos if the text is well-formed.
std::size_t find_invalid_utf8(std::string_view text);

/// The code point that starts at `offset`, which is moved behind it. An ill-formed byte gives U+FFFD and moves by one.
char32_t decode_utf8(std::string_view text, std::size_t& offset);

/// Appends a code point's UTF-8 form.
void append_utf8(std::string& text, char32_t code_point);

}  // namespace flyover::base
