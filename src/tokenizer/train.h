// Learning a byte-level BPE vocabulary from a text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/pre_tokenizer.h"

namespace flyover::tokenizer {

struct BpeTraining {
  /// Special tokens and the 256 bytes included.
  std::int64_t vocabulary_size = 0;
  /// They get the first ids; the text is cut at them, and nothing is learned from them.
  std::vector<std::string> special_tokens = {};
  /// Cuts the text into the pieces in which pairs are counted.
  std::string pattern{kGpt2Pattern};
};

/// A complete tokenizer.json whose merges join, again and again, the most frequent pair of neighbouring tokens within
/// pieces (of equally frequent pairs, the lexicographically greatest by the bytes of its first, then its second token).
/// Ids: special tokens, bytes in GPT-2's order, merged tokens. Deterministic. The vocabulary is smaller than asked for
/// if the text has no more pairs. Throws Error for a size below 256 + special tokens, bad special tokens or patterns.
std::string train_bpe(std::string_view corpus, const BpeTraining& training);

}  // namespace flyover::tokenizer
