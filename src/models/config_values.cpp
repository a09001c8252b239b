#include "models/config_values.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "kernels/router.h"

namespace flyover::models {

using base::Json;

namespace {

constexpr double kMostParameters = 1e15;

constexpr std::int64_t kLargestSize = std::int64_t{1} << 31;

/// Beyond them frequencies are no numbers or nothing is rotated.
constexpr double kLargestTheta = 1e15;
constexpr double kLargestRopeFactor = 1e6;

std::int64_t checked_size(std::int64_t value, std::string_view key, std::string_view source) {
  base::require(value > 0 && value < kLargestSize, "{}: \"{}\" must be a positive 31-bit number, found {}", source, key,
                value);
  return value;
}

double checked_positive(double value, std::string_view key, std::string_view source) {
  using Limits = std::numeric_limits<float>;
  base::require(value > 0, "{}: \"{}\" must be positive, found {}", source, key, value);
  base::require(value >= Limits::min() && value <= Limits::max(), "{}: \"{}\" must be a 32-bit number, found {}",
                source, key, value);
  return value;
}

/// How much YaRN sharpens the softmax for a context that is `factor` times longer.
double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

nn::RopeScaling read_yarn(const Json& rope, const std::string& source, nn::RopeScaling scaling) {
  scaling.kind = nn::RopeScaling::Kind::kYarn;
  scaling.original_max_position_embeddings = read_positive(rope, "original_max_position_embeddings", source);
  scaling.beta_fast = read_positive(rope, "beta_fast", source, 32.0);
  scaling.beta_slow = read_positive(rope, "beta_slow", source, 1.0);
  require_value(rope, "truncate", "true", source);
  // Zero counts as absent, as in the implementations that these keys come from.
  const double mscale = base::get_number(rope, "mscale", source, 0.0);
  const double mscale_all = base::get_number(rope, "mscale_all_dim", source, 0.0);
  const double of_all = yarn_mscale(scaling.factor, mscale_all);
  const bool both = mscale != 0.0 && mscale_all != 0.0;
  const double usual = both ? yarn_mscale(scaling.factor, mscale) / of_all : yarn_mscale(scaling.factor, 1.0);
  scaling.attention_factor = read_positive(rope, "attention_factor", source, usual);
  scaling.score_factor = mscale_all != 0.0 ? of_all * of_all : 1.0;
  return scaling;
}

}  // namespace

void check_parameter_count(double count, std::string_view source) {
  base::require(count <= kMostParameters,
                "{}: a model of these sizes would have {:.3g} parameters (supported: up to {:.3g})", source, count,
                kMostParameters);
}

void check_layers_and_heads(std::int64_t layers, std::int64_t heads, std::int64_t head_dim, std::string_view source) {
  base::require(layers <= kMostLayers, "{}: num_hidden_layers {} is more than {}", source, layers, kMostLayers);
  base::require(heads <= kMostHeads, "{}: {} attention heads are not supported (supported: up to {})", source, heads,
                kMostHeads);
  base::require(head_dim <= kLargestHead, "{}: heads of {} elements are not supported (supported: up to {})", source,
                head_dim, kLargestHead);
}

void check_experts(std::int64_t experts, std::int64_t chosen, std::string_view key, std::string_view source) {
  base::require(chosen <= experts, "{}: num_experts_per_tok {} is more than {} {}", source, chosen, key, experts);
  base::require(experts <= kernels::kMaximumExperts && chosen <= kernels::kMaximumChoices,
                "{}: {} {} and num_experts_per_tok {} are not supported (supported: up to {} and {})", source, key,
                experts, chosen, kernels::kMaximumExperts, kernels::kMaximumChoices);
}

std::int64_t read_size(const Json& config, std::string_view key, std::string_view source) {
  return checked_size(base::get_integer(config, key, source), key, source);
}

std::int64_t read_size(const Json& config, std::string_view key, std::string_view source, std::int64_t fallback) {
  return checked_size(base::get_integer(config, key, source, fallback), key, source);
}

double read_positive(const Json& config, std::string_view key, std::string_view source) {
  return checked_positive(base::get_number(config, key, source), key, source);
}

double read_positive(const Json& config, std::string_view key, std::string_view source, double fallback) {
  return checked_positive(base::get_number(config, key, source, fallback), key, source);
}

std::vector<std::int64_t> read_integers(const Json& config, std::string_view key, std::string_view source) {
  std::vector<std::int64_t> values;
  const Json* list = base::find_member(config, key, source);
  if (list == nullptr) {
    return values;
  }
  base::require(list->is_array(), "{}: \"{}\" must be a list of integers", source, key);
  for (const Json& element : *list) {
    base::require(element.is_number_integer() && element.get<std::int64_t>() >= 0,
                  "{}: \"{}\" must be a list of non-negative integers, found {}", source, key, element.dump());
    values.push_back(element.get<std::int64_t>());
  }
  return values;
}

void require_value(const Json& config, std::string_view key, std::string_view supported, std::string_view source) {
  const Json* value = base::find_member(config, key, source);
  base::require(value == nullptr || *value == Json::parse(supported), "{}: \"{}\": {} is not supported (supported: {})",
                source, key, value == nullptr ? "null" : value->dump(), supported);
}

void check_quantization(const Json& config, std::string_view source) {
  const Json* quantization = base::find_member(config, "quantization_config", source);
  if (quantization == nullptr) {
    return;
  }
  const std::string where = fmt::format("{}: quantization_config", source);
  const Json* method = base::find_member(*quantization, "quant_method", where);
  base::require(method != nullptr && *method == "fp8",
                "{}: \"quant_method\": {} is not supported (supported: \"fp8\" in blocks of 128 x 128)", where,
                method == nullptr ? "null" : method->dump());
  require_value(*quantization, "fmt", R"("e4m3")", where);
  require_value(*quantization, "weight_block_size", "[128, 128]", where);
}

std::vector<std::int32_t> read_token_ids(const Json& object, std::string_view key, std::string_view source,
                                         std::int64_t vocabulary) {
  std::vector<std::int32_t> ids;
  const Json* value = base::find_member(object, key, source);
  if (value == nullptr) {
    return ids;
  }
  for (const Json& id : value->is_array() ? *value : Json::array({*value})) {
    base::require(id.is_number_integer(), "{}: \"{}\" must be a token id or a list of them, found {}", source, key,
                  id.dump());
    const auto token = id.get<std::int64_t>();
    base::require(token >= 0 && token < vocabulary,
                  "{}: \"{}\": {} is outside of the vocabulary of {} tokens: correct it, or remove the key", source,
                  key, token, vocabulary);
    ids.push_back(static_cast<std::int32_t>(token));
  }
  return ids;
}

void check_token_ids(const Json& object, std::string_view source, std::int64_t vocabulary) {
  read_token_ids(object, "bos_token_id", source, vocabulary);
  read_token_ids(object, "eos_token_id", source, vocabulary);
}

nn::RopeScaling read_rope_scaling(const Json& rope, const std::string& source, const std::vector<std::string>& types) {
  nn::RopeScaling scaling;
  const std::string type =
      base::get_string(rope, "rope_type", source, base::get_string(rope, "type", source, "default"));
  for (const auto& [name, value] : rope.items()) {
    base::require(!value.is_object(), "{}: \"{}\": parameters of one kind of layers are not supported", source, name);
  }
  if (type == "default") {
    return scaling;
  }
  base::require(std::find(types.begin(), types.end(), type) != types.end(),
                "{}: rope_type \"{}\" is not supported (supported: default, {})", source, type, fmt::join(types, ", "));
  scaling.factor = base::get_number(rope, "factor", source);
  base::require(scaling.factor >= 1.0 && scaling.factor <= kLargestRopeFactor,
                "{}: \"factor\" must be a number from 1 to {}, found {}", source, kLargestRopeFactor, scaling.factor);
  if (type == "linear") {
    scaling.kind = nn::RopeScaling::Kind::kLinear;
    return scaling;
  }
  if (type == "yarn") {
    return read_yarn(rope, source, scaling);
  }
  scaling.kind = nn::RopeScaling::Kind::kLlama3;
  scaling.low_frequency_factor = read_positive(rope, "low_freq_factor", source);
  scaling.high_frequency_factor = read_positive(rope, "high_freq_factor", source);
  scaling.original_max_position_embeddings = read_positive(rope, "original_max_position_embeddings", source);
  base::require(scaling.high_frequency_factor > scaling.low_frequency_factor,
                "{}: high_freq_factor {} must be larger than low_freq_factor {}", source, scaling.high_frequency_factor,
                scaling.low_frequency_factor);
  return scaling;
}

double read_rope_theta(const Json& rope, std::string_view key, std::string_view source, double fallback) {
  const double theta = base::get_number(rope, key, source, fallback);
  base::require(theta > 1.0 && theta <= kLargestTheta, "{}: \"{}\" must be a number above 1 and up to {:g}, found {}",
                source, key, kLargestTheta, theta);
  return theta;
}

RopeConfig read_rope(const Json& config, std::string_view source, const std::vector<std::string>& types) {
  RopeConfig result;
  result.theta = read_rope_theta(config, "rope_theta", source, result.theta);
  const auto read_scaling = [&](const Json& rope, const std::string& where) {
    require_value(rope, "partial_rotary_factor", "1", where);
    result.scaling = read_rope_scaling(rope, where, types);
  };
  if (const Json* rope = base::find_member(config, "rope_scaling", source)) {
    read_scaling(*rope, fmt::format("{}: rope_scaling", source));
  }
  if (const Json* rope = base::find_member(config, "rope_parameters", source)) {
    const std::string where = fmt::format("{}: rope_parameters", source);
    result.theta = read_rope_theta(*rope, "rope_theta", where, result.theta);
    read_scaling(*rope, where);
  }
  return result;
}

}  // namespace flyover::models
