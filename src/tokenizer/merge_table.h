// The merges of a BPE model: which pairs of neighbouring tokens become one, and in which order of preference.
#pragma once

#include <cstdint>
#include <vector>

namespace flyover::tokenizer {

/// A hash table from pairs of token ids to ranks, with open addressing: looked up once or twice per byte of text.
class MergeTable {
 public:
  static constexpr std::uint32_t kNoMerge = UINT32_MAX;

  explicit MergeTable(std::size_t expected_merges);

  /// Adds a merge, whose rank is the number of merges added before. A pair that is added again takes the later rank.
  void add(std::int32_t left, std::int32_t right, std::int32_t merged);

  /// Rank of a pair, lower first, or kNoMerge.
  std::uint32_t rank(std::int32_t left, std::int32_t right) const {
    const std::uint64_t key = pair_key(left, right);
    for (std::size_t slot = slot_of(key);; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) {
        return slots_[slot].rank;
      }
      if (slots_[slot].key == kEmpty) {
        return kNoMerge;
      }
    }
  }
  /// The token that the merge of this rank makes.
  std::int32_t merged(std::uint32_t rank) const { return merged_[rank]; }

 private:
  struct Slot {
    std::uint64_t key;
    std::uint32_t rank;
  };
  static constexpr std::uint64_t kEmpty = UINT64_MAX;

  static std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
    return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) | static_cast<std::uint32_t>(right);
  }
  std::size_t slot_of(std::uint64_t key) const {
    const std::uint64_t mixed = key * 0x9E3779B97F4A7C15u;
    return static_cast<std::size_t>((mixed ^ (mixed >> 32)) & mask_);
  }

  std::vector<Slot> slots_;
  std::size_t mask_;
  std::vector<std::int32_t> merged_;
};

}  // namespace flyover::tokenizer
