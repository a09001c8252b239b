// The entries with the largest scores of a query, found while the scores come by. Everything is a template on the
// instruction set, so that its loops are compiled for it: included between HWY_PUSH_ATTRIBUTES and HWY_POP_ATTRIBUTES.
#pragma once

namespace flyover::devices::cpu::indexer {

/// A score as an integer of the same order. -0 is 0, and a NaN is smaller than all else.
inline constexpr std::int32_t kRankOfNan = std::numeric_limits<std::int32_t>::min() + 1;
template <class E>
std::int32_t rank_of(float score) {
  const auto bits = std::bit_cast<std::int32_t>(score + 0.0f);
  return score != score ? kRankOfNan : bits ^ ((bits >> 31) & 0x7FFFFFFF);
}
template <class E>
float score_of(std::int32_t rank) {
  return rank == kRankOfNan ? std::numeric_limits<float>::quiet_NaN()
                            : std::bit_cast<float>(rank ^ ((rank >> 31) & 0x7FFFFFFF));
}

/// Candidates for which a selection of `limit` among `entries` needs room: twice as many as it keeps, so that an entry
/// is looked at a constant number of times on average, and a tile.
constexpr std::int64_t selection_capacity(std::int64_t limit, std::int64_t entries) {
  return std::min(2 * limit, entries) + kTile;
}

/// The largest of the scores of one query that have come by, in the order of their entries.
struct Selection {
  std::int32_t* ranks;    ///< [capacity]
  std::int32_t* entries;  ///< [capacity]
  std::int64_t capacity;
  std::int64_t limit;
  std::int64_t count = 0;
  std::int32_t bound = std::numeric_limits<std::int32_t>::min();  ///< what is not above is not among the largest
};

template <class E>
std::int64_t count_from(const Selection& selection, std::int64_t rank) {
  const auto least = static_cast<std::int32_t>(rank);
  std::int32_t count = 0;
  for (std::int64_t i = 0; i < selection.count; ++i) {
    count += selection.ranks[i] >= least ? 1 : 0;
  }
  return count;
}

/// Keeps `limit` candidates at most: bisects for the rank of the last of them. Of equal ones the first stay.
template <class E>
void keep_largest(Selection& selection) {
  if (selection.count <= selection.limit) {
    return;
  }
  std::int64_t low = selection.bound, high = low;  // `limit` candidates are at least `low`, fewer above `high`
  for (std::int64_t i = 0; i < selection.count; ++i) {
    high = std::max<std::int64_t>(high, selection.ranks[i]);
  }
  while (low < high) {
    const std::int64_t middle = low + (high - low + 1) / 2;
    if (count_from<E>(selection, middle) >= selection.limit) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  std::int64_t equal = selection.limit;  // those of the last rank that stay
  for (std::int64_t i = 0; i < selection.count; ++i) {
    equal -= selection.ranks[i] > low ? 1 : 0;
  }
  std::int64_t kept = 0;
  for (std::int64_t i = 0; i < selection.count; ++i) {
    const std::int32_t rank = selection.ranks[i];
    const bool is_last = rank == low;
    selection.ranks[kept] = rank;
    selection.entries[kept] = selection.entries[i];
    kept += rank > low || (is_last && equal > 0) ? 1 : 0;
    equal -= is_last ? 1 : 0;
  }
  selection.count = kept;
  selection.bound = static_cast<std::int32_t>(low);
}

/// Takes in the first `count` of kTile scores: those of the entries from `first` on, later than all before.
template <class E>
void add_scores(Selection& selection, const float* scores, std::int64_t first, std::int64_t count) {
  std::int32_t ranks[kTile];
  for (std::int64_t i = 0; i < kTile; ++i) {
    ranks[i] = rank_of<E>(scores[i]);
  }
  std::int64_t place = selection.count;
  for (std::int64_t i = 0; i < count; ++i) {
    selection.ranks[place] = ranks[i];
    selection.entries[place] = static_cast<std::int32_t>(first + i);
    place += ranks[i] > selection.bound ? 1 : 0;
  }
  selection.count = place;
  if (place > selection.capacity - kTile) {
    keep_largest<E>(selection);
  }
}

}  // namespace flyover::devices::cpu::indexer
