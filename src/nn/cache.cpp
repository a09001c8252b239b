#include "nn/cache.h"

#include "base/error.h"

namespace flyover::nn {

KeyValueCache::KeyValueCache(tensor::Stream& stream, std::int64_t layers, const CacheLimits& limits,
                             std::int64_t key_width, std::int64_t value_width, tensor::DType dtype)
    : Cache(limits) {
  const std::int64_t slots = limits.slots, capacity = limits.capacity;
  base::check(slots * capacity <= INT32_MAX, "a cache of {} x {} rows", slots, capacity);
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    keys_.push_back(stream.empty({slots * capacity, key_width}, dtype, tensor::MemoryKind::kCache));
    values_.push_back(stream.empty({slots * capacity, value_width}, dtype, tensor::MemoryKind::kCache));
  }
}

KeyValueCache::Entry KeyValueCache::enter(tensor::Stream& stream, const TokenBatch& batch) const {
  std::vector<std::int32_t> rows, table;
  Entry entry;
  for (const DocumentRows& document : batch.documents) {
    const std::int64_t first_row = document.slot * limits().capacity;
    table.insert(table.end(),
                 {static_cast<std::int32_t>(document.first), static_cast<std::int32_t>(document.tokens),
                  static_cast<std::int32_t>(first_row), static_cast<std::int32_t>(document.cached + document.tokens)});
    for (std::int64_t i = 0; i < document.tokens; ++i) {
      rows.push_back(static_cast<std::int32_t>(first_row + document.cached + i));
      entry.span.visible_pairs += document.cached + i + 1;
    }
  }
  entry.rows = stream.upload(rows, {batch.count()});
  entry.span.sequences =
      stream.upload(table, {static_cast<std::int64_t>(batch.documents.size()), kernels::kSequenceColumns});
  return entry;
}

ops::LayerCache KeyValueCache::layer(std::int64_t index, const Entry& entry) const {
  const auto i = static_cast<std::size_t>(index);
  return {keys_[i], values_[i], entry.rows};
}

CachedBatch upload(tensor::Stream& stream, const std::vector<CachedSequence>& sequences, const Cache& cache) {
  std::vector<std::int32_t> tokens, positions, last_rows;
  const CacheLimits& limits = cache.limits();
  CachedBatch result;
  for (const CachedSequence& sequence : sequences) {
    const auto count = static_cast<std::int64_t>(sequence.new_tokens.size());
    base::check(count > 0 && count <= limits.batch_tokens && sequence.slot < limits.slots &&
                    sequence.cached + count <= limits.capacity,
                "slot {} of {}: {} + {} tokens in a cache for {}, {} at once", sequence.slot, limits.slots,
                sequence.cached, count, limits.capacity, limits.batch_tokens);
    result.batch.documents.push_back({static_cast<std::int64_t>(tokens.size()), count, sequence.cached, sequence.slot});
    for (std::int64_t i = 0; i < count; ++i) {
      positions.push_back(static_cast<std::int32_t>(sequence.cached + i));
    }
    tokens.insert(tokens.end(), sequence.new_tokens.begin(), sequence.new_tokens.end());
    last_rows.push_back(static_cast<std::int32_t>(tokens.size()) - 1);
  }
  const auto count = static_cast<std::int64_t>(tokens.size());
  result.batch.tokens = stream.upload(tokens, {count});
  result.batch.positions = stream.upload(positions, {count});
  result.last_rows = stream.upload(last_rows, {static_cast<std::int64_t>(sequences.size())});
  return result;
}

}  // namespace flyover::nn
