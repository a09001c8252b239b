// Multi-head latent attention (DeepSeek-AI, "DeepSeek-V2", 2024, section 2.1).
#pragma once

#include <optional>

#include "nn/layers.h"
#include "ops/latent_attention.h"

namespace flyover::nn {

/// Queries, keys and values are expanded from short vectors; the part of queries and keys that knows positions is
/// rotated apart, and its keys are shared by all heads.
struct LatentAttention {
  std::optional<Linear> query_down;   ///< [query rank, hidden]; absent: queries come straight from the hidden state
  std::optional<RmsNorm> query_norm;  ///< of the query rank
  Linear query_up;                    ///< [heads * head_dim, query rank or hidden]
  Linear key_value_down;              ///< [rank + shared_dim, hidden]
  RmsNorm key_value_norm;             ///< of the rank
  Linear key_value_up;                ///< [heads * (own_dim + value_dim), rank]
  Linear output;                      ///< [hidden, heads * value_dim]
  ops::LatentLayout layout;
  std::int64_t rank = 0;
  kernels::RopePairing pairing = kernels::RopePairing::kInterleaved;
  float scale = 1.0f;  ///< of the softmax

  Variable operator()(Tape& tape, const Variable& x, const ops::RopeAngles& angles, const ops::AttentionSpan& span,
                      const ops::LayerCache* cache) const;
};

}  // namespace flyover::nn
