#include "models/deepseek_v3/release.h"

#include <fmt/core.h>

namespace flyover::models::deepseek_v3 {
namespace {

using enum ReleasedAs;

/// Collects the weights of one layer.
class Layer {
 public:
  Layer(const Config& config, std::int64_t index, std::vector<ReleasedWeight>& weights)
      : config_(config), index_(index), weights_(weights) {}

  void add(std::string_view name, const tensor::Dims& shape, ReleasedAs stored = kBf16) {
    weights_.push_back({fmt::format("model.layers.{}.{}", index_, name), shape, stored});
  }

  void projection(const std::string& name, std::int64_t out, std::int64_t in) {
    add(name + ".weight", {out, in}, kFp8WithF32Scales);
  }

  void attention() {
    const std::int64_t hidden = config_.hidden_size, heads = config_.num_attention_heads;
    const std::int64_t rank = config_.kv_lora_rank, query_rank = config_.q_lora_rank;
    if (query_rank > 0) {
      projection("self_attn.q_a_proj", query_rank, hidden);
      add("self_attn.q_a_layernorm.weight", {query_rank});
      projection("self_attn.q_b_proj", heads * config_.qk_head_dim(), query_rank);
    } else {
      projection("self_attn.q_proj", heads * config_.qk_head_dim(), hidden);
    }
    projection("self_attn.kv_a_proj_with_mqa", rank + config_.qk_rope_head_dim, hidden);
    add("self_attn.kv_a_layernorm.weight", {rank});
    projection("self_attn.kv_b_proj", heads * (config_.qk_nope_head_dim + config_.v_head_dim), rank);
    projection("self_attn.o_proj", hidden, heads * config_.v_head_dim);
  }

  void mlp(const std::string& prefix, std::int64_t width) {
    projection(prefix + ".gate_proj", width, config_.hidden_size);
    projection(prefix + ".up_proj", width, config_.hidden_size);
    projection(prefix + ".down_proj", config_.hidden_size, width);
  }

  void mixture() {
    const std::int64_t width = config_.moe_intermediate_size;
    add("mlp.gate.weight", {config_.n_routed_experts, config_.hidden_size});
    add("mlp.gate.e_score_correction_bias", {config_.n_routed_experts}, kF32);
    for (std::int64_t expert = 0; expert < config_.n_routed_experts; ++expert) {
      mlp(fmt::format("mlp.experts.{}", expert), width);
    }
    mlp("mlp.shared_experts", config_.n_shared_experts * width);
  }

  void block() {
    add("input_layernorm.weight", {config_.hidden_size});
    attention();
    add("post_attention_layernorm.weight", {config_.hidden_size});
    if (index_ < config_.first_k_dense_replace) {
      mlp("mlp", config_.intermediate_size);
    } else {
      mixture();
    }
  }

 private:
  const Config& config_;
  std::int64_t index_;
  std::vector<ReleasedWeight>& weights_;
};

}  // namespace

std::vector<ReleasedWeight> released_weights(const Config& config) {
  const std::int64_t hidden = config.hidden_size;
  const tensor::Dims table{config.vocab_size, hidden};
  std::vector<ReleasedWeight> weights;
  weights.push_back({"model.embed_tokens.weight", table, kBf16});
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    Layer(config, layer, weights).block();
  }
  weights.push_back({"model.norm.weight", {hidden}, kBf16});
  weights.push_back({"lm_head.weight", table, kBf16});
  if (config.num_nextn_predict_layers > 0) {
    Layer prediction(config, config.num_hidden_layers, weights);
    prediction.add("embed_tokens.weight", table);
    prediction.add("enorm.weight", {hidden});
    prediction.add("hnorm.weight", {hidden});
    prediction.add("eh_proj.weight", {hidden, 2 * hidden});
    prediction.block();
    prediction.add("shared_head.norm.weight", {hidden});
    prediction.add("shared_head.head.weight", table);
  }
  return weights;
}

}  // namespace flyover::models::deepseek_v3
