#include "data/sequence.h"

#include <algorithm>
#include <numeric>

namespace flyover::data {

std::int64_t Sequence::targets() const {
  return std::accumulate(trained.begin(), trained.end(), std::int64_t{0});
}

std::int64_t Dataset::tokens() const {
  std::int64_t total = 0;
  for (const Sequence& sequence : sequences) {
    total += sequence.length();
  }
  return total;
}

std::int64_t Dataset::longest() const {
  std::int64_t longest = 0;
  for (const Sequence& sequence : sequences) {
    longest = std::max(longest, sequence.length());
  }
  return longest;
}

}  // namespace flyover::data
