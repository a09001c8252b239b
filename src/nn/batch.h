// A micro-batch as models see it: packed documents on the device, and what the host knows of them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/attention.h"
#include "ops/loss.h"
#include "tensor/stream.h"

namespace flyover::nn {

using tensor::Tensor;

/// Packed documents of one micro-batch on the host. A document's tokens are neighbours; positions restart with each.
struct PackedTokens {
  std::vector<std::int32_t> tokens;
  std::vector<std::int64_t> document_lengths;  ///< sums to tokens.size(); none is zero

  /// Per token: what it should predict (kernels::kIgnoredTarget = nothing) and the weight of that in the loss. Empty
  /// where nothing is trained.
  std::vector<std::int32_t> targets;
  std::vector<float> weights;
};

/// The tokens of one document (in generation: the new ones of one sequence) within a batch.
struct DocumentRows {
  std::int64_t first = 0;   ///< row of its first token in the batch
  std::int64_t tokens = 0;  ///< at least one
  std::int64_t cached = 0;  ///< tokens before these, which are in a cache; 0 in training
  std::int64_t slot = -1;   ///< of the cache; -1 in training
};

/// What a block that predicts the token after the next is trained on.
struct FurtherTargets {
  Tensor next_tokens;        ///< [tokens] i32: the token after each; anything at a document's end
  ops::LossTargets targets;  ///< rows whose next token is a target's predecessor, and that target
  std::int64_t count = 0;
};

/// What training asks of a model besides its predictions, and where it goes. Undefined tensors = not asked for.
struct AuxiliaryLosses {
  Tensor document_weights;           ///< [documents] f32: the share of each document in the global batch
  Tensor balance;                    ///< [1] f32: grows by the routers' balance losses
  float balance_coefficient = 0.0f;  ///< of them
  bool balance_hash_layers = false;  ///< layers that route by table have one, too
  FurtherTargets further;
  Tensor indexer;                    ///< [1] f32: grows by the indexers' losses
  float indexer_coefficient = 0.0f;  ///< of them; 0 = the indexers learn nothing
  Tensor token_weights;              ///< [tokens] f32: the share of each token in the global batch
  Tensor expert_load;  ///< [mixtures, experts] f32: grows by how often each expert was chosen in a pass that records
};

/// The experts that tokens go to, by mixture: [tokens, choices] i32 each.
using ExpertChoices = std::vector<Tensor>;

/// The same on the device.
struct TokenBatch {
  Tensor tokens;            ///< [tokens] i32
  Tensor positions;         ///< [tokens] i32, position within the document
  ops::AttentionSpan span;  ///< of training; in generation it is the cache's
  std::vector<DocumentRows> documents;
  ops::LossTargets targets;  ///< undefined tensors where nothing is trained
  std::int64_t target_count = 0;
  AuxiliaryLosses auxiliary;
  ExpertChoices given_experts;              ///< used instead of the routers' choices; empty = these choose
  ExpertChoices* chosen_experts = nullptr;  ///< its tensors are replaced by the choices of a pass; null = not wanted
  std::int64_t count() const { return tokens.size(0); }
};

/// Uploads a micro-batch; weights in `exact` (f32, or f64 for finite differences). Throws InternalError where lengths
/// disagree.
TokenBatch upload(tensor::Stream& stream, const PackedTokens& packed, tensor::DType exact = tensor::DType::kF32);

/// Targets one token further: row t predicts what row t + 1 of the same document is to predict, with `factor` times its
/// weight.
FurtherTargets further_targets(tensor::Stream& stream, const PackedTokens& packed, float factor,
                               tensor::DType exact = tensor::DType::kF32);

/// Number of (query, visible key) pairs of documents of these lengths under causal attention.
std::int64_t causal_pairs(std::span<const std::int64_t> document_lengths);

}  // namespace flyover::nn
