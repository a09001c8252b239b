// The state of DeepSeek-V4's generation: in each layer a ring of the window's keys, the compressed entries, and the raw
// projections of tokens that have not become entries yet.
#pragma once

#include <vector>

#include "models/deepseek_v4/config.h"
#include "nn/compressed_attention.h"

namespace flyover::models::deepseek_v4 {

class Cache final : public nn::Cache {
 public:
  /// `dtype`: of the activations.
  Cache(tensor::Stream& stream, const Config& config, const nn::CacheLimits& limits, tensor::DType dtype);

  const nn::CompressedLayerCache& layer(std::int64_t index) const { return layers_[static_cast<std::size_t>(index)]; }
  nn::CompressedCacheSizes sizes(nn::CompressionKind kind) const;

 private:
  std::int64_t window_;
  std::vector<nn::CompressedLayerCache> layers_;
};

}  // namespace flyover::models::deepseek_v4
