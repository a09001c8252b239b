#include "models/qwen3_moe/release.h"

#include <fmt/core.h>

namespace flyover::models::qwen3_moe {
namespace {

using enum ReleasedAs;

constexpr std::string_view kRouter = "mlp.gate", kOutput = "lm_head";

std::string layer_name(std::int64_t layer, std::string_view rest) {
  return fmt::format("model.layers.{}.{}", layer, rest);
}

/// Collects the weights of one layer.
class Layer {
 public:
  Layer(const Config& config, std::int64_t index, std::vector<ReleasedWeight>& weights)
      : config_(config), index_(index), weights_(weights) {}

  void norm(std::string_view name, std::int64_t width) {
    weights_.push_back({layer_name(index_, fmt::format("{}.weight", name)), {width}, kBf16});
  }

  void projection(std::string_view name, std::int64_t out, std::int64_t in, ReleasedAs stored = kFp8WithBf16Scales) {
    weights_.push_back({layer_name(index_, fmt::format("{}.weight", name)), {out, in}, stored});
  }

  void attention_projection(std::string_view name, std::int64_t out, std::int64_t in) {
    projection(name, out, in);
    if (config_.attention_bias) {
      weights_.push_back({layer_name(index_, fmt::format("{}.bias", name)), {out}, kBf16});
    }
  }

  void attention() {
    const std::int64_t hidden = config_.hidden_size, width = config_.head_dim;
    const std::int64_t queries = config_.num_attention_heads * width, keys = config_.num_key_value_heads * width;
    attention_projection("self_attn.q_proj", queries, hidden);
    attention_projection("self_attn.k_proj", keys, hidden);
    attention_projection("self_attn.v_proj", keys, hidden);
    attention_projection("self_attn.o_proj", hidden, queries);
    norm("self_attn.q_norm", width);
    norm("self_attn.k_norm", width);
  }

  void mlp(const std::string& prefix, std::int64_t width) {
    projection(prefix + ".gate_proj", width, config_.hidden_size);
    projection(prefix + ".up_proj", width, config_.hidden_size);
    projection(prefix + ".down_proj", config_.hidden_size, width);
  }

  void block() {
    norm("input_layernorm", config_.hidden_size);
    attention();
    norm("post_attention_layernorm", config_.hidden_size);
    if (!config_.has_experts[static_cast<std::size_t>(index_)]) {
      mlp("mlp", config_.intermediate_size);
      return;
    }
    projection(kRouter, config_.num_experts, config_.hidden_size, kBf16);
    for (std::int64_t expert = 0; expert < config_.num_experts; ++expert) {
      mlp(fmt::format("mlp.experts.{}", expert), config_.moe_intermediate_size);
    }
  }

 private:
  const Config& config_;
  std::int64_t index_;
  std::vector<ReleasedWeight>& weights_;
};

}  // namespace

std::vector<ReleasedWeight> released_weights(const Config& config) {
  const tensor::Dims table{config.vocab_size, config.hidden_size};
  std::vector<ReleasedWeight> weights;
  weights.push_back({"model.embed_tokens.weight", table, kBf16});
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    Layer(config, layer, weights).block();
  }
  weights.push_back({"model.norm.weight", {config.hidden_size}, kBf16});
  if (!config.tie_word_embeddings) {
    weights.push_back({fmt::format("{}.weight", kOutput), table, kBf16});
  }
  return weights;
}

std::vector<std::string> plain_modules(const Config& config) {
  std::vector<std::string> modules{std::string(kOutput)};
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    if (config.has_experts[static_cast<std::size_t>(layer)]) {
      modules.push_back(layer_name(layer, kRouter));
    }
  }
  return modules;
}

}  // namespace flyover::models::qwen3_moe
