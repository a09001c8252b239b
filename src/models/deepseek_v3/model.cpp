#include "models/deepseek_v3/model.h"

#include <numeric>

#include <fmt/core.h>

#include "ops/columns.h"
#include "ops/elementwise.h"
#include "ops/linear.h"

namespace flyover::models::deepseek_v3 {

using autograd::Tape;
using autograd::Variable;

// u = x + attention(norm(x)), y = u + mixture(norm(u)).
Variable Model::run_layer(Tape& tape, const Layer& layer, std::int64_t index, const Variable& x,
                          const nn::TokenBatch& batch, const Context& context) const {
  ops::LayerCache cache;
  if (context.cache != nullptr) {
    cache = context.cache->layer(index, context.entry);
  }
  const Variable attention = layer.attention(tape, layer.attention_norm(tape, x), context.angles, context.entry.span,
                                             context.cache != nullptr ? &cache : nullptr);
  const Variable attended = ops::add(tape, x, attention);
  const Variable normalised = layer.mlp_norm(tape, attended);
  return ops::add(tape, attended,
                  layer.mixture ? (*layer.mixture)(tape, normalised, batch) : (*layer.mlp)(tape, normalised));
}

Variable Model::run_layers(Tape& tape, const nn::TokenBatch& batch, const SharedContext& context) const {
  Variable hidden = ops::embedding(tape, batch.tokens, embedding_);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const auto forward = [this, i, &batch, context](Tape& t, const Variable& x) {
      return run_layer(t, layers_[i], static_cast<std::int64_t>(i), x, batch, *context);
    };
    hidden = tape.block(fmt::format("layer.{}", i), hidden, forward);
  }
  return final_norm_(tape, hidden);
}

Variable Model::hidden_states(Tape& tape, const nn::TokenBatch& batch, const nn::Cache* cache) const {
  return run_layers(tape, batch, make_context(tape.stream(), batch, cache));
}

// h' = projection [norm(embed(next token)); norm(h)], then a layer and a norm of its own (report, equations 21 to 23).
// Equation 21 has the halves the other way round, and does not say which h; the published weights are for this order,
// and for the h that the output layer sees.
Variable Model::predict_further(Tape& tape, const Variable& hidden, const nn::TokenBatch& batch,
                                const SharedContext& context) const {
  const tensor::PartScope scope(tape.stream(), tensor::Part::kPrediction);
  const Prediction& part = *prediction_;
  const Variable next = ops::embedding(tape, batch.auxiliary.further.next_tokens, embedding_);
  const Variable joined = ops::join_columns(tape, part.embedding_norm(tape, next), part.hidden_norm(tape, hidden));
  const auto forward = [this, &batch, context](Tape& t, const Variable& x) {
    return run_layer(t, prediction_->layer, config_.num_hidden_layers, x, batch, *context);
  };
  return part.final_norm(tape, tape.block("mtp", part.projection(tape, joined), forward));
}

TrainingStates Model::training_states(Tape& tape, const nn::TokenBatch& batch) const {
  const SharedContext context = make_context(tape.stream(), batch, nullptr);
  TrainingStates states{run_layers(tape, batch, context), {}};
  if (prediction_.has_value() && batch.auxiliary.further.count > 0) {
    states.further = predict_further(tape, states.hidden, batch, context);
  }
  return states;
}

Model::SharedContext Model::make_context(tensor::Stream& stream, const nn::TokenBatch& batch,
                                         const nn::Cache* cache) const {
  auto context = std::make_shared<Context>();
  context->angles = nn::rope_angles(stream, batch.positions, inverse_frequencies_, parameters_[output_].value.dtype(),
                                    config_.rope_scaling.attention_factor);
  context->cache = dynamic_cast<const nn::KeyValueCache*>(cache);
  context->entry =
      context->cache != nullptr ? context->cache->enter(stream, batch) : nn::KeyValueCache::Entry{{}, batch.span};
  return context;
}

std::unique_ptr<nn::Cache> Model::make_cache(tensor::Stream& stream, const nn::CacheLimits& limits) const {
  const std::int64_t heads = config_.num_attention_heads;
  return std::make_unique<nn::KeyValueCache>(stream, config_.num_hidden_layers, limits, heads * config_.qk_head_dim(),
                                             heads * config_.v_head_dim, parameters_[output_].value.dtype());
}

// As for other families, with values of another width than queries and keys.
double Model::training_flops(std::span<const std::int64_t> document_lengths) const {
  const auto tokens = std::accumulate(document_lengths.begin(), document_lengths.end(), std::int64_t{0});
  const std::int64_t widths = config_.num_attention_heads * (config_.qk_head_dim() + config_.v_head_dim);
  return 6.0 * static_cast<double>(summary_.matrix_parameters) * static_cast<double>(tokens) +
         6.0 * static_cast<double>(config_.num_hidden_layers * widths) *
             static_cast<double>(nn::causal_pairs(document_lengths));
}

}  // namespace flyover::models::deepseek_v3
