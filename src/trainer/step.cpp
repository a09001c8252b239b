#include "trainer/step.h"

#include <algorithm>
#include <cmath>

#include "ops/loss.h"

namespace flyover::trainer {
namespace {

using autograd::RecomputePolicy;
using autograd::Tape;
using tensor::DType;
using tensor::ReadBackPurpose;
using tensor::Stream;
using tensor::Tensor;

/// The rows of one tensor that a step's losses are summed in.
enum TotalRow : int { kMain, kFurther, kBalance, kIndexer, kTotalRows };

/// What the micro-batches of a step share.
struct StepSums {
  Tensor totals;            ///< [kTotalRows] f32
  Tensor expert_load;       ///< [mixtures, experts] f32
  std::int64_t tokens = 0;  ///< of all micro-batches
  Tensor total(TotalRow row) const { return totals.rows(row, 1); }
};

nn::AuxiliaryLosses auxiliary_losses(Stream& stream, const nn::PackedTokens& packed, const AuxiliaryOptions& options,
                                     const StepSums& sums) {
  nn::AuxiliaryLosses auxiliary;
  auxiliary.expert_load = sums.expert_load;
  const auto share = 1.0f / static_cast<float>(std::max<std::int64_t>(sums.tokens, 1));
  if (options.balance_coefficient > 0) {
    std::vector<float> weights;
    for (const std::int64_t length : packed.document_lengths) {
      weights.push_back(static_cast<float>(length) * share);
    }
    auxiliary.document_weights = stream.upload(weights, {static_cast<std::int64_t>(weights.size())});
    auxiliary.balance = sums.total(kBalance);
    auxiliary.balance_coefficient = static_cast<float>(options.balance_coefficient);
    auxiliary.balance_hash_layers = options.balance_hash_layers;
  }
  if (options.further_weight > 0) {
    auxiliary.further = nn::further_targets(stream, packed, static_cast<float>(options.further_weight));
  }
  if (options.indexer_coefficient > 0) {
    const std::vector<float> weights(packed.tokens.size(), share);
    auxiliary.token_weights = stream.upload(weights, {static_cast<std::int64_t>(weights.size())});
    auxiliary.indexer = sums.total(kIndexer);
    auxiliary.indexer_coefficient = static_cast<float>(options.indexer_coefficient);
  }
  return auxiliary;
}

/// Adds one micro-batch's losses to the sums and its gradients to the parameters'. `experts`: null = chosen.
void train_micro_batch(models::LanguageModel& model, Stream& stream, const nn::PackedTokens& packed,
                       const StepOptions& options, const StepSums& sums, const nn::ExpertChoices* experts) {
  nn::TokenBatch batch = nn::upload(stream, packed);
  if (batch.target_count == 0) {
    return;
  }
  if (experts != nullptr) {
    batch.given_experts = *experts;
  }
  if (!model.summary().mixtures.empty()) {
    batch.auxiliary = auxiliary_losses(stream, packed, options.auxiliary, sums);
  }
  const std::int64_t chunk = logits_chunk_rows(model, options.logits_bytes);
  Tape tape(stream, model.parameters(), {true, options.recompute, nullptr});
  const models::TrainingStates states = model.training_states(tape, batch);
  auto last =
      ops::linear_cross_entropy(tape, states.hidden, model.output_weight(), batch.targets, sums.total(kMain), chunk);
  if (states.further.value.defined()) {
    last = ops::linear_cross_entropy(tape, states.further, model.output_weight(), batch.auxiliary.further.targets,
                                     sums.total(kFurther), chunk);
  }
  tape.backward(last.loss, {});
}

}  // namespace

bool is_reached(const autograd::ParameterSpec& spec, const AuxiliaryOptions& options) {
  switch (spec.trained_by) {
    case autograd::TrainedBy::kFurtherPrediction:
      return spec.has_gradient() && options.further_weight > 0;
    case autograd::TrainedBy::kIndexer:
      return spec.has_gradient() && options.indexer_coefficient > 0;
    case autograd::TrainedBy::kPrediction:
      break;
  }
  return spec.has_gradient();
}

bool Gradients::finite() const {
  return std::isfinite(loss) && std::isfinite(further_loss) && std::isfinite(balance_loss) &&
         std::isfinite(indexer_loss) && std::isfinite(grad_norm);
}

std::int64_t logits_chunk_rows(const models::LanguageModel& model, std::int64_t logits_bytes) {
  const auto row_bytes = static_cast<std::int64_t>(sizeof(float)) * model.summary().vocabulary_size;
  return std::max<std::int64_t>(logits_bytes / row_bytes, 16);
}

Gradients compute_gradients(models::LanguageModel& model, Stream& stream,
                            const std::vector<nn::PackedTokens>& micro_batches, const StepOptions& options,
                            const StepChoices* experts) {
  model.parameters().zero_gradients(stream);
  StepSums sums{stream.zeros({kTotalRows}, DType::kF32), {}, 0};
  const models::ModelSummary& summary = model.summary();
  if (!summary.mixtures.empty()) {
    const auto mixtures = static_cast<std::int64_t>(summary.mixtures.size());
    sums.expert_load = stream.zeros({mixtures, summary.experts}, DType::kF32);
  }
  for (const nn::PackedTokens& packed : micro_batches) {
    sums.tokens += static_cast<std::int64_t>(packed.tokens.size());
  }
  for (std::size_t i = 0; i < micro_batches.size(); ++i) {
    train_micro_batch(model, stream, micro_batches[i], options, sums, experts == nullptr ? nullptr : &(*experts)[i]);
  }
  const optim::ClippedNorm clipped = optim::clip_gradients(stream, model.parameters(), options.max_grad_norm);
  auto totals = stream.read_back(sums.totals, ReadBackPurpose::kLoss);
  auto norm = stream.read_back(clipped.norm, ReadBackPurpose::kGradientNorm);
  std::vector<float> load;
  if (sums.expert_load.defined()) {
    load = stream.read_back(sums.expert_load, ReadBackPurpose::kRouterLoad).values<float>();
  }
  const std::vector<float> losses = totals.values<float>();
  return {.loss = losses[kMain],
          .further_loss = losses[kFurther],
          .balance_loss = losses[kBalance],
          .indexer_loss = losses[kIndexer],
          .grad_norm = norm.values<float>()[0],
          .coefficient = clipped.coefficient,
          .expert_load = sums.expert_load,
          .load = std::move(load)};
}

StepChoices empty_choices(const models::LanguageModel& model, Stream& stream,
                          const std::vector<nn::PackedTokens>& micro_batches) {
  StepChoices choices;
  for (const nn::PackedTokens& packed : micro_batches) {
    nn::ExpertChoices& of = choices.emplace_back();
    for (std::size_t mixture = 0; mixture < model.summary().mixtures.size(); ++mixture) {
      of.push_back(
          stream.empty({static_cast<std::int64_t>(packed.tokens.size()), model.summary().choices}, DType::kI32));
    }
  }
  return choices;
}

StepChoices choose_experts(models::LanguageModel& model, Stream& stream,
                           const std::vector<nn::PackedTokens>& micro_batches, const StepOptions& options) {
  // What no pass replaces (the mixture of a block that is not trained) is read by nobody, but stored in checkpoints.
  StepChoices choices = empty_choices(model, stream, micro_batches);
  for (std::size_t i = 0; i < micro_batches.size(); ++i) {
    for (const Tensor& tensor : choices[i]) {
      stream.launch(kernels::Fill{tensor.view(), 0.0});
    }
    nn::TokenBatch batch = nn::upload(stream, micro_batches[i]);
    batch.auxiliary.further = options.auxiliary.further_weight > 0 ? nn::further_targets(stream, micro_batches[i], 1.0f)
                                                                   : nn::FurtherTargets();
    batch.chosen_experts = &choices[i];
    Tape tape(stream, model.parameters(), {false, RecomputePolicy::kNone, nullptr});
    model.training_states(tape, batch);
  }
  return choices;
}

void update_balance(models::LanguageModel& model, Stream& stream, const Tensor& expert_load, double speed) {
  for (const models::BalancedMixture& mixture : model.balanced_mixtures()) {
    const Tensor load = expert_load.rows(mixture.index, 1).reshape({expert_load.size(1)});
    stream.launch(kernels::RouterBiasUpdate{load.view(), model.parameters()[mixture.bias].value.view(),
                                            static_cast<float>(speed)});
  }
}

double evaluate_loss(models::LanguageModel& model, Stream& stream, const std::vector<nn::PackedTokens>& micro_batches,
                     const StepOptions& options) {
  const Tensor total = stream.zeros({1}, DType::kF32);
  for (const nn::PackedTokens& packed : micro_batches) {
    const nn::TokenBatch batch = nn::upload(stream, packed);
    if (batch.target_count > 0) {
      Tape tape(stream, model.parameters(), {false, options.recompute, nullptr});
      ops::linear_cross_entropy(tape, model.hidden_states(tape, batch), model.output_weight(), batch.targets, total,
                                logits_chunk_rows(model, options.logits_bytes));
    }
  }
  return stream.read_back(total, ReadBackPurpose::kLoss).values<float>()[0];
}

}  // namespace flyover::trainer
