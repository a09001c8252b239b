// The "decoder" of a tokenizer document: from tokens back to text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tokenizer/document.h"
#include "tokenizer/pattern.h"

namespace flyover::tokenizer {

/// Byte characters back to bytes.
struct DecodeByteLevel {};
/// <0xHH> back to a byte.
struct DecodeByteFallback {};
struct DecodeReplace {
  Pattern pattern;
  std::string content;
};
/// Removes up to `start` times `content` from the front and up to `stop` times from the end.
struct DecodeStrip {
  std::string content;
  std::int64_t start;
  std::int64_t stop;
};
/// The metaspace back to a space; those of the first token are dropped if encoding has put them there.
struct DecodeMetaspace {
  std::string replacement;
  bool drop_first;
};

using DecoderStep = std::variant<DecodeByteLevel, DecodeByteFallback, DecodeReplace, DecodeStrip, DecodeMetaspace>;

/// Every step but those behind a Fuse works on one token at a time, which lets a text be decoded while it is generated.
struct Decoder {
  std::vector<DecoderStep> steps;
  bool space_between_tokens = false;       ///< a document without decoder
  std::vector<DecodeStrip> at_text_start;  ///< Strips behind a Fuse

  /// Bytes of one token; `is_first` of the text. Not always whole UTF-8 characters. Added tokens (`is_added`) are never
  /// written in byte characters.
  std::string decode(std::string_view token, bool is_first, bool is_added) const;
};

/// Throws Error naming component and path. `node` may be null: no decoder.
Decoder read_decoder(const Node* node);

/// Applies `at_text_start` to a text that arrives in parts.
class StartStripper {
 public:
  explicit StartStripper(const Decoder& decoder) : decoder_(&decoder) {}
  /// Appends to `text` what is certain now that `part` has come.
  void append(std::string_view part, std::string& text);
  /// Appends what was held back when nothing more will come.
  void finish(std::string& text);

 private:
  const Decoder* decoder_;
  std::size_t step_ = 0;
  std::int64_t stripped_ = 0;  ///< times, in the current step
  std::string held_back_;
};

}  // namespace flyover::tokenizer
