#include "models/llama/config.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/config_values.h"

namespace flyover::models::llama {
namespace {

using base::Json;

constexpr std::int64_t kLargestSize = (std::int64_t{1} << 31) - 1;

std::int64_t size_of(const Json& config, std::string_view key, std::string_view source,
                     std::int64_t largest = kLargestSize) {
  const std::int64_t value = base::get_integer(config, key, source);
  base::require(value > 0 && value <= largest, "{}: \"{}\" must be a number from 1 to {}, found {}", source, key,
                largest, value);
  return value;
}

double parameter_count(const Config& config) {
  const auto heads = static_cast<double>(2 * config.num_attention_heads + 2 * config.num_key_value_heads);
  const double layer =
      heads * static_cast<double>(config.head_dim) + 3.0 * static_cast<double>(config.intermediate_size);
  return static_cast<double>(config.hidden_size) *
         (2.0 * static_cast<double>(config.vocab_size) + static_cast<double>(config.num_hidden_layers) * layer);
}

void require_value(const Json& config, std::string_view key, const Json& supported, std::string_view source) {
  const Json* value = base::find_member(config, key, source);
  base::require(value == nullptr || *value == supported, "{}: \"{}\": {} is not supported (supported: {})", source, key,
                value == nullptr ? "null" : value->dump(), supported.dump());
}

double positive(const Json& object, std::string_view key, std::string_view source, double fallback) {
  const double value = base::get_number(object, key, source, fallback);
  base::require(value > 0, "{}: \"{}\" must be positive, found {}", source, key, value);
  return value;
}

/// `rope_scaling` of older files; newer ones have the same keys (and rope_theta) in `rope_parameters`.
nn::RopeScaling parse_rope_scaling(const Json& rope, const std::string& source) {
  nn::RopeScaling scaling;
  const std::string type =
      base::get_string(rope, "rope_type", source, base::get_string(rope, "type", source, "default"));
  if (type == "default") {
    return scaling;
  }
  scaling.factor = positive(rope, "factor", source, 1.0);
  if (type == "linear") {
    scaling.kind = nn::RopeScaling::Kind::kLinear;
    return scaling;
  }
  base::require(type == "llama3", "{}: rope_type \"{}\" is not supported (supported: default, linear, llama3)", source,
                type);
  scaling.kind = nn::RopeScaling::Kind::kLlama3;
  scaling.low_frequency_factor = positive(rope, "low_freq_factor", source, 1.0);
  scaling.high_frequency_factor = positive(rope, "high_freq_factor", source, 4.0);
  scaling.original_max_position_embeddings = positive(rope, "original_max_position_embeddings", source, 8192.0);
  base::require(scaling.high_frequency_factor > scaling.low_frequency_factor,
                "{}: high_freq_factor {} must be larger than low_freq_factor {}", source, scaling.high_frequency_factor,
                scaling.low_frequency_factor);
  return scaling;
}

}  // namespace

Config parse_config(const Json& config, std::string_view source) {
  Config result;
  result.vocab_size = size_of(config, "vocab_size", source);
  result.hidden_size = size_of(config, "hidden_size", source);
  result.intermediate_size = size_of(config, "intermediate_size", source);
  result.num_hidden_layers = size_of(config, "num_hidden_layers", source, kMostLayers);
  result.num_attention_heads = size_of(config, "num_attention_heads", source);
  result.num_key_value_heads = base::get_integer(config, "num_key_value_heads", source, result.num_attention_heads);
  base::require(result.num_key_value_heads > 0 && result.num_attention_heads % result.num_key_value_heads == 0,
                "{}: num_attention_heads {} must be a multiple of num_key_value_heads {}", source,
                result.num_attention_heads, result.num_key_value_heads);
  const Json* head_dim = base::find_member(config, "head_dim", source);
  base::require(head_dim != nullptr || result.hidden_size % result.num_attention_heads == 0,
                "{}: hidden_size {} must be a multiple of num_attention_heads {} where head_dim is not given", source,
                result.hidden_size, result.num_attention_heads);
  result.head_dim = head_dim != nullptr ? size_of(config, "head_dim", source, kLargestHead)
                                        : result.hidden_size / result.num_attention_heads;
  base::require(result.head_dim <= kLargestHead, "{}: heads of {} elements are not supported (supported: up to {})",
                source, result.head_dim, kLargestHead);
  base::require(result.head_dim % 2 == 0, "{}: an odd head_dim {} cannot be rotated in pairs", source, result.head_dim);
  check_parameter_count(parameter_count(result), source);
  result.max_position_embeddings = base::get_integer(config, "max_position_embeddings", source, 2048);
  result.rms_norm_eps = positive(config, "rms_norm_eps", source, 1e-6);
  result.tie_word_embeddings = base::get_boolean(config, "tie_word_embeddings", source, false);
  result.attention_bias = base::get_boolean(config, "attention_bias", source, false);
  result.initializer_range = positive(config, "initializer_range", source, 0.02);
  require_value(config, "hidden_act", "silu", source);
  require_value(config, "mlp_bias", false, source);
  require_value(config, "rope_interleaved", false, source);
  require_value(config, "partial_rotary_factor", 1.0, source);
  require_value(config, "quantization_config", nullptr, source);
  require_value(config, "sliding_window", nullptr, source);
  const double dropout = base::get_number(config, "attention_dropout", source, 0.0);
  base::require(dropout == 0.0, "{}: \"attention_dropout\": {} is not supported (supported: 0)", source, dropout);

  result.rope_theta = positive(config, "rope_theta", source, 10000.0);
  if (const Json* rope = base::find_member(config, "rope_scaling", source)) {
    result.rope_scaling = parse_rope_scaling(*rope, fmt::format("{}: rope_scaling", source));
  }
  if (const Json* rope = base::find_member(config, "rope_parameters", source)) {
    const std::string where = fmt::format("{}: rope_parameters", source);
    result.rope_theta = positive(*rope, "rope_theta", where, result.rope_theta);
    result.rope_scaling = parse_rope_scaling(*rope, where);
  }
  return result;
}

}  // namespace flyover::models::llama
