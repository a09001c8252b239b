// Mixture of experts: choosing, sorting by expert, products with each expert's own matrix, and adding up again.
#pragma once

#include "autograd/tape.h"

namespace flyover::ops {

/// What balances a router besides its loss (kernels::RouterBalance); undefined tensors = nothing.
struct BalanceLoss {
  autograd::Tensor sequences;         ///< [documents, 4] i32
  autograd::Tensor document_weights;  ///< [documents] f32
  autograd::Tensor total;             ///< [1] f32: the loss is added to it
  float coefficient = 0.0f;
};

/// Which experts each token goes to.
struct Routing {
  autograd::Variable weights;  ///< [tokens, choices] f32
  autograd::Tensor experts;    ///< [tokens, choices] i32
};

/// kernels::RouterForward on logits [tokens, experts] f32. `bias` takes part in the choice alone; `fixed_experts`
/// ([tokens, choices] i32, undefined = chosen) replaces it.
Routing route(autograd::Tape& tape, const autograd::Variable& logits, std::int64_t choices,
              const kernels::RouterRule& rule, std::optional<autograd::ParameterId> bias,
              const autograd::Tensor& fixed_experts, const BalanceLoss& balance);

/// The pairs (token, choice) sorted by expert (kernels::ExpertSort).
struct ExpertOrder {
  autograd::Tensor offsets;       ///< [experts + 1] i32
  autograd::Tensor pair_of_row;   ///< [rows] i32
  autograd::Tensor token_of_row;  ///< [rows] i32
  autograd::Tensor row_of_pair;   ///< [tokens, choices] i32
};

/// `load` ([experts] f32, or undefined) grows by each expert's pairs.
ExpertOrder sort_by_expert(autograd::Tape& tape, const autograd::Tensor& experts, std::int64_t expert_count,
                           const autograd::Tensor& load);

/// The weights of the pairs in the order of the experts: [tokens, choices] to [rows].
autograd::Variable dispatch_weights(autograd::Tape& tape, const autograd::Variable& weights, const ExpertOrder& order);

/// y = x W_e' for each pair, x that of its token and W_e the matrix of its expert, in the order of the experts. x:
/// [tokens, in]; weight: [experts, out, in]; y: [rows, out].
autograd::Variable dispatch_linear(autograd::Tape& tape, const autograd::Variable& x, autograd::ParameterId weight,
                                   const ExpertOrder& order);

/// The sum of x W_e' over each token's pairs. x: [rows, in]; weight: [experts, out, in]; y: [tokens, out].
autograd::Variable combine_linear(autograd::Tape& tape, const autograd::Variable& x, autograd::ParameterId weight,
                                  const ExpertOrder& order);

}  // namespace flyover::ops
