// The "pre_tokenizer" of a tokenizer document: cuts a text into the pieces that the model encodes one by one.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tokenizer/aligned_text.h"
#include "tokenizer/document.h"
#include "tokenizer/pattern.h"

namespace flyover::tokenizer {

/// What becomes of the matches when a text is cut at them.
enum class SplitBehavior : std::uint8_t { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// Cuts at the matches of a pattern (with `invert`: at what lies between them). Digits, Punctuation, Whitespace, ...
/// are splits with a pattern of their own.
struct Split {
  Pattern pattern;
  SplitBehavior behavior;
  bool invert;
};

enum class PrependScheme : std::uint8_t { kAlways, kFirst, kNever };

/// Writes spaces as `replacement`, puts one in front and cuts before each.
struct Metaspace {
  std::string replacement;
  PrependScheme prepend_scheme;
  bool split;
};

/// Puts a space in front of each piece that does not begin with one (ByteLevel, add_prefix_space).
struct PrefixSpace {};

/// Writes bytes as their characters, for steps that follow a ByteLevel and see these, and back.
struct ToByteCharacters {};
struct FromByteCharacters {};

using PreTokenizerStep = std::variant<Split, Metaspace, PrefixSpace, ToByteCharacters, FromByteCharacters>;

struct PreTokenizer {
  std::vector<PreTokenizerStep> steps;  ///< nested sequences flattened
  bool byte_level = false;              ///< pieces are bytes for a vocabulary of byte characters
};

/// Throws Error naming component and path.
PreTokenizer read_pre_tokenizer(const Node& node);

/// The regular expression with which GPT-2 (and ByteLevel with use_regex) cuts texts.
extern const std::string_view kGpt2Pattern;

/// A text and its non-empty pieces in order. They need not cover it: splits can remove.
struct Pieces {
  const AlignedText* source;             ///< what was cut
  std::optional<AlignedText> rewritten;  ///< what the ranges refer to, if a step has changed characters
  std::vector<ByteRange> ranges;

  const AlignedText& text() const { return rewritten ? *rewritten : *source; }
};

/// Cuts bytes `part` of `text`. `at_start`: these bytes are the first of the caller's text.
/// `text` must outlive the result.
Pieces pre_tokenize(const PreTokenizer& pre_tokenizer, const AlignedText& text, ByteRange part, bool at_start);

}  // namespace flyover::tokenizer
