// Remembers how pieces of text were encoded. Shared by all threads that use a tokenizer, without locks.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace flyover::tokenizer {

/// A token and how many bytes of the piece it stands for.
struct PieceToken {
  std::int32_t id;
  std::uint32_t length;
};

/// A table of fixed size that keeps the pieces it saw first: words are Zipf-distributed, so that the frequent ones come
/// early, and what is never replaced needs no locks and no reference counts.
class PieceCache {
 public:
  PieceCache();
  PieceCache(const PieceCache&) = delete;
  PieceCache& operator=(const PieceCache&) = delete;
  ~PieceCache();

  /// Longer pieces are rarely seen twice.
  static constexpr std::size_t kLongestPiece = 64;

  static std::uint64_t hash(std::string_view piece);
  /// Appends the tokens of a piece that the cache knows and returns true; otherwise false.
  bool append(std::string_view piece, std::uint64_t hash, std::vector<PieceToken>& tokens) const;
  /// Keeps the tokens if there is room.
  void remember(std::string_view piece, std::uint64_t hash, std::span<const PieceToken> tokens);

 private:
  struct Entry {
    std::uint64_t hash;
    std::string piece;
    std::vector<PieceToken> tokens;
  };
  std::unique_ptr<std::atomic<const Entry*>[]> slots_;
};

}  // namespace flyover::tokenizer
