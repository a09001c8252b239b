// The key-value cache of generation.
#pragma once

#include <vector>

#include "nn/batch.h"

namespace flyover::nn {

/// Keys and values of all layers for a fixed number of sequences of at most `capacity` tokens each. Sequence `slot`
/// owns the rows [slot * capacity, (slot + 1) * capacity) of every layer.
class KeyValueCache {
 public:
  KeyValueCache(tensor::Stream& stream, std::int64_t layers, std::int64_t slots, std::int64_t capacity,
                std::int64_t width, tensor::DType dtype);

  std::int64_t capacity() const { return capacity_; }
  std::int64_t slots() const { return slots_; }
  /// The cache of one layer for a batch whose tokens go to `rows` ([tokens] i32).
  ops::LayerCache layer(std::int64_t index, const Tensor& rows) const;

 private:
  std::vector<Tensor> keys_;
  std::vector<Tensor> values_;
  std::int64_t slots_;
  std::int64_t capacity_;
};

/// New tokens of one sequence of a generation batch.
struct CachedSequence {
  std::int64_t slot = 0;
  std::int64_t cached = 0;               ///< tokens that are in the cache already
  std::vector<std::int32_t> new_tokens;  ///< at least one
};

/// A batch for generation: the tokens of all sequences in a row, and the cache rows that they go to.
struct CachedBatch {
  TokenBatch batch;
  Tensor cache_rows;  ///< [tokens] i32
  Tensor last_rows;   ///< [sequences] i32: the last new token of each sequence
};

/// Uploads a generation batch. Throws InternalError where a sequence exceeds the cache's capacity.
CachedBatch upload(tensor::Stream& stream, const std::vector<CachedSequence>& sequences, const KeyValueCache& cache);

}  // namespace flyover::nn
