// One optimizer step: forward and backward over the micro-batches, then the update.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/tape.h"
#include "models/language_model.h"
#include "nn/batch.h"
#include "optim/optimizer.h"

namespace flyover::trainer {

/// What mixture-of-experts models are trained on besides the next token; without effect on other models.
struct AuxiliaryOptions {
  double further_weight = 0.0;       ///< of the loss of predicting the token after the next
  double balance_coefficient = 0.0;  ///< of the routers' sequence-wise balance loss
  bool balance_hash_layers = false;  ///< that loss counts layers that route by table, too
  double indexer_coefficient = 0.0;  ///< of the indexers' loss; 0: they must be frozen
  double bias_update_speed = 0.0;    ///< of the bias that balances routers without a loss; 0 = it stays
};

/// How gradients are computed.
struct StepOptions {
  autograd::RecomputePolicy recompute = autograd::RecomputePolicy::kNone;
  double max_grad_norm = 1.0;                           ///< 0 = no clipping
  std::int64_t logits_bytes = std::int64_t{128} << 20;  ///< at most this much for one chunk of f32 logits
  AuxiliaryOptions auxiliary = {};
};

/// Whether a parameter is moved by training with these options.
bool is_reached(const autograd::ParameterSpec& spec, const AuxiliaryOptions& options);

/// The experts of every micro-batch of a step.
using StepChoices = std::vector<nn::ExpertChoices>;

/// Loss and gradients of a global batch.
struct Gradients {
  double loss = 0.0;          ///< weighted sum over the targets: the mean where weights are 1 / targets
  double further_loss = 0.0;  ///< the same for the token after the next, with its weight
  double balance_loss = 0.0;  ///< with its coefficient, as the next
  double indexer_loss = 0.0;
  double grad_norm = 0.0;      ///< before clipping
  tensor::Tensor coefficient;  ///< [1] f32 on the device: what clipping multiplies the gradients with
  tensor::Tensor expert_load;  ///< [mixtures, experts] f32 on the device: how often each was chosen; undefined = none
  std::vector<float> load;     ///< the same on the host

  bool finite() const;
};

/// Rows of hidden states whose logits fit `logits_bytes`, at least 16.
std::int64_t logits_chunk_rows(const models::LanguageModel& model, std::int64_t logits_bytes);

/// Zeroes the gradients, runs all micro-batches and reads back losses, norm and load (the only synchronisation of a
/// step). `experts` replaces the routers' choices; null = they choose.
Gradients compute_gradients(models::LanguageModel& model, tensor::Stream& stream,
                            const std::vector<nn::PackedTokens>& micro_batches, const StepOptions& options,
                            const StepChoices* experts = nullptr);

/// The experts that the model chooses for micro-batches with its present weights, without gradients.
StepChoices choose_experts(models::LanguageModel& model, tensor::Stream& stream,
                           const std::vector<nn::PackedTokens>& micro_batches, const StepOptions& options);

/// Undefined contents of the shapes that choose_experts gives.
StepChoices empty_choices(const models::LanguageModel& model, tensor::Stream& stream,
                          const std::vector<nn::PackedTokens>& micro_batches);

/// Moves the balancing biases by the load of a step (kernels::RouterBiasUpdate), which becomes zero.
void update_balance(models::LanguageModel& model, tensor::Stream& stream, const tensor::Tensor& expert_load,
                    double speed);

/// Mean loss per target of micro-batches whose weights add up to one, without gradients.
double evaluate_loss(models::LanguageModel& model, tensor::Stream& stream,
                     const std::vector<nn::PackedTokens>& micro_batches, const StepOptions& options);

}  // namespace flyover::trainer
