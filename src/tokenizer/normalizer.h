// The "normalizer" of a tokenizer document: changes to a text before it is cut into pieces.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "tokenizer/aligned_text.h"
#include "tokenizer/document.h"
#include "tokenizer/pattern.h"
#include "tokenizer/unicode.h"

namespace flyover::tokenizer {

struct Prepend {
  std::string text;
};
struct Replace {
  Pattern pattern;
  std::string content;
};
struct Strip {
  bool left;
  bool right;
};
struct Lowercase {};
struct StripAccents {};

using NormalizerStep = std::variant<NormalizationForm, Prepend, Replace, Strip, Lowercase, StripAccents>;

/// The steps of a normalizer in order, nested sequences flattened. Throws Error naming component and path.
std::vector<NormalizerStep> read_normalizer(const Node& node);

/// Applies the steps. An empty text stays empty.
void normalize(const std::vector<NormalizerStep>& steps, AlignedText& text);

/// Applies the steps to a text of which no origins are wanted.
std::string normalized(const std::vector<NormalizerStep>& steps, std::string_view text);

}  // namespace flyover::tokenizer
