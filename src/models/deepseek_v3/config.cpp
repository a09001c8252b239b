#include "models/deepseek_v3/config.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "kernels/router.h"
#include "models/config_values.h"
#include "models/unsupported_keys.h"

namespace flyover::models::deepseek_v3 {
namespace {

using base::Json;

void check_sizes(const Config& config, std::string_view source) {
  check_layers_and_heads(config.num_hidden_layers, config.num_attention_heads,
                         std::max(config.qk_head_dim(), config.v_head_dim), source);
  base::require(config.first_k_dense_replace >= 0, "{}: first_k_dense_replace must not be negative, found {}", source,
                config.first_k_dense_replace);
  base::require(config.qk_rope_head_dim % 2 == 0, "{}: an odd qk_rope_head_dim {} cannot be rotated in pairs", source,
                config.qk_rope_head_dim);
  base::require(config.num_nextn_predict_layers >= 0 && config.num_nextn_predict_layers <= 1,
                "{}: num_nextn_predict_layers {} is not supported (supported: 0, 1)", source,
                config.num_nextn_predict_layers);
  const auto size = [](std::int64_t value) { return static_cast<double>(value); };
  const double heads = size(config.num_attention_heads), hidden = size(config.hidden_size);
  const double widths = size(config.qk_head_dim()) + size(config.qk_nope_head_dim) + 2.0 * size(config.v_head_dim);
  const double sources =
      std::max(hidden, size(config.q_lora_rank)) + size(config.kv_lora_rank) + size(config.qk_rope_head_dim);
  const double experts = size(config.n_routed_experts) + size(config.n_shared_experts);
  const double layer = heads * widths * sources + hidden * (2.0 * sources + 3.0 * size(config.intermediate_size) +
                                                            experts * (3.0 * size(config.moe_intermediate_size) + 1.0));
  check_parameter_count(size(config.num_hidden_layers + 1) * layer + 2.0 * hidden * (size(config.vocab_size) + hidden),
                        source);
}

void check_routing(const Config& config, std::string_view source) {
  base::require(config.n_routed_experts <= kernels::kMaximumExperts,
                "{}: n_routed_experts {} is more than {}, which is supported", source, config.n_routed_experts,
                kernels::kMaximumExperts);
  base::require(config.n_routed_experts % config.n_group == 0,
                "{}: n_routed_experts {} must be a multiple of n_group {}", source, config.n_routed_experts,
                config.n_group);
  base::require(config.topk_group <= config.n_group, "{}: topk_group {} is more than n_group {}", source,
                config.topk_group, config.n_group);
  const std::int64_t candidates = config.n_routed_experts / config.n_group * config.topk_group;
  base::require(config.num_experts_per_tok <= std::min(candidates, kernels::kMaximumChoices),
                "{}: num_experts_per_tok {} is more than the {} experts of topk_group {} groups, or than {}", source,
                config.num_experts_per_tok, candidates, config.topk_group, kernels::kMaximumChoices);
}

}  // namespace

Config parse_config(const Json& config, std::string_view source) {
  Config result;
  const auto size = [&](std::string_view key) { return read_size(config, key, source); };
  result.vocab_size = size("vocab_size");
  result.hidden_size = size("hidden_size");
  result.intermediate_size = size("intermediate_size");
  result.moe_intermediate_size = size("moe_intermediate_size");
  result.num_hidden_layers = size("num_hidden_layers");
  result.first_k_dense_replace = base::get_integer(config, "first_k_dense_replace", source);
  result.num_attention_heads = size("num_attention_heads");
  result.q_lora_rank = config.contains("q_lora_rank") && config["q_lora_rank"].is_null() ? 0 : size("q_lora_rank");
  result.kv_lora_rank = size("kv_lora_rank");
  result.qk_nope_head_dim = size("qk_nope_head_dim");
  result.qk_rope_head_dim = size("qk_rope_head_dim");
  result.v_head_dim = size("v_head_dim");
  result.n_routed_experts = size("n_routed_experts");
  result.n_shared_experts = read_size(config, "n_shared_experts", source, 1);
  result.num_experts_per_tok = size("num_experts_per_tok");
  result.n_group = size("n_group");
  result.topk_group = size("topk_group");
  result.norm_topk_prob = base::get_boolean(config, "norm_topk_prob", source, true);
  result.routed_scaling_factor = read_positive(config, "routed_scaling_factor", source);
  result.num_nextn_predict_layers = base::get_integer(config, "num_nextn_predict_layers", source, 0);
  result.max_position_embeddings = read_size(config, "max_position_embeddings", source, 4096);
  result.rms_norm_eps = read_positive(config, "rms_norm_eps", source, 1e-6);
  result.rope_interleave = base::get_boolean(config, "rope_interleave", source, true);
  result.initializer_range = read_positive(config, "initializer_range", source, 0.02);
  check_sizes(result, source);
  check_routing(result, source);
  require_value(config, "num_key_value_heads", std::to_string(result.num_attention_heads), source);
  refuse_unsupported_keys(config, source, {"deepseek_v3", result.qk_head_dim()});
  check_quantization(config, source);
  require_value(config, "head_dim", std::to_string(result.qk_rope_head_dim), source);
  require_value(config, "qk_head_dim", std::to_string(result.qk_head_dim()), source);
  require_value(config, "index_topk", "null", source);
  require_value(config, "scoring_func", R"("sigmoid")", source);
  require_value(config, "topk_method", R"("noaux_tc")", source);
  require_value(config, "moe_layer_freq", "1", source);
  require_value(config, "attention_bias", "false", source);
  require_value(config, "tie_word_embeddings", "false", source);
  check_token_ids(config, source, result.vocab_size);
  const RopeConfig rope = read_rope(config, source, {"yarn"});
  result.rope_theta = rope.theta;
  result.rope_scaling = rope.scaling;
  return result;
}

}  // namespace flyover::models::deepseek_v3
