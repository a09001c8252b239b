#include "nn/cache.h"

#include "base/error.h"

namespace flyover::nn {

KeyValueCache::KeyValueCache(tensor::Stream& stream, std::int64_t layers, std::int64_t slots, std::int64_t capacity,
                             std::int64_t width, tensor::DType dtype)
    : slots_(slots), capacity_(capacity) {
  base::check(slots * capacity <= INT32_MAX, "a cache of {} x {} rows", slots, capacity);
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    keys_.push_back(stream.empty({slots * capacity, width}, dtype, tensor::MemoryKind::kCache));
    values_.push_back(stream.empty({slots * capacity, width}, dtype, tensor::MemoryKind::kCache));
  }
}

ops::LayerCache KeyValueCache::layer(std::int64_t index, const Tensor& rows) const {
  const auto i = static_cast<std::size_t>(index);
  return {keys_[i], values_[i], rows};
}

CachedBatch upload(tensor::Stream& stream, const std::vector<CachedSequence>& sequences, const KeyValueCache& cache) {
  std::vector<std::int32_t> tokens, positions, table, cache_rows, last_rows;
  std::int64_t pairs = 0;
  for (const CachedSequence& sequence : sequences) {
    const auto count = static_cast<std::int64_t>(sequence.new_tokens.size());
    base::check(count > 0 && sequence.slot < cache.slots() && sequence.cached + count <= cache.capacity(),
                "slot {} of {}: {} + {} tokens in a cache for {}", sequence.slot, cache.slots(), sequence.cached, count,
                cache.capacity());
    const std::int64_t first_row = sequence.slot * cache.capacity();
    table.insert(table.end(),
                 {static_cast<std::int32_t>(tokens.size()), static_cast<std::int32_t>(count),
                  static_cast<std::int32_t>(first_row), static_cast<std::int32_t>(sequence.cached + count)});
    for (std::int64_t i = 0; i < count; ++i) {
      positions.push_back(static_cast<std::int32_t>(sequence.cached + i));
      cache_rows.push_back(static_cast<std::int32_t>(first_row + sequence.cached + i));
      pairs += sequence.cached + i + 1;
    }
    tokens.insert(tokens.end(), sequence.new_tokens.begin(), sequence.new_tokens.end());
    last_rows.push_back(static_cast<std::int32_t>(tokens.size()) - 1);
  }
  const auto count = static_cast<std::int64_t>(tokens.size());
  const auto documents = static_cast<std::int64_t>(sequences.size());
  CachedBatch result;
  result.batch.tokens = stream.upload(tokens, {count});
  result.batch.positions = stream.upload(positions, {count});
  result.batch.span.sequences = stream.upload(table, {documents, kernels::kSequenceColumns});
  result.batch.span.visible_pairs = pairs;
  result.cache_rows = stream.upload(cache_rows, {count});
  result.last_rows = stream.upload(last_rows, {documents});
  return result;
}

}  // namespace flyover::nn
