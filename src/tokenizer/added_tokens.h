// Added tokens: texts that become one token wherever they stand, found before anything else looks at the text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/aligned_text.h"
#include "tokenizer/document.h"
#include "tokenizer/normalizer.h"

namespace flyover::tokenizer {

struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool special = false;      ///< a control token: encode can be told to read its text as plain text
  bool normalized = false;   ///< looked for in the normalized text instead of the caller's
  bool single_word = false;  ///< not inside a word
  bool lstrip = false;       ///< takes the white space before it along
  bool rstrip = false;       ///< takes the white space behind it along
};

/// Reads the "added_tokens" array. Throws Error naming the entry.
std::vector<AddedToken> read_added_tokens(const Node& node);

/// Part of a text: an added token, or other text (token == null).
struct Segment {
  ByteRange range;
  const AddedToken* token = nullptr;
};

/// Finds tokens by their text: at each position the longest that begins there.
class TokenFinder {
 public:
  /// Empty texts are never found.
  void add(std::string_view text, const AddedToken* token);
  /// Appends the segments of `text`, from left to right and without gaps. Special tokens are other text unless
  /// `parse_special`.
  void split(std::string_view text, bool parse_special, std::vector<Segment>& segments) const;

 private:
  struct Match {
    std::size_t length = 0;
    const AddedToken* token = nullptr;
  };
  Match longest_at(std::string_view text, std::size_t position) const;

  std::vector<bool> first_bytes_ = std::vector<bool>(256);
  std::unordered_map<std::uint64_t, std::uint32_t> children_;  ///< (node, byte) -> node
  std::vector<const AddedToken*> nodes_ = {nullptr};           ///< node -> token that ends there
};

/// All added tokens of a tokenizer.
class AddedTokens {
 public:
  AddedTokens(std::vector<AddedToken> tokens, const std::vector<NormalizerStep>& normalizer);

  /// Before the normalizer: tokens with `normalized` false. After it: the others.
  const TokenFinder& in_original_text() const { return original_; }
  const TokenFinder& in_normalized_text() const { return normalized_; }

  const std::vector<AddedToken>& tokens() const { return tokens_; }
  /// Null if there is none.
  const AddedToken* find(std::int32_t id) const;
  const AddedToken* find(std::string_view content) const;

 private:
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::int32_t, const AddedToken*> by_id_;
  std::unordered_map<std::string_view, const AddedToken*> by_content_;
  TokenFinder original_;
  TokenFinder normalized_;
};

}  // namespace flyover::tokenizer
