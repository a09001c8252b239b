// The components of a tokenizer document put together. Private to this folder: tokenizer.h is what others use.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/decoder.h"
#include "tokenizer/document.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace flyover::tokenizer {

/// Where encoded tokens go.
struct Output {
  std::vector<std::int32_t> ids;
  std::vector<ByteRange>* offsets;  ///< null if not wanted

  void add(std::int32_t id, ByteRange offset) {
    ids.push_back(id);
    if (offsets != nullptr) {
      offsets->push_back(offset);
    }
  }
};

/// What a Tokenizer shares with its copies. Its functions are those of Tokenizer for one text or token.
struct Tokenizer::Parts {
  /// Reads all components. Throws Error naming what is wrong.
  explicit Parts(const Node& document);

  void encode(std::string_view text, bool parse_special, Output& output) const;
  /// The bytes of one token; U+FFFD for an id without one.
  std::string decode(std::int32_t id, bool is_first) const;
  /// Null if no token has the id.
  const std::string* token(std::int32_t id) const;
  bool is_special(std::int32_t id) const;

  std::vector<NormalizerStep> normalizer;
  PreTokenizer pre_tokenizer;
  BpeModel model;
  AddedTokens added;
  PostProcessor post_processor;
  Decoder decoder;
  std::int64_t size = 0;  ///< largest id + 1

 private:
  void check_added_tokens(const Node& document);
  /// Encodes bytes `part` of a normalized text without added tokens; `at_start` of the caller's text.
  void encode_part(const AlignedText& text, ByteRange part, bool at_start, std::vector<PieceToken>& scratch,
                   Output& output) const;
};

}  // namespace flyover::tokenizer
