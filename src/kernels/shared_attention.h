// Attention with one key-value head shared by all query heads, where key and value are the same vector: a sliding
// window of tokens, and compressed entries that stand for what lies before (DeepSeek-V4 report, section 2.3).
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

/// Columns of the `sequences` table of these kernels. A document's queries are its last kQueries of kKeys tokens: query
/// i stands at position kKeys - kQueries + i.
enum SharedColumn : int {
  kSharedFirstQuery = 0,
  kSharedQueries = 1,
  kSharedFirstKey = 2,    ///< row of `keys` where position 0 of the document (or of its ring) lies
  kSharedKeys = 3,        ///< tokens of the document so far
  kSharedFirstEntry = 4,  ///< row of `entries` of the document's entry 0
  kSharedColumns = 5
};

/// Which keys a query at position p of its document sees.
struct SharedVisibility {
  std::int64_t window = 0;  ///< tokens max(0, p - window + 1) .. p
  /// Tokens per compressed entry: entries 0 .. (p + 1) / ratio - 1 may be seen, those in `selected` or, without it,
  /// all. 0 = there are no entries.
  std::int64_t ratio = 0;
  /// Rows of the ring in which a document's window lies: position p is in row kSharedFirstKey + p mod ring. 0 = no
  /// ring: row kSharedFirstKey + p. A ring is a multiple of kSharedKeyTile and holds at least window + kSharedQueries -
  /// 1 tokens.
  std::int64_t ring = 0;
};

/// Tokens are visited in tiles of this many counted from the document's position 0, entries in tiles of this many
/// counted from its entry 0 (with `selected`: from the beginning of the query's list).
inline constexpr std::int64_t kSharedKeyTile = 64;

/// With key_j the visible rows of `entries` and `keys`, and softmax's denominator including the sink:
///   p_j = exp(scale q . key_j) / (sum over j of exp(scale q . key_j) + exp(sink)),   y = sum over j of p_j key_j.
/// The largest exponent, sink included, is taken out first. Entries come first, then tokens. Contract: as
/// AttentionForward's: the row of a query depends on its q and its visible keys alone, bit for bit, and a list that
/// names all visible entries gives the bits of no list.
struct SharedAttentionForward {
  static constexpr std::string_view kName = "shared_attention_forward";
  ConstView q;                        ///< [queries, heads, head_dim] bf16 | f32 (f64); last axis dense
  ConstView keys;                     ///< [key rows, head_dim] as q; last axis dense
  std::optional<ConstView> entries;   ///< [entry rows, head_dim] as q; last axis dense; present where ratio > 0
  std::optional<ConstView> selected;  ///< [queries, limit] i32: entries, counted from the document's first, rising, all
                                      ///< visible; -1 after the last
  std::optional<ConstView> sink;      ///< [heads] f32 (f64)
  ConstView sequences;                ///< [documents, 5] i32; rows of q in no document are left untouched in y
  View y;                             ///< [queries, heads, head_dim] as q
  View log_sum_exp;                   ///< [queries, heads] f32 (f64): log of the denominator
  SharedVisibility visibility;
  float scale = 1.0f;
  std::int64_t visible_pairs = 0;  ///< host-known number of (query, visible key) pairs, for the cost
  static constexpr auto fields = [](auto&& visit) {
    visit(in("q", &SharedAttentionForward::q), in("keys", &SharedAttentionForward::keys),
          in("entries", &SharedAttentionForward::entries), in("selected", &SharedAttentionForward::selected),
          in("sink", &SharedAttentionForward::sink), in("sequences", &SharedAttentionForward::sequences),
          out("y", &SharedAttentionForward::y), out("log_sum_exp", &SharedAttentionForward::log_sum_exp),
          scalar("visibility", &SharedAttentionForward::visibility), scalar("scale", &SharedAttentionForward::scale),
          scalar("visible_pairs", &SharedAttentionForward::visible_pairs));
  };
  void check() const;
  Cost cost() const;
};

/// Gradients where queries and tokens are the same rows and there is no ring. With delta = dy . y:
/// ds = p (dy . key - delta); dq = scale sum of ds key; dkey_j = sum over queries and heads of (scale ds q + p dy);
/// dsink += - sum of exp(sink - log_sum_exp) delta. Sums over queries are taken in an order fixed by the document
/// alone.
struct SharedAttentionBackward {
  static constexpr std::string_view kName = "shared_attention_backward";
  ConstView q;                        ///< [tokens, heads, head_dim] bf16 | f32 (f64)
  ConstView keys;                     ///< [tokens, head_dim]
  std::optional<ConstView> entries;   ///< [entry rows, head_dim]
  std::optional<ConstView> selected;  ///< [tokens, limit] i32
  std::optional<ConstView> sink;      ///< [heads] f32 (f64)
  ConstView y;                        ///< [tokens, heads, head_dim], from the forward pass
  ConstView log_sum_exp;              ///< [tokens, heads] f32 (f64)
  ConstView dy;                       ///< [tokens, heads, head_dim]
  ConstView sequences;                ///< [documents, 5] i32 with kSharedFirstQuery == kSharedFirstKey and
                                      ///< kSharedQueries == kSharedKeys
  View dq;                       ///< [tokens, heads, head_dim]; rows in no document are left untouched, as in dkeys
  View dkeys;                    ///< [tokens, head_dim]
  std::optional<View> dentries;  ///< [entry rows, head_dim], overwritten: 0 for entries that nobody sees
  std::optional<View> dsink;     ///< [heads] f32 (f64), added to
  SharedVisibility visibility;
  float scale = 1.0f;
  std::int64_t visible_pairs = 0;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("q", &SharedAttentionBackward::q), in("keys", &SharedAttentionBackward::keys),
          in("entries", &SharedAttentionBackward::entries), in("selected", &SharedAttentionBackward::selected),
          in("sink", &SharedAttentionBackward::sink), in("y", &SharedAttentionBackward::y),
          in("log_sum_exp", &SharedAttentionBackward::log_sum_exp), in("dy", &SharedAttentionBackward::dy),
          in("sequences", &SharedAttentionBackward::sequences), out("dq", &SharedAttentionBackward::dq),
          out("dkeys", &SharedAttentionBackward::dkeys), out("dentries", &SharedAttentionBackward::dentries),
          in_out("dsink", &SharedAttentionBackward::dsink), scalar("visibility", &SharedAttentionBackward::visibility),
          scalar("scale", &SharedAttentionBackward::scale),
          scalar("visible_pairs", &SharedAttentionBackward::visible_pairs));
  };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
