// The generated Unicode tables as look-ups. What one normalization form does with a text is in unicode.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tokenizer/unicode.h"

namespace flyover::tokenizer {

/// Canonical combining class (0: a starter).
std::uint8_t combining_class(char32_t code_point);

/// Appends the full canonical (or, if `compatibility`, compatibility) decomposition of a code point, in the order of
/// the table: combining marks are not sorted yet.
void append_decomposition(std::u32string& text, char32_t code_point, bool compatibility);

/// The primary composite of two code points, or 0.
char32_t compose(char32_t first, char32_t second);

/// What one normalization form does with a code point that stands alone, one byte per code point.
struct FormTable {
  static constexpr std::uint8_t kBoundary = 1;  ///< never interacts with what stands before it
  static constexpr std::uint8_t kChanges = 2;   ///< its own normalized form is another
  std::vector<std::uint8_t> flags;
};

/// The table of a form, computed at its first use.
const FormTable& form_table(NormalizationForm form);

}  // namespace flyover::tokenizer
