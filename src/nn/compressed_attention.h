// DeepSeek-V4's attention: a window of tokens and, beyond it, compressed entries; one key that is also the value,
// shared by all heads (DeepSeek-V4 report, section 2.3).
#pragma once

#include <optional>
#include <vector>

#include "nn/batch.h"
#include "nn/cache.h"
#include "nn/layers.h"
#include "ops/shared_attention.h"

namespace flyover::nn {

/// How a layer sees what lies before its window.
struct CompressionKind {
  std::int64_t ratio = 0;  ///< tokens per entry; 0 = there is only the window
  bool overlap = false;    ///< an entry also pools the window before its own
  std::int64_t roles() const { return overlap ? 2 : 1; }
  friend bool operator==(const CompressionKind&, const CompressionKind&) = default;
};

/// Where the tokens, raw rows and entries of generation lie in a layer's cache.
struct CompressedCacheSizes {
  std::int64_t ring = 0;     ///< rows of a sequence's window
  std::int64_t raw = 0;      ///< rows of its tokens that have not all become entries
  std::int64_t entries = 0;  ///< its entries
};

/// What all layers of one kind share in a batch.
struct CompressionTables {
  ops::SharedSpan span;
  std::int64_t longest_entries = 0;  ///< entries of the document that has most
  Tensor rows;                       ///< [new entries, roles * ratio] i32: rows of the raw projections
  ops::RopeAngles entry_angles;      ///< of the new entries: at their window's first position
  Tensor ring_rows;                  ///< generation: [tokens] i32, where each token's key goes,
  Tensor raw_rows;                   ///< ... where its raw projections go,
  Tensor entry_rows;                 ///< ... and [new entries] i32, where each new entry goes
};

/// Builds the tables; `sizes` = null in training. `limit`: entries that a query may attend to (for the cost).
CompressionTables compression_tables(tensor::Stream& stream, const TokenBatch& batch, CompressionKind kind,
                                     std::int64_t window, std::int64_t limit,
                                     const std::vector<float>& inverse_frequencies, tensor::DType compute,
                                     const CompressedCacheSizes* sizes);

/// What a compressor keeps of each sequence in generation.
struct CompressorCache {
  Tensor values, gates;  ///< [slots * raw, roles * width] f32
  Tensor entries;        ///< [slots * entries, width]
};

/// The caches of one layer; undefined tensors where it has no such part.
struct CompressedLayerCache {
  Tensor keys;  ///< [slots * ring, head_dim]
  CompressorCache main, indexer;
};

/// Pools windows of tokens: entries = rotate(norm(pool(wkv x, wgate x + position_bias))).
struct Compressor {
  ParameterId values, gates;  ///< [roles * width, hidden]
  ParameterId position_bias;  ///< [ratio, roles * width] f32
  RmsNorm norm;
  std::int64_t width = 0;
  std::int64_t rotated = 0;  ///< the last dimensions
  bool fp4 = false;          ///< entries are transformed (Hadamard) and rounded to FP4

  /// In training the entries of the batch, with a cache all entries of the cache.
  Variable operator()(Tape& tape, const Variable& x, const CompressionTables& tables,
                      const CompressorCache* cache) const;
};

/// Chooses entries for each query, and learns it from the attention itself. Where its compressor says FP4, its queries
/// are transformed and rounded too: what the models do that were trained for FP4.
struct Indexer {
  Linear query;         ///< [heads * width, query rank]
  ParameterId weights;  ///< [heads, hidden]
  Compressor compressor;
  std::int64_t heads = 0;
  std::int64_t limit = 0;  ///< entries chosen for each query
};

struct CompressedAttention {
  Linear query_down, query_up;
  RmsNorm query_norm;
  Linear key;
  RmsNorm key_norm;
  ParameterId sink;         ///< [heads] f32
  ParameterId output_down;  ///< [groups * rank, heads / groups * head_dim]
  Linear output_up;
  CompressionKind kind;
  std::optional<Compressor> compressor;
  std::optional<Indexer> indexer;
  std::int64_t heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t rotated = 0;
  std::int64_t groups = 0;
  float epsilon = 0.0f;

  Variable operator()(Tape& tape, const Variable& x, const TokenBatch& batch, const ops::RopeAngles& angles,
                      const CompressionTables& tables, const CompressedLayerCache* cache) const;

 private:
  std::optional<ops::Selection> select(Tape& tape, const ops::IndexerInputs& inputs, const CompressionTables& tables,
                                       bool learns) const;
};

}  // namespace flyover::nn
