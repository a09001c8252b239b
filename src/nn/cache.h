// What generation keeps between forward passes.
#pragma once

#include <vector>

#include "nn/batch.h"

namespace flyover::nn {

/// What a cache must have room for.
struct CacheLimits {
  std::int64_t slots = 0;         ///< sequences
  std::int64_t capacity = 0;      ///< tokens of a sequence
  std::int64_t batch_tokens = 0;  ///< new tokens of a sequence in one forward pass
};

/// The state of a fixed number of sequences ("slots"). What is in it is known to the model that made it
/// (LanguageModel::make_cache), which alone reads and writes it.
class Cache {
 public:
  explicit Cache(const CacheLimits& limits) : limits_(limits) {}
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;
  virtual ~Cache() = default;

  const CacheLimits& limits() const { return limits_; }

 private:
  CacheLimits limits_;
};

/// Keys and values of every token in every layer. Sequence `slot` owns the rows [slot * capacity, (slot + 1) *
/// capacity) of every layer.
class KeyValueCache final : public Cache {
 public:
  /// `key_width` and `value_width`: elements of a token's keys and values in a layer.
  KeyValueCache(tensor::Stream& stream, std::int64_t layers, const CacheLimits& limits, std::int64_t key_width,
                std::int64_t value_width, tensor::DType dtype);

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

/// Uploads a generation batch. Throws InternalError where a sequence exceeds the cache's limits.
CachedBatch upload(tensor::Stream& stream, const std::vector<CachedSequence>& sequences, const Cache& cache);

}  // namespace flyover::nn
