#include "models/llama/model.h"

#include <fmt/core.h>

#include "models/llama/weights.h"
#include "models/parameter_specs.h"
#include "ops/elementwise.h"
#include "ops/linear.h"

namespace flyover::models::llama {

using autograd::Tape;
using autograd::Variable;

Model::Model(const Config& config)
    : config_(config),
      embedding_(parameters_.add(embedding_spec(config))),
      output_(embedding_),
      inverse_frequencies_(nn::inverse_frequencies(config.rope_theta, config.head_dim, config.rope_scaling)) {
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    layers_.push_back(make_layer(layer));
  }
  const auto epsilon = static_cast<float>(config.rms_norm_eps);
  final_norm_ = {parameters_.add(final_norm_spec(config)), epsilon};
  if (!config.tie_word_embeddings) {
    output_ = parameters_.add(output_spec(config));
  }
  summary_ = {.family = "llama",
              .layers = config.num_hidden_layers,
              .hidden_size = config.hidden_size,
              .vocabulary_size = config.vocab_size,
              .heads = config.num_attention_heads,
              .head_dim = config.head_dim,
              .max_position_embeddings = config.max_position_embeddings};
  count_parameters(parameters_, output_, summary_);
}

Model::Layer Model::make_layer(std::int64_t index) {
  const auto epsilon = static_cast<float>(config_.rms_norm_eps);
  const auto linear = [&](autograd::ParameterSpec weight,
                          autograd::ParameterSpec (*bias)(const Config&, std::int64_t)) {
    nn::Linear layer{parameters_.add(std::move(weight)), {}};
    if (bias != nullptr && config_.attention_bias) {
      layer.bias = parameters_.add(bias(config_, index));
    }
    return layer;
  };
  Layer layer;
  layer.attention_norm = {parameters_.add(layer_norm_spec(config_, index, "input_layernorm")), epsilon};
  layer.attention.qkv = linear(qkv_spec(config_, index), &qkv_bias_spec);
  layer.attention.output = linear(attention_output_spec(config_, index), &attention_output_bias_spec);
  layer.attention.layout = {config_.num_attention_heads, config_.num_key_value_heads, config_.head_dim};
  layer.mlp_norm = {parameters_.add(layer_norm_spec(config_, index, "post_attention_layernorm")), epsilon};
  layer.mlp.gate_up = linear(gate_up_spec(config_, index), nullptr);
  layer.mlp.down = linear(down_spec(config_, index), nullptr);
  return layer;
}

Initialisation Model::initialisation(const autograd::Parameter& parameter, std::uint64_t) const {
  return usual_initialisation(parameter, config_.initializer_range);
}

std::unique_ptr<nn::Cache> Model::make_cache(tensor::Stream& stream, const nn::CacheLimits& limits) const {
  const std::int64_t width = config_.num_key_value_heads * config_.head_dim;
  return std::make_unique<nn::KeyValueCache>(stream, config_.num_hidden_layers, limits, width, width,
                                             parameters_[output_].value.dtype());
}

Variable Model::hidden_states(Tape& tape, const nn::TokenBatch& batch, const nn::Cache* cache) const {
  const auto* key_values = dynamic_cast<const nn::KeyValueCache*>(cache);
  nn::KeyValueCache::Entry entry{{}, batch.span};
  if (key_values != nullptr) {
    entry = key_values->enter(tape.stream(), batch);
  }
  const ops::RopeAngles angles =
      nn::rope_angles(tape.stream(), batch.positions, inverse_frequencies_, parameters_[embedding_].value.dtype());
  Variable hidden = ops::embedding(tape, batch.tokens, embedding_);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const auto forward = [this, i, angles, entry, key_values](Tape& t, const Variable& x) {
      const Layer& layer = layers_[i];
      ops::LayerCache layer_cache;
      if (key_values != nullptr) {
        layer_cache = key_values->layer(static_cast<std::int64_t>(i), entry);
      }
      const Variable mixed = layer.attention(t, layer.attention_norm(t, x), angles, entry.span,
                                             key_values != nullptr ? &layer_cache : nullptr);
      const Variable attended = ops::add(t, x, mixed);
      return ops::add(t, attended, layer.mlp(t, layer.mlp_norm(t, attended)));
    };
    hidden = tape.block(fmt::format("layer.{}", i), hidden, forward);
  }
  return final_norm_(tape, hidden);
}

}  // namespace flyover::models::llama
