// What generation keeps between forward passes.
#pragma once

#include <vector>

#include "nn/batch.h"

namespace flyover::nn {

/// The state of a fixed number of sequences ("slots") of at most `capacity` tokens each. What is in it is known to the
/// model that made it (LanguageModel::make_cache), which alone reads and writes it.
class Cache {
 public:
  Cache(std::int64_t slots, std::int64_t capacity) : slots_(slots), capacity_(capacity) {}
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;
  virtual ~Cache() = default;

  std::int64_t slots() const { return slots_; }
  std::int64_t capacity() const { return capacity_; }

 private:
  std::int64_t slots_;
  std::int64_t capacity_;
};

/// Keys and values of every token in every layer. Sequence `slot` owns the rows [slot * capacity, (slot + 1) *
/// capacity) of every layer.
class KeyValueCache final : public Cache {
 public:
  /// `key_width` and `value_width`: elements of a token's keys and values in a layer.
  KeyValueCache(tensor::Stream& stream, std::int64_t layers, std::int64_t slots, std::int64_t capacity,
                std::int64_t key_width, std::int64_t value_width, tensor::DType dtype);

  /// Where a batch's tokens go and what they see, the same in all layers.
  struct Entry {
    Tensor rows;  ///< [tokens] i32
    ops::AttentionSpan span;
  };
  Entry enter(tensor::Stream& stream, const TokenBatch& batch) const;
  ops::LayerCache layer(std::int64_t index, const Entry& entry) const;

 private:
  std::vector<Tensor> keys_;
  std::vector<Tensor> values_;
};

/// New tokens of one sequence of a generation batch.
struct CachedSequence {
  std::int64_t slot = 0;
  std::int64_t cached = 0;               ///< tokens that are in the cache already
  std::vector<std::int32_t> new_tokens;  ///< at least one
};

/// A batch for generation: the tokens of all sequences in a row.
struct CachedBatch {
  TokenBatch batch;  ///< without a span: that is the cache's
  Tensor last_rows;  ///< [sequences] i32: the last new token of each sequence
};

/// Uploads a generation batch. Throws InternalError where a sequence exceeds the cache's capacity.
CachedBatch upload(tensor::Stream& stream, const std::vector<CachedSequence>& sequences, const Cache& cache);

}  // namespace flyover::nn
