// Unicode: the four normalization forms, lower case, white space and marks. Tables from Python's unicodedata.
#pragma once

#include <cstdint>
#include <string_view>

#include "tokenizer/aligned_text.h"

namespace flyover::tokenizer {

enum class NormalizationForm : std::uint8_t { kNfc, kNfd, kNfkc, kNfkd };

/// Unicode Standard Annex 15. Bytes that are not well-formed UTF-8 stay as they are and end a combining sequence.
/// A text that is already normalized is left alone.
void normalize(AlignedText& text, NormalizationForm form);

/// The property White_Space.
bool is_white_space(char32_t code_point);

/// The general category Mn (nonspacing mark).
bool is_nonspacing_mark(char32_t code_point);

/// Simple lower case mapping of a code point (itself if it has none). U+0130 maps to U+0069, which its caller follows
/// by U+0307.
char32_t to_lower(char32_t code_point);

}  // namespace flyover::tokenizer
