// Text to token ids and back, as a Hugging Face tokenizer.json describes it: byte-level BPE (GPT-2, Llama 3, Qwen,
// DeepSeek) and SentencePiece-style BPE with byte fallback (Llama 2). Chat templates are not known here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/aligned_text.h"
#include "tokenizer/decoder.h"

namespace flyover::tokenizer {

/// Tokens of a text and the bytes of that text that each stands for.
struct Encoding {
  std::vector<std::int32_t> ids;
  /// As long as ids. Begins and ends never decrease. Without a normalizer the ranges of the text's tokens tile what the
  /// pre-tokenizer keeps of it; where a normalizer has changed characters, all tokens of the new ones have the range of
  /// the old ones. Tokens that stand for no text (added in front, behind, or an inserted space) have empty ranges.
  std::vector<ByteRange> offsets;
};

/// Immutable once loaded, cheap to copy, and safe to use from several threads.
class Tokenizer {
 public:
  /// Reads a tokenizer.json. Its truncation and padding sections have no effect. Throws Error naming file, JSON path
  /// and component for what is missing, ill-typed, inconsistent or not supported.
  static Tokenizer load(const std::filesystem::path& tokenizer_json);
  /// The same from memory; `source` names the document in messages.
  static Tokenizer parse(std::string_view json_text, std::string_view source);
  /// GPT-2's two files: ids by token, and merges one per line. "<|endoftext|>" becomes a special token if it is there.
  static Tokenizer from_vocab_and_merges(const std::filesystem::path& vocabulary, const std::filesystem::path& merges);

  /// Any bytes are accepted; those that are not UTF-8 become byte tokens or the unknown token.
  /// `add_special_tokens`: with what the document's post-processor puts before and behind a text.
  /// `parse_special`: the text of special tokens becomes these tokens; false reads it as plain text, so that a user's
  /// words cannot turn into control tokens. (Added tokens that are not special are recognised all the same.)
  /// Throws Error if the vocabulary cannot express the text or a pre-tokenizer's expression backtracks too much.
  std::vector<std::int32_t> encode(std::string_view text, bool add_special_tokens = false,
                                   bool parse_special = true) const;
  Encoding encode_with_offsets(std::string_view text, bool add_special_tokens = false, bool parse_special = true) const;

  /// The text of the tokens: the exact bytes, so that decode(encode(text)) == text for byte-level vocabularies, also
  /// where tokens end inside a character and the result is not UTF-8. An id without a token (a model's vocabulary may
  /// be padded) gives U+FFFD. Throws Error for negative ids.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens = false) const;

  std::optional<std::int32_t> token_to_id(std::string_view token) const;
  /// As the document writes it ("Ġthe"). Throws Error if no token has the id.
  const std::string& id_to_token(std::int32_t id) const;
  /// Largest id + 1.
  std::int64_t vocabulary_size() const;
  bool is_special(std::int32_t id) const;

 private:
  friend class StreamingDecoder;
  struct Parts;
  explicit Tokenizer(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}

  std::shared_ptr<const Parts> parts_;
};

/// Decodes tokens as they are generated. What it returns is always whole UTF-8 characters: a character whose bytes come
/// in several tokens is held back until its last one; ill-formed bytes come as U+FFFD, one each.
class StreamingDecoder {
 public:
  explicit StreamingDecoder(Tokenizer tokenizer, bool skip_special_tokens = false);

  /// The text that this token completes; may be empty.
  std::string push(std::int32_t id);
  /// What was still held back. The decoder is then ready for another text.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  bool skip_special_tokens_;
  bool is_first_ = true;
  StartStripper stripper_;
  std::string pending_;  ///< bytes of an incomplete character
};

}  // namespace flyover::tokenizer
