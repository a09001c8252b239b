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
  // All new tokens of a pass are entered before any is attended to: a ring holds them and the window before them, and
  // the raw rows are those of the new tokens and of the windows that the first of them may complete. A window that is
  // longer than the capacity sees no more than that.
  const std::int64_t new_tokens = std::min(limits().capacity, limits().batch_tokens);
  nn::CompressedCacheSizes sizes;
  sizes.ring = round_up(new_tokens + std::min(window_, limits().capacity), kernels::kSharedKeyTile);
  if (kind.ratio > 0) {
    sizes.raw = new_tokens + 2 * kind.ratio;
    sizes.entries = limits().capacity / kind.ratio;
  }
  return sizes;
}

Cache::Cache(tensor::Stream& stream, const Config& config, const nn::CacheLimits& limits, DType dtype)
    : nn::Cache(limits), window_(config.sliding_window) {
  const DType exact = kernels::statistics_dtype(dtype);
  const auto rows = [&](std::int64_t count, std::int64_t width, DType type) {
    base::check(limits.slots * count <= INT32_MAX, "a cache of {} x {} rows", limits.slots, count);
    return stream.empty({limits.slots * count, width}, type, tensor::MemoryKind::kCache);
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
