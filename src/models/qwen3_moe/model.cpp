#include "models/qwen3_moe/model.h"

#include <cmath>

#include <fmt/core.h>

#include "models/parameter_specs.h"
#include "ops/elementwise.h"
#include "ops/linear.h"
#include "ops/norm.h"

namespace flyover::models::qwen3_moe {

using autograd::ParameterRole;
using autograd::Tape;
using autograd::Variable;

namespace {

std::string layer_name(std::int64_t layer, const std::string& rest) {
  return fmt::format("model.layers.{}.{}", layer, rest);
}

}  // namespace

Model::Model(const Config& config, const StoredNames& stored)
    : config_(config),
      embedding_(parameters_.add(
          single("model.embed_tokens.weight", {config.vocab_size, config.hidden_size}, ParameterRole::kEmbedding))),
      output_(embedding_),
      inverse_frequencies_(nn::inverse_frequencies(config.rope_theta, config.head_dim, config.rope_scaling)) {
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    layers_.push_back(make_layer(layer, stored));
  }
  final_norm_ = {parameters_.add(single("model.norm.weight", {config.hidden_size}, ParameterRole::kNorm)),
                 static_cast<float>(config.rms_norm_eps)};
  if (!config.tie_word_embeddings) {
    output_ =
        parameters_.add(single("lm_head.weight", {config.vocab_size, config.hidden_size}, ParameterRole::kOutput));
  }
  summary_ = {.family = "qwen3_moe",
              .layers = config.num_hidden_layers,
              .hidden_size = config.hidden_size,
              .vocabulary_size = config.vocab_size,
              .heads = config.num_attention_heads,
              .head_dim = config.head_dim,
              .max_position_embeddings = config.max_position_embeddings};
  for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
    if (layers_[layer].mixture.has_value()) {
      summary_.mixtures.push_back(std::to_string(layer));
    }
  }
  summary_.experts = summary_.mixtures.empty() ? 0 : config.num_experts;
  summary_.choices = summary_.mixtures.empty() ? 0 : config.num_experts_per_tok;
  count_parameters(parameters_, output_, summary_);
}

Model::Layer Model::make_layer(std::int64_t index, const StoredNames& stored) {
  const auto epsilon = static_cast<float>(config_.rms_norm_eps);
  const std::int64_t hidden = config_.hidden_size;
  const auto norm = [&](const std::string& name, std::int64_t width) {
    return parameters_.add(single(layer_name(index, name + ".weight"), {width}, ParameterRole::kNorm));
  };
  const auto linear = [&](const std::string& name, std::int64_t out, std::int64_t in) {
    nn::Linear layer{parameters_.add(single(layer_name(index, name + ".weight"), {out, in}, ParameterRole::kMatrix)),
                     {}};
    if (config_.attention_bias) {
      layer.bias = parameters_.add(single(layer_name(index, name + ".bias"), {out}, ParameterRole::kBias));
    }
    return layer;
  };
  Layer layer;
  layer.attention_norm = {norm("input_layernorm", hidden), epsilon};
  const std::int64_t query_width = config_.num_attention_heads * config_.head_dim;
  const std::int64_t key_width = config_.num_key_value_heads * config_.head_dim;
  layer.attention.query = linear("self_attn.q_proj", query_width, hidden);
  layer.attention.key = linear("self_attn.k_proj", key_width, hidden);
  layer.attention.value = linear("self_attn.v_proj", key_width, hidden);
  layer.attention.output = linear("self_attn.o_proj", hidden, query_width);
  layer.attention.query_norm = norm("self_attn.q_norm", config_.head_dim);
  layer.attention.key_norm = norm("self_attn.k_norm", config_.head_dim);
  layer.mlp_norm = {norm("post_attention_layernorm", hidden), epsilon};
  if (config_.has_experts[static_cast<std::size_t>(index)]) {
    layer.mixture = make_mixture(index, stored);
    return layer;
  }
  const std::int64_t width = config_.intermediate_size;
  const auto gate_up =
      stacked(layer_name(index, "mlp.gate_up_proj.weight"),
              {{layer_name(index, "mlp.gate_proj.weight"), width}, {layer_name(index, "mlp.up_proj.weight"), width}},
              hidden, ParameterRole::kMatrix);
  const auto down = single(layer_name(index, "mlp.down_proj.weight"), {hidden, width}, ParameterRole::kMatrix);
  layer.mlp = nn::GatedMlp{{parameters_.add(gate_up), {}}, {parameters_.add(down), {}}};
  return layer;
}

nn::MixtureOfExperts Model::make_mixture(std::int64_t layer, const StoredNames& stored) {
  const std::int64_t hidden = config_.hidden_size, width = config_.moe_intermediate_size;
  const ExpertNames names{layer_name(layer, "mlp.experts"), "gate_proj", "up_proj", "down_proj"};
  const ExpertSpecs specs = expert_specs(names, config_.num_experts, hidden, width, stored);
  nn::MixtureOfExperts mixture;
  mixture.router = parameters_.add(
      single(layer_name(layer, "mlp.gate.weight"), {config_.num_experts, hidden}, ParameterRole::kMatrix));
  mixture.gate_up = parameters_.add(specs.gate_up);
  mixture.down = parameters_.add(specs.down);
  mixture.rule.score = kernels::RouterScore::kSoftmax;
  mixture.rule.normalise = config_.norm_topk_prob;
  mixture.choices = config_.num_experts_per_tok;
  mixture.experts = config_.num_experts;
  for (const Layer& before : layers_) {
    mixture.index += before.mixture ? 1 : 0;
  }
  return mixture;
}

Initialisation Model::initialisation(const autograd::Parameter& parameter, std::uint64_t) const {
  return usual_initialisation(parameter, config_.initializer_range);
}

std::unique_ptr<nn::Cache> Model::make_cache(tensor::Stream& stream, const nn::CacheLimits& limits) const {
  const std::int64_t width = config_.num_key_value_heads * config_.head_dim;
  return std::make_unique<nn::KeyValueCache>(stream, config_.num_hidden_layers, limits, width, width,
                                             parameters_[output_].value.dtype());
}

Variable Model::attend(Tape& tape, const Attention& attention, const Variable& x, const ops::RopeAngles& angles,
                       const ops::AttentionSpan& span, const ops::LayerCache* cache) const {
  const tensor::PartScope scope(tape.stream(), tensor::Part::kAttention);
  const auto epsilon = static_cast<float>(config_.rms_norm_eps);
  const std::int64_t width = config_.head_dim;
  const auto prepare = [&](const nn::Linear& projection, autograd::ParameterId norm) {
    const Variable normalised = ops::head_norm(tape, projection(tape, x), width, norm, epsilon);
    return ops::rotate(tape, normalised, angles, {width, 0, kernels::RopePairing::kHalves, false});
  };
  const Variable q = prepare(attention.query, attention.query_norm);
  const Variable k = prepare(attention.key, attention.key_norm);
  const ops::HeadLayout layout{config_.num_attention_heads, config_.num_key_value_heads, width};
  // YaRN scales cosines and sines of queries and keys, all of whose dimensions are rotated.
  const auto factor = static_cast<float>(config_.rope_scaling.attention_factor);
  const float scale = factor * factor / std::sqrt(static_cast<float>(width));
  return attention.output(tape, ops::attention(tape, q, k, attention.value(tape, x), layout, scale, span, cache));
}

Variable Model::hidden_states(Tape& tape, const nn::TokenBatch& batch, const nn::Cache* cache) const {
  const auto* key_values = dynamic_cast<const nn::KeyValueCache*>(cache);
  nn::KeyValueCache::Entry entry{{}, batch.span};
  if (key_values != nullptr) {
    entry = key_values->enter(tape.stream(), batch);
  }
  const ops::RopeAngles angles =
      nn::rope_angles(tape.stream(), batch.positions, inverse_frequencies_, parameters_[output_].value.dtype());
  Variable hidden = ops::embedding(tape, batch.tokens, embedding_);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const auto forward = [this, i, angles, entry, key_values, &batch](Tape& t, const Variable& x) {
      const Layer& layer = layers_[i];
      ops::LayerCache layer_cache;
      if (key_values != nullptr) {
        layer_cache = key_values->layer(static_cast<std::int64_t>(i), entry);
      }
      const Variable mixed = attend(t, layer.attention, layer.attention_norm(t, x), angles, entry.span,
                                    key_values != nullptr ? &layer_cache : nullptr);
      const Variable attended = ops::add(t, x, mixed);
      const Variable normalised = layer.mlp_norm(t, attended);
      return ops::add(t, attended,
                      layer.mixture ? (*layer.mixture)(t, normalised, batch) : (*layer.mlp)(t, normalised));
    };
    hidden = tape.block(fmt::format("layer.{}", i), hidden, forward);
  }
  return final_norm_(tape, hidden);
}

}  // namespace flyover::models::qwen3_moe
