#include "models/llama/config.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/config_values.h"

namespace flyover::models::llama {

Config parse_config(const base::Json& config, std::string_view source) {
  Config result;
  result.vocab_size = read_size(config, "vocab_size", source);
  result.hidden_size = read_size(config, "hidden_size", source);
  result.intermediate_size = read_size(config, "intermediate_size", source);
  result.num_hidden_layers = read_size(config, "num_hidden_layers", source);
  result.num_attention_heads = read_size(config, "num_attention_heads", source);
  result.num_key_value_heads = base::get_integer(config, "num_key_value_heads", source, result.num_attention_heads);
  base::require(result.num_key_value_heads > 0 && result.num_attention_heads % result.num_key_value_heads == 0,
                "{}: num_attention_heads {} must be a multiple of num_key_value_heads {}", source,
                result.num_attention_heads, result.num_key_value_heads);
  const base::Json* head_dim = base::find_member(config, "head_dim", source);
  base::require(head_dim != nullptr || result.hidden_size % result.num_attention_heads == 0,
                "{}: hidden_size {} must be a multiple of num_attention_heads {} where head_dim is not given", source,
                result.hidden_size, result.num_attention_heads);
  result.head_dim =
      head_dim != nullptr ? read_size(config, "head_dim", source) : result.hidden_size / result.num_attention_heads;
  base::require(result.head_dim % 2 == 0, "{}: an odd head_dim {} cannot be rotated in pairs", source, result.head_dim);
  result.max_position_embeddings = base::get_integer(config, "max_position_embeddings", source, 2048);
  result.rms_norm_eps = read_positive(config, "rms_norm_eps", source, 1e-6);
  result.tie_word_embeddings = base::get_boolean(config, "tie_word_embeddings", source, false);
  result.attention_bias = base::get_boolean(config, "attention_bias", source, false);
  result.initializer_range = read_positive(config, "initializer_range", source, 0.02);
  require_value(config, "hidden_act", R"("silu")", source);
  require_value(config, "mlp_bias", "false", source);
  require_value(config, "rope_interleaved", "false", source);
  require_value(config, "partial_rotary_factor", "1.0", source);
  require_value(config, "quantization_config", "null", source);
  require_value(config, "sliding_window", "null", source);
  const double dropout = base::get_number(config, "attention_dropout", source, 0.0);
  base::require(dropout == 0.0, "{}: \"attention_dropout\": {} is not supported (supported: 0)", source, dropout);

  const RopeConfig rope = read_rope(config, source);
  result.rope_theta = rope.theta;
  result.rope_scaling = rope.scaling;
  base::require(result.rope_scaling.kind != nn::RopeScaling::Kind::kYarn,
                "{}: rope_type \"yarn\" is not supported in this family (supported: default, linear, llama3)", source);
  return result;
}

}  // namespace flyover::models::llama
