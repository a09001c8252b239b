// The language-model loss without the logits of the whole batch.
#pragma once

#include "autograd/tape.h"

namespace flyover::ops {

/// Which rows are trained on, and how.
struct LossTargets {
  autograd::Tensor rows;     ///< [targets] i32: rows of the hidden states that predict; undefined = all rows in order
  autograd::Tensor tokens;   ///< [targets] i32: what each of them should predict
  autograd::Tensor weights;  ///< [targets] f32: weight of each in the loss
};

/// What the loss gives besides its gradient.
struct LinearCrossEntropy {
  autograd::Variable loss;             ///< to start the backward pass from (its seed is one)
  autograd::Tensor log_probabilities;  ///< [targets] f32: log-probability of each target
};

/// Cross-entropy of softmax(hidden W') in chunks of at most `chunk_rows` rows: total += sum of weights * -log p.
/// hidden: [rows, width]; weight: [vocabulary, width]; total: [1] f32. Where the tape records, the gradients of hidden
/// and weight are formed chunk by chunk on the way (the seed of a loss is known to be one), so that logits are computed
/// once and never exist for the whole batch.
LinearCrossEntropy linear_cross_entropy(autograd::Tape& tape, const autograd::Variable& hidden,
                                        autograd::ParameterId weight, const LossTargets& targets,
                                        const autograd::Tensor& total, std::int64_t chunk_rows);

/// Log-probability of each target token at a temperature, without gradients: [targets] f32, with the bits that
/// generation records. rows as in LossTargets.
autograd::Tensor log_probabilities(autograd::Tape& tape, const autograd::Tensor& hidden, autograd::ParameterId weight,
                                   const LossTargets& targets, float temperature, std::int64_t chunk_rows);

/// hidden W' in f32 (f64): [rows, vocabulary].
autograd::Tensor logits(autograd::Tape& tape, const autograd::Tensor& hidden, autograd::ParameterId weight);

}  // namespace flyover::ops
