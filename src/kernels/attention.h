// Causal softmax attention over packed documents and over key-value caches.
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

/// Columns of the `sequences` table.
enum SequenceColumn : int { kFirstQuery = 0, kQueries = 1, kFirstKey = 2, kKeys = 3, kSequenceColumns = 4 };

/// Keys are visited in tiles of this many, counted from the document's first key.
inline constexpr std::int64_t kAttentionKeyTile = 64;

/// y[t, h] = sum over visible keys j of softmax_j(scale * q[t, h] . k[j, g]) * v[j, g], with g = h / (heads /
/// kv_heads). Values may be wider or narrower than queries and keys.
///
/// `sequences` cuts the rows of q and k into documents: queries kFirstQuery .. + kQueries see keys kFirstKey .. + kKeys
/// of their own document; the last query is aligned with the last key, and query i sees the keys up to its own position
/// (kKeys - kQueries + i). In training a document's queries and keys are the same tokens; in generation the keys lie in
/// a cache. Contract: the row of a query depends on its own q and its visible keys alone, bit for bit: key tiles are
/// counted from the document's first key, whatever the other queries. Memory behind the last key is never used, even
/// where it holds NaN.
struct AttentionForward {
  static constexpr std::string_view kName = "attention_forward";
  ConstView q;          ///< [queries, heads, head_dim] bf16 | f32; last axis dense
  ConstView k;          ///< [keys, kv_heads, head_dim] as q
  ConstView v;          ///< [keys, kv_heads, value_dim] as q
  ConstView sequences;  ///< [documents, 4] i32; rows of q in no document are left untouched in y
  View y;               ///< [queries, heads, value_dim] as q
  View log_sum_exp;     ///< [queries, heads] f32: log of the softmax denominator
  float scale = 1.0f;
  std::int64_t visible_pairs = 0;  ///< host-known number of (query, visible key) pairs, for the cost
  static constexpr auto fields = [](auto&& visit) {
    visit(in("q", &AttentionForward::q), in("k", &AttentionForward::k), in("v", &AttentionForward::v),
          in("sequences", &AttentionForward::sequences), out("y", &AttentionForward::y),
          out("log_sum_exp", &AttentionForward::log_sum_exp), scalar("scale", &AttentionForward::scale),
          scalar("visible_pairs", &AttentionForward::visible_pairs));
  };
  void check() const;
  Cost cost() const;
};

/// Gradients of AttentionForward where queries and keys are the same tokens. With p the softmax and
/// delta = sum_d dy * y: ds = p * (dy . v - delta); dq = scale * ds k; dk = scale * ds' q; dv = p' dy, summed over the
/// query heads of a group in an order fixed by the document alone (Dao, "FlashAttention-2", 2023, algorithm 2).
struct AttentionBackward {
  static constexpr std::string_view kName = "attention_backward";
  ConstView q;            ///< [tokens, heads, head_dim] bf16 | f32
  ConstView k;            ///< [tokens, kv_heads, head_dim]
  ConstView v;            ///< [tokens, kv_heads, value_dim]
  ConstView y;            ///< [tokens, heads, value_dim], from the forward pass
  ConstView log_sum_exp;  ///< [tokens, heads] f32
  ConstView dy;           ///< [tokens, heads, value_dim]
  ConstView sequences;    ///< [documents, 4] i32 with kFirstQuery == kFirstKey and kQueries == kKeys
  View dq;                ///< [tokens, heads, head_dim]; rows in no document are left untouched in dq, dk and dv
  View dk;                ///< [tokens, kv_heads, head_dim]
  View dv;                ///< [tokens, kv_heads, value_dim]
  float scale = 1.0f;
  std::int64_t visible_pairs = 0;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("q", &AttentionBackward::q), in("k", &AttentionBackward::k), in("v", &AttentionBackward::v),
          in("y", &AttentionBackward::y), in("log_sum_exp", &AttentionBackward::log_sum_exp),
          in("dy", &AttentionBackward::dy), in("sequences", &AttentionBackward::sequences),
          out("dq", &AttentionBackward::dq), out("dk", &AttentionBackward::dk), out("dv", &AttentionBackward::dv),
          scalar("scale", &AttentionBackward::scale), scalar("visible_pairs", &AttentionBackward::visible_pairs));
  };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
