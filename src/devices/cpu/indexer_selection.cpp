#include "devices/cpu/indexer_selection.h"

#include <algorithm>
#include <functional>

namespace flyover::devices::cpu::indexer {

void Selection::keep_largest() {
  if (count > limit) {
    std::nth_element(candidates, candidates + limit - 1, candidates + count, std::greater<>());
    count = limit;
    bound = candidates[limit - 1];
  }
}

void Selection::add(const float* scores, std::int64_t first, std::int64_t entries) {
  for (std::int64_t i = 0; i < entries; ++i) {
    const std::uint64_t candidate = candidate_of(scores[i], first + i);
    candidates[count] = candidate;
    count += candidate > bound ? 1 : 0;
  }
  if (count > capacity - kScoresAtOnce) {
    keep_largest();
  }
}

void Selection::finish() {
  keep_largest();
  // The entry is in the lower half, complemented.
  std::sort(candidates, candidates + count, [](std::uint64_t a, std::uint64_t b) {
    return static_cast<std::uint32_t>(a) > static_cast<std::uint32_t>(b);
  });
}

}  // namespace flyover::devices::cpu::indexer
