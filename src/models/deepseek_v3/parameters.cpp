// The parameters of the model: names, shapes, storage and how they begin.
#include <algorithm>
#include <cmath>

#include <fmt/core.h>

#include "models/deepseek_v3/model.h"
#include "models/parameter_specs.h"
#include "nn/rope.h"

namespace flyover::models::deepseek_v3 {

using autograd::ParameterRole;
using autograd::ParameterSpec;
using autograd::ParameterStorage;

namespace {

/// Of the norms of the ranks, whatever rms_norm_eps is: so in every implementation of the published model.
constexpr double kRankNormEpsilon = 1e-6;

std::string layer_name(std::int64_t layer, std::string_view rest) {
  return fmt::format("model.layers.{}.{}", layer, rest);
}

}  // namespace

Model::Model(const Config& config, const StoredNames& stored) : config_(config) {
  const tensor::Dims table{config.vocab_size, config.hidden_size};
  embedding_ = parameters_.add(single("model.embed_tokens.weight", table, ParameterRole::kEmbedding));
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    layers_.push_back(make_layer(layer, stored));
  }
  final_norm_ = norm("model.norm.weight", config.hidden_size, config.rms_norm_eps);
  output_ = parameters_.add(single("lm_head.weight", table, ParameterRole::kOutput));
  if (config.num_nextn_predict_layers > 0 &&
      (!stored || stored(layer_name(config.num_hidden_layers, "eh_proj.weight")))) {
    const std::size_t first = parameters_.all().size();
    prediction_ = make_prediction(stored);
    for (std::size_t i = first; i < parameters_.all().size(); ++i) {
      parameters_.all()[i].spec.trained_by = autograd::TrainedBy::kFurtherPrediction;
    }
  }
  inverse_frequencies_ = nn::inverse_frequencies(config.rope_theta, config.qk_rope_head_dim, config.rope_scaling);
  summary_ = {.family = "deepseek_v3",
              .layers = config.num_hidden_layers,
              .hidden_size = config.hidden_size,
              .vocabulary_size = config.vocab_size,
              .heads = config.num_attention_heads,
              .head_dim = config.qk_head_dim(),
              .max_position_embeddings = config.max_position_embeddings};
  for (std::int64_t layer = config.first_k_dense_replace; layer < config.num_hidden_layers; ++layer) {
    summary_.mixtures.push_back(std::to_string(layer));
  }
  if (prediction_.has_value() && prediction_->layer.mixture.has_value()) {
    summary_.mixtures.emplace_back(kPredictionLayer);
  }
  summary_.experts = summary_.mixtures.empty() ? 0 : config.n_routed_experts;
  summary_.choices = summary_.mixtures.empty() ? 0 : config.num_experts_per_tok;
  count_parameters(parameters_, output_, summary_);
}

nn::Linear Model::linear(const std::string& name, std::int64_t out, std::int64_t in) {
  return {parameters_.add(single(name, {out, in}, ParameterRole::kMatrix)), {}};
}

nn::RmsNorm Model::norm(const std::string& name, std::int64_t width, double epsilon) {
  return {parameters_.add(single(name, {width}, ParameterRole::kNorm)), static_cast<float>(epsilon)};
}

Model::Layer Model::make_layer(std::int64_t index, const StoredNames& stored) {
  const std::int64_t hidden = config_.hidden_size;
  Layer layer;
  layer.attention_norm = norm(layer_name(index, "input_layernorm.weight"), hidden, config_.rms_norm_eps);
  layer.attention = make_attention(index);
  layer.mlp_norm = norm(layer_name(index, "post_attention_layernorm.weight"), hidden, config_.rms_norm_eps);
  if (index < config_.first_k_dense_replace) {
    layer.mlp = make_mlp(layer_name(index, "mlp"), config_.intermediate_size);
  } else {
    layer.mixture = make_mixture(index, stored);
  }
  return layer;
}

nn::LatentAttention Model::make_attention(std::int64_t layer) {
  const auto name = [&](std::string_view rest) { return layer_name(layer, fmt::format("self_attn.{}.weight", rest)); };
  const std::int64_t hidden = config_.hidden_size, heads = config_.num_attention_heads, rank = config_.kv_lora_rank;
  nn::LatentAttention attention;
  attention.layout = {heads, config_.qk_nope_head_dim, config_.qk_rope_head_dim, config_.v_head_dim};
  attention.rank = rank;
  attention.pairing = config_.rope_interleave ? kernels::RopePairing::kInterleaved : kernels::RopePairing::kHalves;
  attention.scale =
      static_cast<float>(config_.rope_scaling.score_factor / std::sqrt(static_cast<double>(config_.qk_head_dim())));
  const std::int64_t query_width = heads * config_.qk_head_dim(), query_rank = config_.q_lora_rank;
  if (query_rank > 0) {
    attention.query_down = linear(name("q_a_proj"), query_rank, hidden);
    attention.query_norm = norm(name("q_a_layernorm"), query_rank, kRankNormEpsilon);
    attention.query_up = linear(name("q_b_proj"), query_width, query_rank);
  } else {
    attention.query_up = linear(name("q_proj"), query_width, hidden);
  }
  ParameterSpec down =
      single(name("kv_a_proj_with_mqa"), {rank + config_.qk_rope_head_dim, hidden}, ParameterRole::kMatrix);
  down.matrix_rows = {rank, config_.qk_rope_head_dim};
  attention.key_value_down = {parameters_.add(std::move(down)), {}};
  attention.key_value_norm = norm(name("kv_a_layernorm"), rank, kRankNormEpsilon);
  attention.key_value_up = linear(name("kv_b_proj"), heads * (config_.qk_nope_head_dim + config_.v_head_dim), rank);
  attention.output = linear(name("o_proj"), hidden, heads * config_.v_head_dim);
  return attention;
}

nn::GatedMlp Model::make_mlp(const std::string& prefix, std::int64_t width) {
  ParameterSpec gate_up = stacked(prefix + ".gate_up_proj.weight",
                                  {{prefix + ".gate_proj.weight", width}, {prefix + ".up_proj.weight", width}},
                                  config_.hidden_size, ParameterRole::kMatrix);
  return {{parameters_.add(std::move(gate_up)), {}}, linear(prefix + ".down_proj.weight", config_.hidden_size, width)};
}

nn::MixtureOfExperts Model::make_mixture(std::int64_t layer, const StoredNames& stored) {
  const std::int64_t hidden = config_.hidden_size, width = config_.moe_intermediate_size;
  nn::MixtureOfExperts mixture;
  mixture.experts = config_.n_routed_experts;
  mixture.choices = config_.num_experts_per_tok;
  mixture.index = layer - std::min(config_.first_k_dense_replace, config_.num_hidden_layers);
  mixture.rule.score = kernels::RouterScore::kSigmoid;
  mixture.rule.groups = config_.n_group;
  mixture.rule.chosen_groups = config_.topk_group;
  mixture.rule.normalise = config_.norm_topk_prob;
  mixture.rule.scale = static_cast<float>(config_.routed_scaling_factor);
  mixture.router = linear(layer_name(layer, "mlp.gate.weight"), mixture.experts, hidden).weight;
  mixture.bias = parameters_.add(single(layer_name(layer, "mlp.gate.e_score_correction_bias"), {mixture.experts},
                                        ParameterRole::kBalance, ParameterStorage::kExact));
  const ExpertNames names{layer_name(layer, "mlp.experts"), "gate_proj", "up_proj", "down_proj"};
  const ExpertSpecs specs = expert_specs(names, mixture.experts, hidden, width, stored);
  mixture.gate_up = parameters_.add(specs.gate_up);
  mixture.down = parameters_.add(specs.down);
  mixture.shared = make_mlp(layer_name(layer, "mlp.shared_experts"), config_.n_shared_experts * width);
  return mixture;
}

Model::Prediction Model::make_prediction(const StoredNames& stored) {
  const std::int64_t hidden = config_.hidden_size, index = config_.num_hidden_layers;
  Prediction prediction;
  prediction.embedding_norm = norm(layer_name(index, "enorm.weight"), hidden, config_.rms_norm_eps);
  prediction.hidden_norm = norm(layer_name(index, "hnorm.weight"), hidden, config_.rms_norm_eps);
  prediction.projection = linear(layer_name(index, "eh_proj.weight"), hidden, 2 * hidden);
  prediction.layer = make_layer(index, stored);
  prediction.final_norm = norm(layer_name(index, "shared_head.norm.weight"), hidden, config_.rms_norm_eps);
  return prediction;
}

std::vector<BalancedMixture> Model::balanced_mixtures() const {
  std::vector<BalancedMixture> result;
  const auto add = [&](const Layer& layer) {
    if (layer.mixture.has_value()) {
      result.push_back({layer.mixture->index, *layer.mixture->bias});
    }
  };
  for (const Layer& layer : layers_) {
    add(layer);
  }
  if (prediction_.has_value()) {
    add(prediction_->layer);
  }
  return result;
}

Initialisation Model::initialisation(const autograd::Parameter& parameter, std::uint64_t) const {
  return usual_initialisation(parameter, config_.initializer_range);
}

}  // namespace flyover::models::deepseek_v3
