#include "tokenizer/merge_table.h"

#include <bit>

#include "base/error.h"

namespace flyover::tokenizer {

MergeTable::MergeTable(std::size_t expected_merges)
    : slots_(std::bit_ceil(2 * expected_merges + 2), Slot{kEmpty, kNoMerge}), mask_(slots_.size() - 1) {
  merged_.reserve(expected_merges);
}

void MergeTable::add(std::int32_t left, std::int32_t right, std::int32_t merged) {
  base::check(merged_.size() * 2 < slots_.size(), "more merges than the table was made for");
  const std::uint64_t key = pair_key(left, right);
  std::size_t slot = slot_of(key);
  while (slots_[slot].key != kEmpty && slots_[slot].key != key) {
    slot = (slot + 1) & mask_;
  }
  slots_[slot] = {key, static_cast<std::uint32_t>(merged_.size())};
  merged_.push_back(merged);
}

}  // namespace flyover::tokenizer
