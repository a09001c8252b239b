#include "models/deepseek_v4/cache.h"

#include <algorithm>

#include "base/error.h"

namespace flyover::models::deepseek_v4 {
namespace {

using tensor::DType;

std::int64_t round_up(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

nn::CompressedCacheSizes Cache::sizes(nn::CompressionKind kind) const {
  // Any number of new tokens may come in one pass, up to the capacity: a ring then holds all of them and the window
  // before them. Sequences that are entered in small pieces would do with less.
  nn::CompressedCacheSizes sizes;
  sizes.ring = round_up(capacity() + window_, kernels::kSharedKeyTile);
  if (kind.ratio > 0) {
    sizes.raw = capacity() + 2 * kind.ratio;
    sizes.entries = capacity() / kind.ratio;
  }
  return sizes;
}

Cache::Cache(tensor::Stream& stream, const Config& config, std::int64_t slots, std::int64_t capacity, DType dtype)
    : nn::Cache(slots, capacity), window_(config.sliding_window) {
  const DType exact = kernels::statistics_dtype(dtype);
  const auto rows = [&](std::int64_t count, std::int64_t width, DType type) {
    base::check(slots * count <= INT32_MAX, "a cache of {} x {} rows", slots, count);
    return stream.empty({slots * count, width}, type, tensor::MemoryKind::kCache);
  };
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const nn::CompressionKind kind = config.compression[static_cast<std::size_t>(layer)];
    const nn::CompressedCacheSizes size = sizes(kind);
    nn::CompressedLayerCache cache;
    cache.keys = rows(size.ring, config.head_dim, dtype);
    const auto compressor = [&](std::int64_t width) {
      return nn::CompressorCache{rows(size.raw, kind.roles() * width, exact),
                                 rows(size.raw, kind.roles() * width, exact), rows(size.entries, width, dtype)};
    };
    if (kind.ratio > 0) {
      cache.main = compressor(config.head_dim);
    }
    if (kind.overlap) {
      cache.indexer = compressor(config.index_head_dim);
    }
    layers_.push_back(std::move(cache));
  }
}

}  // namespace flyover::models::deepseek_v4
