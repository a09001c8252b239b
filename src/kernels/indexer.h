// The Lightning indexer: which compressed entries a query attends to, and the loss that it learns from (DeepSeek-V3.2
// and V4 reports).
#pragma once

#include "kernels/shared_attention.h"

namespace flyover::kernels {

/// score(t, e) = sum over h of weights[t, h] * max(0, q[t, h] . k[e]) for the entries e < (p + 1) / ratio of the
/// query's document (p its position). selected[t] = the `limit` entries with the largest scores (equal ones: the lower
/// index first; a NaN is the smallest), in rising order of their index, -1 after the last. The order of the sums over
/// head and dimension is fixed by the sizes alone. Memory does not grow with queries times entries.
struct IndexerSelect {
  static constexpr std::string_view kName = "indexer_select";
  ConstView q;                 ///< [queries, heads, width] bf16 | f32 (f64); last axis dense
  ConstView k;                 ///< [entry rows, width] as q; last axis dense
  ConstView weights;           ///< [queries, heads] f32 (f64)
  ConstView sequences;         ///< [documents, 5] i32, see SharedColumn
  View selected;               ///< [queries, limit] i32; rows in no document become -1
  std::optional<View> scores;  ///< [queries, limit] f32 (f64): scores of the selected, 0 after the last
  std::int64_t ratio = 4;
  std::int64_t visible_pairs = 0;  ///< (query, visible entry) pairs, for the cost
  static constexpr auto fields = [](auto&& visit) {
    visit(in("q", &IndexerSelect::q), in("k", &IndexerSelect::k), in("weights", &IndexerSelect::weights),
          in("sequences", &IndexerSelect::sequences), out("selected", &IndexerSelect::selected),
          out("scores", &IndexerSelect::scores), scalar("ratio", &IndexerSelect::ratio),
          scalar("visible_pairs", &IndexerSelect::visible_pairs));
  };
  void check() const;
  Cost cost() const;
};

/// What the indexer should learn: target[t, i] = sum over the heads of exp(scale q . entry - log_sum_exp) for the i-th
/// selected entry, divided by the sum over the selected entries; 0 in a row whose sum is 0 and after the last. (The
/// probabilities of the real joint softmax: tokens of the window and the sink are in log_sum_exp.) Lists as in
/// SharedAttentionForward; rows in no document become 0.
struct IndexerTarget {
  static constexpr std::string_view kName = "indexer_target";
  ConstView q;            ///< [tokens, heads, head_dim] bf16 | f32 (f64): the attention's queries
  ConstView entries;      ///< [entry rows, head_dim] as q
  ConstView log_sum_exp;  ///< [tokens, heads] f32 (f64), of SharedAttentionForward
  ConstView selected;     ///< [tokens, limit] i32
  ConstView sequences;    ///< [documents, 5] i32
  View target;            ///< [tokens, limit] as log_sum_exp
  float scale = 1.0f;
  std::int64_t ratio = 4;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("q", &IndexerTarget::q), in("entries", &IndexerTarget::entries),
          in("log_sum_exp", &IndexerTarget::log_sum_exp), in("selected", &IndexerTarget::selected),
          in("sequences", &IndexerTarget::sequences), out("target", &IndexerTarget::target),
          scalar("scale", &IndexerTarget::scale), scalar("ratio", &IndexerTarget::ratio));
  };
  void check() const;
  Cost cost() const;
};

/// loss += coefficient * sum over t of token_weights[t] * KL(target_t || softmax of the selected scores), and its
/// gradients. With dI = coefficient * token_weights[t] * (softmax - target) per selected entry (0 in rows whose target
/// is 0): dweights_h = sum of relu(q_h . k) dI; dq_h = sum of [q_h . k > 0] weights_h dI k; dk = the same with q_h.
struct IndexerLoss {
  static constexpr std::string_view kName = "indexer_loss";
  ConstView q;              ///< [tokens, heads, width] bf16 | f32 (f64)
  ConstView k;              ///< [entry rows, width] as q
  ConstView weights;        ///< [tokens, heads] f32 (f64)
  ConstView selected;       ///< [tokens, limit] i32
  ConstView scores;         ///< [tokens, limit] f32 (f64), of IndexerSelect
  ConstView target;         ///< [tokens, limit] as scores, of IndexerTarget
  ConstView token_weights;  ///< [tokens] as scores
  ConstView sequences;      ///< [documents, 5] i32
  View loss;                ///< [1] as scores, added to
  View dq;                  ///< [tokens, heads, width] as q, overwritten: 0 in rows that are in no document
  View dk;                  ///< [entry rows, width] as q, overwritten: 0 for entries that nobody selected
  View dweights;            ///< [tokens, heads] as weights, overwritten as dq
  float coefficient = 1.0f;
  std::int64_t ratio = 4;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("q", &IndexerLoss::q), in("k", &IndexerLoss::k), in("weights", &IndexerLoss::weights),
          in("selected", &IndexerLoss::selected), in("scores", &IndexerLoss::scores),
          in("target", &IndexerLoss::target), in("token_weights", &IndexerLoss::token_weights),
          in("sequences", &IndexerLoss::sequences), in_out("loss", &IndexerLoss::loss), out("dq", &IndexerLoss::dq),
          out("dk", &IndexerLoss::dk), out("dweights", &IndexerLoss::dweights),
          scalar("coefficient", &IndexerLoss::coefficient), scalar("ratio", &IndexerLoss::ratio));
  };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
