#include "models/qwen3_moe/config.h"

#include <algorithm>

#include "base/error.h"
#include "models/config_values.h"
#include "models/unsupported_keys.h"

namespace flyover::models::qwen3_moe {
namespace {

/// Every decoder_sparse_step-th layer has experts, unless it is listed in mlp_only_layers.
std::vector<bool> layers_with_experts(const base::Json& config, std::string_view source, std::int64_t layers) {
  const std::int64_t step = read_size(config, "decoder_sparse_step", source, 1);
  const std::vector<std::int64_t> dense = read_integers(config, "mlp_only_layers", source);
  std::vector<bool> result;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    const bool listed = std::find(dense.begin(), dense.end(), layer) != dense.end();
    result.push_back(!listed && (layer + 1) % step == 0);
  }
  return result;
}

}  // namespace

Config parse_config(const base::Json& config, std::string_view source) {
  Config result;
  result.vocab_size = read_size(config, "vocab_size", source);
  result.hidden_size = read_size(config, "hidden_size", source);
  result.intermediate_size = read_size(config, "intermediate_size", source);
  result.moe_intermediate_size = read_size(config, "moe_intermediate_size", source);
  result.num_hidden_layers = read_size(config, "num_hidden_layers", source);
  result.num_attention_heads = read_size(config, "num_attention_heads", source);
  result.num_key_value_heads = read_size(config, "num_key_value_heads", source);
  base::require(result.num_attention_heads % result.num_key_value_heads == 0,
                "{}: num_attention_heads {} must be a multiple of num_key_value_heads {}", source,
                result.num_attention_heads, result.num_key_value_heads);
  result.head_dim =
      read_size(config, "head_dim", source, std::max<std::int64_t>(1, result.hidden_size / result.num_attention_heads));
  base::require(result.head_dim % 2 == 0, "{}: an odd head_dim {} cannot be rotated in pairs", source, result.head_dim);
  result.num_experts = read_size(
      config, base::find_member(config, "num_experts", source) != nullptr ? "num_experts" : "num_local_experts",
      source);
  result.num_experts_per_tok = read_size(config, "num_experts_per_tok", source);
  check_layers_and_heads(result.num_hidden_layers, result.num_attention_heads, result.head_dim, source);
  check_experts(result.num_experts, result.num_experts_per_tok, "num_experts", source);
  const double layer =
      static_cast<double>(2 * result.num_attention_heads + 2 * result.num_key_value_heads) *
          static_cast<double>(result.head_dim) +
      3.0 * static_cast<double>(result.intermediate_size) +
      3.0 * static_cast<double>(result.num_experts) * static_cast<double>(result.moe_intermediate_size);
  check_parameter_count(
      static_cast<double>(result.hidden_size) *
          (2.0 * static_cast<double>(result.vocab_size) + static_cast<double>(result.num_hidden_layers) * layer),
      source);
  result.has_experts = layers_with_experts(config, source, result.num_hidden_layers);
  result.norm_topk_prob = base::get_boolean(config, "norm_topk_prob", source, false);
  result.max_position_embeddings = read_size(config, "max_position_embeddings", source, 32768);
  result.rms_norm_eps = read_positive(config, "rms_norm_eps", source, 1e-6);
  result.tie_word_embeddings = base::get_boolean(config, "tie_word_embeddings", source, false);
  result.attention_bias = base::get_boolean(config, "attention_bias", source, false);
  result.initializer_range = read_positive(config, "initializer_range", source, 0.02);
  refuse_unsupported_keys(config, source, {"qwen3_moe", result.head_dim, {"sliding_window"}});
  check_quantization(config, source);
  require_value(config, "shared_expert_intermediate_size", "0", source);
  check_token_ids(config, source, result.vocab_size);
  const RopeConfig rope = read_rope(config, source, {"linear", "llama3", "yarn"});
  result.rope_theta = rope.theta;
  result.rope_scaling = rope.scaling;
  return result;
}

}  // namespace flyover::models::qwen3_moe
