#include "models/llama/config.h"

#include "base/error.h"
#include "models/config_values.h"
#include "models/unsupported_keys.h"

namespace flyover::models::llama {
namespace {

using base::Json;

double parameter_count(const Config& config) {
  const auto heads = static_cast<double>(2 * config.num_attention_heads + 2 * config.num_key_value_heads);
  const double layer =
      heads * static_cast<double>(config.head_dim) + 3.0 * static_cast<double>(config.intermediate_size);
  return static_cast<double>(config.hidden_size) *
         (2.0 * static_cast<double>(config.vocab_size) + static_cast<double>(config.num_hidden_layers) * layer);
}

}  // namespace

Config parse_config(const Json& config, std::string_view source) {
  Config result;
  result.vocab_size = read_size(config, "vocab_size", source);
  result.hidden_size = read_size(config, "hidden_size", source);
  result.intermediate_size = read_size(config, "intermediate_size", source);
  result.num_hidden_layers = read_size(config, "num_hidden_layers", source);
  result.num_attention_heads = read_size(config, "num_attention_heads", source);
  result.num_key_value_heads = read_size(config, "num_key_value_heads", source, result.num_attention_heads);
  base::require(result.num_attention_heads % result.num_key_value_heads == 0,
                "{}: num_attention_heads {} must be a multiple of num_key_value_heads {}", source,
                result.num_attention_heads, result.num_key_value_heads);
  const bool has_head_dim = base::find_member(config, "head_dim", source) != nullptr;
  base::require(has_head_dim || result.hidden_size % result.num_attention_heads == 0,
                "{}: hidden_size {} must be a multiple of num_attention_heads {} where head_dim is not given", source,
                result.hidden_size, result.num_attention_heads);
  result.head_dim =
      has_head_dim ? read_size(config, "head_dim", source) : result.hidden_size / result.num_attention_heads;
  check_layers_and_heads(result.num_hidden_layers, result.num_attention_heads, result.head_dim, source);
  base::require(result.head_dim % 2 == 0, "{}: an odd head_dim {} cannot be rotated in pairs", source, result.head_dim);
  check_parameter_count(parameter_count(result), source);
  result.max_position_embeddings = read_size(config, "max_position_embeddings", source, 2048);
  result.rms_norm_eps = read_positive(config, "rms_norm_eps", source, 1e-6);
  result.tie_word_embeddings = base::get_boolean(config, "tie_word_embeddings", source, false);
  result.attention_bias = base::get_boolean(config, "attention_bias", source, false);
  result.initializer_range = read_positive(config, "initializer_range", source, 0.02);
  refuse_unsupported_keys(config, source, {"llama", result.head_dim});
  require_value(config, "num_local_experts", "null", source);
  require_value(config, "quantization_config", "null", source);
  check_token_ids(config, source, result.vocab_size);
  const RopeConfig rope = read_rope(config, source, {"linear", "llama3"});
  result.rope_theta = rope.theta;
  result.rope_scaling = rope.scaling;
  return result;
}

}  // namespace flyover::models::llama
