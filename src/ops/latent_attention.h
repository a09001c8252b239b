// Causal attention whose keys and values were expanded from a latent vector (DeepSeek-AI, "DeepSeek-V2", 2024, section
// 2.1).
#pragma once

#include "ops/attention.h"

namespace flyover::ops {

/// How the heads are cut. A key has a part of its head's own and a rotated part that all heads share.
struct LatentLayout {
  std::int64_t heads = 0;
  std::int64_t own_dim = 0;     ///< of queries and keys, first
  std::int64_t shared_dim = 0;  ///< of queries and keys, behind it
  std::int64_t value_dim = 0;
  std::int64_t head_dim() const { return own_dim + shared_dim; }
};

/// y[t, h] = attention of q[t, h] to the keys (own part of expanded[j, h], shared[j]) and the values in expanded[j, h].
/// q: [tokens, heads * head_dim], expanded: [tokens, heads * (own_dim + value_dim)], the key's part first, shared:
/// [tokens, shared_dim], rotated; result: [tokens, heads * value_dim]. The joined keys are made again in the backward
/// pass. A cache holds them, [cache rows, heads * head_dim], and the values, [cache rows, heads * value_dim].
autograd::Variable latent_attention(autograd::Tape& tape, const autograd::Variable& q,
                                    const autograd::Variable& expanded, const autograd::Variable& shared,
                                    const LatentLayout& layout, float scale, const AttentionSpan& span,
                                    const LayerCache* cache);

}  // namespace flyover::ops
