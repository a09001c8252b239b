// The entries with the largest scores of a query, found while the scores come by. No vector code.
#pragma once

#include <bit>
#include <cstdint>

namespace flyover::devices::cpu::indexer {

/// An entry with its score, in an order that is that of the integers: by score, then the lower index. A NaN is the
/// smallest score.
constexpr std::uint64_t candidate_of(float score, std::int64_t entry) {
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.0f);  // -0 is 0
  const std::uint32_t rank = score != score ? 0 : (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return (std::uint64_t{rank} << 32) | (0xFFFFFFFFu - static_cast<std::uint32_t>(entry));
}
constexpr std::int32_t entry_of(std::uint64_t candidate) {
  return static_cast<std::int32_t>(0xFFFFFFFFu - static_cast<std::uint32_t>(candidate));
}
constexpr float score_of(std::uint64_t candidate) {
  const auto rank = static_cast<std::uint32_t>(candidate >> 32);
  const std::uint32_t nan = 0x7FC00000u;
  return std::bit_cast<float>(rank == 0 ? nan : (rank >> 31) != 0 ? rank & 0x7FFFFFFFu : ~rank);
}

/// Scores that are taken in at once.
inline constexpr std::int64_t kScoresAtOnce = 64;

/// Candidates for which a selection of `limit` among `entries` needs room: twice as many as it keeps, so that each
/// entry is moved a constant number of times on average.
constexpr std::int64_t selection_capacity(std::int64_t limit, std::int64_t entries) {
  return (2 * limit < entries ? 2 * limit : entries) + kScoresAtOnce;
}

/// The largest of the scores of one query that have come by.
struct Selection {
  std::uint64_t* candidates;  ///< [capacity]
  std::int64_t capacity;
  std::int64_t limit;
  std::int64_t count = 0;
  std::uint64_t bound = 0;  ///< what is not above is not among the largest

  /// Takes in the scores of entries first .. first + entries - 1, at most kScoresAtOnce, later than all before.
  void add(const float* scores, std::int64_t first, std::int64_t entries);
  /// Keeps `limit` candidates at most, and puts them in the order of their entries.
  void finish();

 private:
  void keep_largest();
};

}  // namespace flyover::devices::cpu::indexer
