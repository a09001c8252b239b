// The parameters of the model: names, shapes, storage and how they begin.
#include <algorithm>

#include <fmt/core.h>

#include "base/random.h"
#include "models/deepseek_v4/model.h"
#include "models/parameter_specs.h"
#include "nn/rope.h"

namespace flyover::models::deepseek_v4 {

using autograd::ParameterId;
using autograd::ParameterRole;
using autograd::ParameterSpec;
using autograd::ParameterStorage;
using autograd::TrainedBy;

namespace {

/// For each token id `choices` different experts, all experts equally often: random permutations cut into pieces.
std::vector<std::int32_t> hash_table(std::int64_t vocabulary, std::int64_t experts, std::int64_t choices,
                                     std::uint64_t seed, std::uint64_t layer) {
  const std::int64_t pieces = experts / choices;
  std::vector<std::int32_t> table;
  for (std::int64_t token = 0; token < vocabulary; ++token) {
    const base::Random random(seed, base::RandomPurpose::kInitialisation, layer,
                              static_cast<std::uint64_t>(token / pieces));
    const base::Permutation permutation(random, static_cast<std::uint64_t>(experts));
    for (std::int64_t choice = 0; choice < choices; ++choice) {
      table.push_back(
          static_cast<std::int32_t>(permutation(static_cast<std::uint64_t>(token % pieces * choices + choice))));
    }
  }
  return table;
}

}  // namespace

Model::Model(const Config& config, const StoredNames& stored) : config_(config) {
  const Names names = Names::of(stored);
  const tensor::Dims table{config.vocab_size, config.hidden_size};
  embedding_ = parameters_.add(single(names.top("embed.weight"), table, ParameterRole::kEmbedding));
  for (const nn::CompressionKind kind : config.compression) {
    if (std::find(kinds_.begin(), kinds_.end(), kind) == kinds_.end()) {
      kinds_.push_back(kind);
    }
  }
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    layers_.push_back(make_layer(
        layer, [&](std::string_view published) { return names.layer(layer, published); }, stored));
  }
  head_.site = make_site(names.top("hc_head_fn"), names.top("hc_head_base"), names.top("hc_head_scale"), true);
  head_.norm = norm(names.top("norm.weight"), config.hidden_size);
  output_ = parameters_.add(single(names.top("head.weight"), table, ParameterRole::kOutput));
  const bool predicts = config.num_nextn_predict_layers > 0 && (!stored || stored(names.prediction("e_proj.weight")));
  if (predicts) {
    const std::size_t first = parameters_.all().size();
    prediction_ = make_prediction(names, stored);
    for (std::size_t i = first; i < parameters_.all().size(); ++i) {
      parameters_.all()[i].spec.trained_by = TrainedBy::kFurtherPrediction;
    }
  }
  window_frequencies_ = nn::inverse_frequencies(config.rope_theta, config.qk_rope_head_dim, {});
  compressed_frequencies_ =
      nn::inverse_frequencies(config.compress_rope_theta, config.qk_rope_head_dim, config.compress_scaling);
  summary_ = {.family = "deepseek_v4",
              .layers = config.num_hidden_layers,
              .hidden_size = config.hidden_size,
              .vocabulary_size = config.vocab_size,
              .heads = config.num_attention_heads,
              .head_dim = config.head_dim,
              .max_position_embeddings = config.max_position_embeddings,
              .experts = config.n_routed_experts,
              .choices = config.num_experts_per_tok};
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    summary_.mixtures.push_back(std::to_string(layer));
  }
  if (predicts) {
    summary_.mixtures.emplace_back(kPredictionLayer);
  }
  count_parameters(parameters_, output_, summary_);
}

ParameterId Model::matrix(const std::string& name, std::int64_t out, std::int64_t in,
                          std::vector<std::int64_t> matrix_rows) {
  ParameterSpec spec = single(name, {out, in}, ParameterRole::kMatrix);
  spec.matrix_rows = std::move(matrix_rows);
  return parameters_.add(std::move(spec));
}

ParameterId Model::exact(const std::string& name, const tensor::Dims& shape, ParameterRole role,
                         Initialisation initial) {
  initial_[name] = std::move(initial);
  return parameters_.add(single(name, shape, role, ParameterStorage::kExact));
}

nn::Linear Model::linear(const std::string& name, std::int64_t out, std::int64_t in) {
  return {matrix(name, out, in), {}};
}

nn::RmsNorm Model::norm(const std::string& name, std::int64_t width) {
  return {parameters_.add(single(name, {width}, ParameterRole::kNorm)), static_cast<float>(config_.rms_norm_eps)};
}

ops::HyperConnectionSite Model::make_site(const std::string& fn, const std::string& base, const std::string& scale,
                                          bool head) {
  const std::int64_t n = config_.hc_mult;
  const std::int64_t rows = head ? n : kernels::hyper_connection_coefficients(n);
  ParameterSpec spec = single(fn, {rows, n * config_.hidden_size}, ParameterRole::kMatrix, ParameterStorage::kExact);
  Initialisation base_start;
  base_start.values.assign(static_cast<std::size_t>(rows), 0.0f);
  if (!head) {
    spec.matrix_rows = {n, n, n * n};
    for (std::int64_t i = 0; i < n; ++i) {
      base_start.values[static_cast<std::size_t>(2 * n + i * n + i)] = static_cast<float>(config_.hc_initial_mixing);
    }
  }
  ops::HyperConnectionSite site;
  site.fn = parameters_.add(std::move(spec));
  site.base = exact(base, {rows}, ParameterRole::kBias, std::move(base_start));
  site.scale = exact(scale, {head ? 1 : 3}, ParameterRole::kBias, {.mean = config_.hc_initial_scale});
  site.streams = n;
  site.iterations = config_.hc_sinkhorn_iters;
  site.norm_epsilon = static_cast<float>(config_.rms_norm_eps);
  site.epsilon = static_cast<float>(config_.hc_eps);
  site.head = head;
  return site;
}

Model::Layer Model::make_layer(std::int64_t index, const Namer& name, const StoredNames& stored) {
  Layer layer;
  layer.attention_site = make_site(name("hc_attn_fn"), name("hc_attn_base"), name("hc_attn_scale"), false);
  layer.attention_norm = norm(name("attn_norm.weight"), config_.hidden_size);
  layer.attention = make_attention(index, name);
  layer.mixture_site = make_site(name("hc_ffn_fn"), name("hc_ffn_base"), name("hc_ffn_scale"), false);
  layer.mixture_norm = norm(name("ffn_norm.weight"), config_.hidden_size);
  layer.mixture = make_mixture(index, name, stored);
  return layer;
}

nn::Compressor Model::make_compressor(const Namer& name, const std::string& prefix, nn::CompressionKind kind,
                                      std::int64_t width) {
  const std::int64_t all = kind.roles() * width;
  const std::vector<std::int64_t> halves = {width};
  nn::Compressor compressor;
  compressor.values = matrix(name(prefix + "compressor.wkv.weight"), all, config_.hidden_size, halves);
  compressor.gates = matrix(name(prefix + "compressor.wgate.weight"), all, config_.hidden_size, halves);
  compressor.position_bias = exact(name(prefix + "compressor.ape"), {kind.ratio, all}, ParameterRole::kBias, {});
  compressor.norm = norm(name(prefix + "compressor.norm.weight"), width);
  compressor.width = width;
  compressor.rotated = config_.qk_rope_head_dim;
  return compressor;
}

nn::CompressedAttention Model::make_attention(std::int64_t index, const Namer& name) {
  const std::int64_t hidden = config_.hidden_size, heads = config_.num_attention_heads, width = config_.head_dim;
  nn::CompressedAttention attention;
  attention.kind = config_.compression[static_cast<std::size_t>(index)];
  attention.heads = heads;
  attention.head_dim = width;
  attention.rotated = config_.qk_rope_head_dim;
  attention.groups = config_.o_groups;
  attention.epsilon = static_cast<float>(config_.rms_norm_eps);
  attention.query_down = linear(name("attn.wq_a.weight"), config_.q_lora_rank, hidden);
  attention.query_norm = norm(name("attn.q_norm.weight"), config_.q_lora_rank);
  attention.query_up = linear(name("attn.wq_b.weight"), heads * width, config_.q_lora_rank);
  attention.key = linear(name("attn.wkv.weight"), width, hidden);
  attention.key_norm = norm(name("attn.kv_norm.weight"), width);
  attention.output_down = matrix(name("attn.wo_a.weight"), config_.o_groups * config_.o_lora_rank,
                                 heads * width / config_.o_groups, {config_.o_lora_rank});
  attention.output_up = linear(name("attn.wo_b.weight"), hidden, config_.o_groups * config_.o_lora_rank);
  attention.sink = exact(name("attn.attn_sink"), {heads}, ParameterRole::kBias, {});
  if (attention.kind.ratio > 0) {
    attention.compressor = make_compressor(name, "attn.", attention.kind, width);
  }
  if (attention.kind.overlap) {
    const std::size_t first = parameters_.all().size();
    nn::Indexer indexer;
    indexer.heads = config_.index_n_heads;
    indexer.limit = config_.index_topk;
    indexer.query =
        linear(name("attn.indexer.wq_b.weight"), indexer.heads * config_.index_head_dim, config_.q_lora_rank);
    indexer.weights = matrix(name("attn.indexer.weights_proj.weight"), indexer.heads, hidden);
    indexer.compressor = make_compressor(name, "attn.indexer.", attention.kind, config_.index_head_dim);
    indexer.compressor.fp4 = config_.fp4_indexer;
    for (std::size_t i = first; i < parameters_.all().size(); ++i) {
      parameters_.all()[i].spec.trained_by = TrainedBy::kIndexer;
    }
    attention.indexer = indexer;
  }
  return attention;
}

nn::MixtureOfExperts Model::make_mixture(std::int64_t index, const Namer& name, const StoredNames& stored) {
  const std::int64_t hidden = config_.hidden_size, width = config_.moe_intermediate_size;
  const bool hashes = index < config_.num_hidden_layers && config_.hash_routing[static_cast<std::size_t>(index)];
  nn::MixtureOfExperts mixture;
  mixture.experts = config_.n_routed_experts;
  mixture.choices = config_.num_experts_per_tok;
  mixture.limit = static_cast<float>(config_.swiglu_limit);
  mixture.index = index;
  mixture.rule.score = kernels::RouterScore::kSqrtSoftplus;
  mixture.rule.scale = static_cast<float>(config_.routed_scaling_factor);
  mixture.router = matrix(name("ffn.gate.weight"), mixture.experts, hidden);
  if (hashes) {
    const std::string table = name("ffn.gate.tid2eid");
    ParameterSpec spec =
        single(table, {config_.vocab_size, mixture.choices}, ParameterRole::kEmbedding, ParameterStorage::kIndices);
    spec.index_limit = mixture.experts;
    mixture.table = parameters_.add(std::move(spec));
  } else {
    mixture.bias = exact(name("ffn.gate.bias"), {mixture.experts}, ParameterRole::kBalance, {});
  }
  const std::string experts = name("ffn.experts");
  const bool modules = experts.ends_with("mlp.experts");  // transformers' names
  const ExpertSpecs specs = expert_specs(
      modules ? ExpertNames{experts, "gate_proj", "up_proj", "down_proj"} : ExpertNames{experts, "w1", "w3", "w2"},
      mixture.experts, hidden, width, stored);
  mixture.gate_up = parameters_.add(specs.gate_up);
  mixture.down = parameters_.add(specs.down);
  ParameterSpec shared =
      stacked(name("ffn.shared_experts.w1.weight") + "+up",
              {{name("ffn.shared_experts.w1.weight"), width}, {name("ffn.shared_experts.w3.weight"), width}}, hidden,
              ParameterRole::kMatrix);
  mixture.shared = nn::GatedMlp{{parameters_.add(std::move(shared)), {}},
                                linear(name("ffn.shared_experts.w2.weight"), hidden, width),
                                mixture.limit};
  return mixture;
}

Model::Prediction Model::make_prediction(const Names& names, const StoredNames& stored) {
  const std::int64_t hidden = config_.hidden_size;
  const auto name = [&](std::string_view published) { return names.prediction(published); };
  Prediction prediction;
  prediction.embedding_norm = norm(name("enorm.weight"), hidden);
  prediction.hidden_norm = norm(name("hnorm.weight"), hidden);
  prediction.embedding_projection = linear(name("e_proj.weight"), hidden, hidden);
  prediction.hidden_projection = linear(name("h_proj.weight"), hidden, hidden);
  prediction.layer = make_layer(config_.num_hidden_layers, name, stored);
  prediction.head.site = make_site(name("hc_head_fn"), name("hc_head_base"), name("hc_head_scale"), true);
  prediction.head.norm = norm(name("norm.weight"), hidden);
  return prediction;
}

std::vector<BalancedMixture> Model::balanced_mixtures() const {
  std::vector<BalancedMixture> result;
  const auto add = [&](const nn::MixtureOfExperts& mixture) {
    if (mixture.bias.has_value()) {
      result.push_back({mixture.index, *mixture.bias});
    }
  };
  for (const Layer& layer : layers_) {
    add(layer.mixture);
  }
  if (prediction_.has_value()) {
    add(prediction_->layer.mixture);
  }
  return result;
}

Initialisation Model::initialisation(const autograd::Parameter& parameter, std::uint64_t seed) const {
  if (parameter.spec.storage == ParameterStorage::kIndices) {
    const auto layer = static_cast<std::uint64_t>(&parameter - parameters_.all().data());
    return {.indices =
                hash_table(config_.vocab_size, config_.n_routed_experts, config_.num_experts_per_tok, seed, layer)};
  }
  const auto own = initial_.find(parameter.spec.name);
  return own != initial_.end() ? own->second : usual_initialisation(parameter, config_.initializer_range);
}

}  // namespace flyover::models::deepseek_v4
