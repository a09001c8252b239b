// Attention whose keys are also its values, shared by all heads (kernels/shared_attention.h), and the indexer that
// chooses among compressed entries (kernels/indexer.h).
#pragma once

#include <optional>

#include "autograd/tape.h"

namespace flyover::ops {

/// Which rows belong together and which keys a query sees.
struct SharedSpan {
  autograd::Tensor sequences;  ///< [documents, 5] i32, see kernels::SharedColumn
  kernels::SharedVisibility visibility;
  std::int64_t window_pairs = 0;  ///< (query, visible token) pairs
  std::int64_t entry_pairs = 0;   ///< (query, visible entry) pairs
};

/// Where keys and entries of generation lie; in training they are the variables themselves.
struct SharedKeys {
  autograd::Variable keys;                    ///< [tokens or cache rows, head_dim]
  std::optional<autograd::Variable> entries;  ///< [entries or cache rows, head_dim]
  autograd::Tensor selected;                  ///< [tokens, limit] i32; undefined = all visible entries
};

struct SharedAttention {
  autograd::Variable output;     ///< [tokens, heads * head_dim]
  autograd::Tensor log_sum_exp;  ///< [tokens, heads] f32
};

/// q: [tokens, heads * head_dim]; sink: [heads] f32.
SharedAttention shared_attention(autograd::Tape& tape, const autograd::Variable& q, const SharedKeys& keys,
                                 autograd::ParameterId sink, std::int64_t heads, const SharedSpan& span, float scale);

/// The indexer's queries, keys and weights; of what it learns from see indexer_loss.
struct IndexerInputs {
  autograd::Variable q;        ///< [tokens, heads * width]
  autograd::Variable k;        ///< [entries or cache rows, width]
  autograd::Variable weights;  ///< [tokens, heads] f32
  std::int64_t heads = 0;
};

/// What it chose: [tokens, limit] each.
struct Selection {
  autograd::Tensor selected;  ///< i32
  autograd::Tensor scores;    ///< f32
};
Selection select_entries(autograd::Tape& tape, const IndexerInputs& inputs, const SharedSpan& span, std::int64_t limit);

/// What the indexer's loss is measured against and where it goes.
struct IndexerLossOptions {
  autograd::Tensor token_weights;  ///< [tokens] f32
  autograd::Tensor total;          ///< [1] f32: the loss is added to it
  float coefficient = 0.0f;
};

/// Adds kernels::IndexerLoss to the tape, a loss with its own seed: the target are the probabilities that the attention
/// (its queries, entries and log_sum_exp, as constants) gives to the selected entries. Nothing where the tape does not
/// record.
void indexer_loss(autograd::Tape& tape, const IndexerInputs& inputs, const Selection& selection,
                  const autograd::Tensor& attention_q, const autograd::Tensor& entries,
                  const autograd::Tensor& log_sum_exp, std::int64_t heads, const SharedSpan& span, float scale,
                  const IndexerLossOptions& options);

}  // namespace flyover::ops
