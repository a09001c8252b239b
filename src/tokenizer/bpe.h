// The "model" of a tokenizer document: byte-pair encoding of one piece of text (Sennrich et al., arXiv:1508.07909).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/document.h"
#include "tokenizer/merge_table.h"
#include "tokenizer/piece_cache.h"
#include "tokenizer/vocabulary.h"

namespace flyover::tokenizer {

class BpeModel {
 public:
  /// Reads a model of type BPE. With `byte_level`, pieces are bytes and the vocabulary writes them as byte characters;
  /// otherwise pieces are characters. Throws Error naming what is missing or not supported.
  BpeModel(const Node& node, bool byte_level);

  const Vocabulary& vocabulary() const { return vocabulary_; }

  /// A token that `ignore_merges` must not produce from text (a control token). Call before the first encoding.
  void protect(std::int32_t id) { protected_.push_back(id); }

  /// Appends the tokens of a non-empty piece; their lengths add up to its size. Safe to call from several threads.
  /// Throws Error for a character that has no token if the model has none for the unknown.
  void encode(std::string_view piece, std::vector<PieceToken>& tokens) const;

 private:
  struct Symbol {
    std::int32_t id;
    std::uint32_t length;
    std::uint32_t previous;
    std::uint32_t next;
    std::uint32_t rank;  ///< of the merge with the next symbol
  };

  void read_merges(const Node& node);
  void encode_cached(std::string_view piece, std::vector<PieceToken>& tokens) const;
  void encode_new(std::string_view piece, std::vector<PieceToken>& tokens) const;
  std::optional<std::int32_t> whole_piece(std::string_view piece) const;
  void split_bytes(std::string_view piece, std::vector<Symbol>& symbols) const;
  void split_characters(std::string_view piece, std::vector<Symbol>& symbols) const;
  bool fall_back_to_bytes(std::string_view character, std::string_view spelled, std::vector<Symbol>& symbols) const;
  void merge(std::vector<Symbol>& symbols) const;

  bool byte_level_;
  bool byte_fallback_;
  bool fuse_unknown_;
  bool ignore_merges_;
  bool cut_at_metaspace_ = false;
  std::string prefix_;
  std::string suffix_;
  std::optional<std::int32_t> unknown_;
  Vocabulary vocabulary_;
  std::array<std::int32_t, 256> bytes_{};  ///< token of a byte (its character or <0xHH>), or -1
  std::optional<MergeTable> merges_;
  std::vector<std::int32_t> protected_;
  std::unique_ptr<PieceCache> cache_ = std::make_unique<PieceCache>();
};

}  // namespace flyover::tokenizer
