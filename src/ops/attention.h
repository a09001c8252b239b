// Rotary embedding and causal attention on a fused query-key-value tensor.
#pragma once

#include "autograd/tape.h"

namespace flyover::ops {

/// Cosines and sines of the rotary angles of a batch, [tokens, pairs] each.
struct RopeAngles {
  autograd::Tensor cosine;
  autograd::Tensor sine;
};

/// How the last axis of a fused query-key-value tensor is cut: [heads | kv_heads | kv_heads] times head_dim.
struct HeadLayout {
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
};

/// Rotates the query and key heads of qkv, in place: the caller must not use `qkv` afterwards.
/// qkv: [tokens, (heads + 2 * kv_heads) * head_dim].
autograd::Variable rope(autograd::Tape& tape, const autograd::Variable& qkv, const HeadLayout& layout,
                        const RopeAngles& angles, kernels::RopePairing pairing);

/// Which dimensions of each head are rotated, and how.
struct Rotation {
  std::int64_t head_dim = 0;
  std::int64_t first_dimension = 0;  ///< of each head; the angles say how many dimensions follow
  kernels::RopePairing pairing = kernels::RopePairing::kHalves;
  bool inverse = false;
};

/// Rotates every head of x, [tokens, heads * head_dim], in place: the caller must not use `x` afterwards.
autograd::Variable rotate(autograd::Tape& tape, const autograd::Variable& x, const RopeAngles& angles,
                          const Rotation& rotation);

/// The same into a new tensor: for an output whose producer still needs it.
autograd::Variable rotate_copy(autograd::Tape& tape, const autograd::Variable& x, const RopeAngles& angles,
                               const Rotation& rotation);

/// Keys and values of one layer in a cache, [cache rows, kv_heads * head_dim] each, and where this batch's tokens go.
struct LayerCache {
  autograd::Tensor keys;
  autograd::Tensor values;
  autograd::Tensor rows;  ///< [tokens] i32
};

/// Which tokens see which (kernels::AttentionForward::sequences), on the device, and how many pairs that makes.
struct AttentionSpan {
  autograd::Tensor sequences;  ///< [documents, 4] i32
  std::int64_t visible_pairs = 0;
};

/// Causal softmax attention; result: [tokens, heads * head_dim]. With a cache the keys and values of this batch are
/// first written to it and the sequences' key rows are rows of the cache; there is no backward pass then.
autograd::Variable attention(autograd::Tape& tape, const autograd::Variable& qkv, const HeadLayout& layout,
                             const AttentionSpan& span, const LayerCache* cache);

/// The same with separate tensors: q: [tokens, heads * head_dim], k and v: [tokens, kv_heads * head_dim]; `scale` is
/// the softmax's.
autograd::Variable attention(autograd::Tape& tape, const autograd::Variable& q, const autograd::Variable& k,
                             const autograd::Variable& v, const HeadLayout& layout, float scale,
                             const AttentionSpan& span, const LayerCache* cache);

}  // namespace flyover::ops
