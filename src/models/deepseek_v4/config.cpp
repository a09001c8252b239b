#include "models/deepseek_v4/config.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/config_values.h"
#include "models/unsupported_keys.h"

namespace flyover::models::deepseek_v4 {
namespace {

using base::Json;

constexpr std::int64_t kOverlappingRatio = 4;
/// How near to the identity the streams are mixed at the beginning. The report does not say; softmax and Sinkhorn make
/// 0.99 of it with 4 streams.
constexpr double kInitialMixing = 6.0;
/// "Gating factor" of the hyper-connections at the beginning (mHC paper, appendix).
constexpr double kInitialScale = 0.01;
constexpr double kSwigluLimit = 10.0;
constexpr std::int64_t kLargestRatio = (std::int64_t{1} << 20) - 1;

std::vector<std::string> read_words(const Json& config, std::string_view key, std::string_view source) {
  std::vector<std::string> words;
  if (const Json* list = base::find_member(config, key, source)) {
    base::require(list->is_array(), "{}: \"{}\" must be a list of names", source, key);
    for (const Json& element : *list) {
      base::require(element.is_string(), "{}: \"{}\" must be a list of names, found {}", source, key, element.dump());
      words.push_back(element.get<std::string>());
    }
  }
  return words;
}

std::int64_t checked_ratio(std::int64_t ratio, std::string_view where) {
  base::require(ratio != 1 && ratio <= kLargestRatio, "{}: {} is not a ratio (0, or from 2 to {})", where, ratio,
                kLargestRatio);
  return ratio;
}

/// `layer_types` with `compress_rates`, as transformers writes them.
std::vector<nn::CompressionKind> kinds_of_types(const std::vector<std::string>& types, const Json& config,
                                                std::string_view source) {
  const Json none = Json::object();
  const Json* rates = base::find_member(config, "compress_rates", source);
  const std::string where = std::string(source) + ": compress_rates";
  const auto rate = [&](std::string_view type, std::int64_t usual) {
    return checked_ratio(read_size(rates != nullptr ? *rates : none, type, where, usual),
                         fmt::format("{}: {}", where, type));
  };
  const std::map<std::string, nn::CompressionKind> known = {
      {"sliding_attention", {}},
      {"compressed_sparse_attention", {rate("compressed_sparse_attention", kOverlappingRatio), true}},
      {"heavily_compressed_attention", {rate("heavily_compressed_attention", 128), false}}};
  std::vector<nn::CompressionKind> kinds;
  for (const std::string& type : types) {
    const auto kind = known.find(type);
    base::require(kind != known.end(),
                  "{}: layer_types: \"{}\" is not known (known: sliding_attention, compressed_sparse_attention, "
                  "heavily_compressed_attention)",
                  source, type);
    kinds.push_back(kind->second);
  }
  return kinds;
}

/// `compress_ratios` of the published files: 0 = window, 4 = overlapping with an indexer, others = all entries.
std::vector<nn::CompressionKind> kinds_of_ratios(const std::vector<std::int64_t>& ratios, std::string_view source) {
  std::vector<nn::CompressionKind> kinds;
  for (const std::int64_t ratio : ratios) {
    kinds.push_back({checked_ratio(ratio, fmt::format("{}: compress_ratios", source)), ratio == kOverlappingRatio});
  }
  return kinds;
}

/// Throws Error where both lists are given and say different things of a layer.
void check_agreement(const std::vector<nn::CompressionKind>& of_types,
                     const std::vector<nn::CompressionKind>& of_ratios, const std::vector<std::string>& types,
                     std::string_view source) {
  for (std::size_t layer = 0; layer < std::min(of_types.size(), of_ratios.size()); ++layer) {
    base::require(of_types[layer] == of_ratios[layer],
                  "{}: layer {}: \"layer_types\" says {} (a ratio of {}), \"compress_ratios\" says {}; correct one of "
                  "them, or leave one out",
                  source, layer, types[layer], of_types[layer].ratio, of_ratios[layer].ratio);
  }
}

std::vector<nn::CompressionKind> read_compression(const Json& config, std::string_view source, std::int64_t layers,
                                                  std::int64_t predictions) {
  const std::vector<std::string> types = read_words(config, "layer_types", source);
  const std::vector<std::int64_t> ratios = read_integers(config, "compress_ratios", source);
  const char* const key = types.empty() ? "compress_ratios" : "layer_types";
  base::require(!types.empty() || base::find_member(config, "compress_ratios", source) != nullptr,
                "{}: \"compress_ratios\" is missing", source);
  std::vector<nn::CompressionKind> kinds = kinds_of_ratios(ratios, source);
  if (!types.empty()) {
    const std::vector<nn::CompressionKind> of_types = kinds_of_types(types, config, source);
    check_agreement(of_types, kinds, types, source);
    kinds = of_types;
  }
  const auto count = static_cast<std::int64_t>(kinds.size());
  base::require(count == layers || count == layers + predictions,
                "{}: \"{}\" has {} entries for {} layers and {} prediction blocks", source, key, count, layers,
                predictions);
  kinds.resize(static_cast<std::size_t>(layers + predictions));
  base::require(std::all_of(kinds.begin() + layers, kinds.end(), [](const auto& kind) { return kind.ratio == 0; }),
                "{}: \"{}\": a prediction block with compression is not supported", source, key);
  return kinds;
}

std::vector<bool> read_hash_routing(const Json& config, std::string_view source, std::int64_t layers) {
  const std::vector<std::string> types = read_words(config, "mlp_layer_types", source);
  std::vector<bool> result;
  if (types.empty()) {
    const std::int64_t count = base::get_integer(config, "num_hash_layers", source, 3);
    base::require(count >= 0, "{}: \"num_hash_layers\" must not be negative, found {}", source, count);
    for (std::int64_t layer = 0; layer < layers; ++layer) {
      result.push_back(layer < count);
    }
    return result;
  }
  base::require(static_cast<std::int64_t>(types.size()) == layers,
                "{}: \"mlp_layer_types\" has {} entries for {} layers", source, types.size(), layers);
  for (const std::string& type : types) {
    base::require(type == "hash_moe" || type == "moe",
                  "{}: mlp_layer_types: \"{}\" is not known (known: hash_moe, moe)", source, type);
    result.push_back(type == "hash_moe");
  }
  return result;
}

/// Objects of RoPE parameters give the part of a head that is rotated once more.
void check_rotated_part(const Json& rope, const std::string& where, const Config& config) {
  const auto rotated = static_cast<double>(config.qk_rope_head_dim), head_dim = static_cast<double>(config.head_dim);
  const double part = base::get_number(rope, "partial_rotary_factor", where, rotated / head_dim);
  base::require(std::abs(part * head_dim - rotated) < 0.5,
                "{}: \"partial_rotary_factor\" {} of head_dim {} is not qk_rope_head_dim {}", where, part,
                config.head_dim, config.qk_rope_head_dim);
}

void read_compress_scaling(const Json& rope, const std::string& where, Config& result) {
  check_rotated_part(rope, where, result);
  result.compress_scaling = read_rope_scaling(rope, where, {"yarn"});
  // The published model scales frequencies alone, whatever YaRN's own factor for the attention would be.
  require_value(rope, "attention_factor", "1", where);
  result.compress_scaling.attention_factor = 1.0;
}

void read_rope_of_kinds(const Json& config, std::string_view source, Config& result) {
  result.rope_theta = read_rope_theta(config, "rope_theta", source, 10000.0);
  result.compress_rope_theta = read_rope_theta(config, "compress_rope_theta", source, 160000.0);
  const Json* const parameters = base::find_member(config, "rope_parameters", source);
  if (parameters == nullptr) {
    if (const Json* scaling = base::find_member(config, "rope_scaling", source)) {
      read_compress_scaling(*scaling, fmt::format("{}: rope_scaling", source), result);
    }
    return;
  }
  const std::string where = fmt::format("{}: rope_parameters", source);
  const Json* const main = base::find_member(*parameters, "main", where);
  const Json* const compress = base::find_member(*parameters, "compress", where);
  if (main == nullptr && compress == nullptr) {  // as in rope_scaling
    read_compress_scaling(*parameters, where, result);
  }
  if (main != nullptr) {
    check_rotated_part(*main, where + ": main", result);
    result.rope_theta = read_rope_theta(*main, "rope_theta", where + ": main", result.rope_theta);
    require_value(*main, "rope_type", R"("default")", where + ": main");
  }
  if (compress != nullptr) {
    result.compress_rope_theta =
        read_rope_theta(*compress, "rope_theta", where + ": compress", result.compress_rope_theta);
    read_compress_scaling(*compress, where + ": compress", result);
  }
}

/// As many as the model would have if each layer were compressed with an indexer, the prediction block as well.
double most_parameters(const Config& config) {
  const auto number = [](std::int64_t value) { return static_cast<double>(value); };
  const double hidden = number(config.hidden_size), streams = number(config.hc_mult);
  const double heads = number(config.num_attention_heads) * number(config.head_dim);
  const double attention =
      number(config.q_lora_rank) * (hidden + heads) + number(config.head_dim) * hidden +
      number(config.o_lora_rank) * (heads + number(config.o_groups) * hidden) +
      number(config.index_n_heads) * (number(config.index_head_dim) * number(config.q_lora_rank) + hidden);
  // Values and gates, in two roles each; then the logits of each position in a window.
  const double compressors =
      number(config.head_dim + config.index_head_dim) * (4.0 * hidden + 2.0 * number(kLargestRatio));
  const double mixture =
      number(config.n_routed_experts + 1) * hidden * (3.0 * number(config.moe_intermediate_size) + 1.0);
  const double sites = 2.0 * number(kernels::hyper_connection_coefficients(config.hc_mult)) * streams * hidden;
  return 2.0 * number(config.vocab_size) * hidden + 2.0 * hidden * hidden +
         number(config.num_hidden_layers + 1) * (attention + compressors + mixture + sites);
}

void check_sizes(const Config& config, std::string_view source) {
  check_layers_and_heads(config.num_hidden_layers, std::max(config.num_attention_heads, config.index_n_heads),
                         std::max(config.head_dim, config.index_head_dim), source);
  check_experts(config.n_routed_experts, config.num_experts_per_tok, "n_routed_experts", source);
  base::require(config.hc_sinkhorn_iters <= 1000, "{}: hc_sinkhorn_iters {} is more than 1000", source,
                config.hc_sinkhorn_iters);
  base::require(config.qk_rope_head_dim % 2 == 0 && config.qk_rope_head_dim <= config.head_dim &&
                    config.qk_rope_head_dim <= config.index_head_dim,
                "{}: qk_rope_head_dim {} must be even and at most head_dim {} and index_head_dim {}", source,
                config.qk_rope_head_dim, config.head_dim, config.index_head_dim);
  base::require(config.num_attention_heads % config.o_groups == 0,
                "{}: num_attention_heads {} must be a multiple of o_groups {}", source, config.num_attention_heads,
                config.o_groups);
  base::require(config.hc_mult <= kernels::kMaximumStreams, "{}: hc_mult {} is more than {}, which is supported",
                source, config.hc_mult, kernels::kMaximumStreams);
  check_parameter_count(most_parameters(config), source);
  base::require(config.num_nextn_predict_layers >= 0 && config.num_nextn_predict_layers <= 1,
                "{}: num_nextn_predict_layers {} is not supported (supported: 0, 1)", source,
                config.num_nextn_predict_layers);
}

/// A value that hyper-connections begin with.
double read_initial(const Json& config, std::string_view key, std::string_view source, double fallback) {
  constexpr double kLargest = 80.0;  // exponentials of the logits stay finite in f32
  const double value = base::get_number(config, key, source, fallback);
  base::require(value >= 0 && value <= kLargest, "{}: \"{}\" must be a number from 0 to {}, found {}", source, key,
                kLargest, value);
  return value;
}

/// How many elements of a head are rotated: given as such, or as a part of the head.
std::int64_t read_rotated(const Json& config, std::string_view source, std::int64_t head_dim) {
  if (base::find_member(config, "qk_rope_head_dim", source) != nullptr) {
    return read_size(config, "qk_rope_head_dim", source);
  }
  const double part = read_positive(config, "partial_rotary_factor", source, 0.125);
  base::require(part <= 1.0, "{}: \"partial_rotary_factor\" must be at most 1, found {}", source, part);
  const std::int64_t rotated = std::llround(part * static_cast<double>(head_dim));
  base::require(rotated > 0 && rotated % 2 == 0,
                "{}: \"partial_rotary_factor\" {} of head_dim {} is {}, expected an even number of elements; set "
                "\"qk_rope_head_dim\"",
                source, part, head_dim, rotated);
  return rotated;
}

/// The clamp of the experts. null is neither the published 10 nor the 0 by which the published code means none: the
/// configuration of transformers refuses it as well.
double read_swiglu_limit(const Json& config, std::string_view source) {
  const auto given = config.find("swiglu_limit");
  base::require(given == config.end() || !given->is_null(),
                "{}: \"swiglu_limit\" must be a positive number, found null; leave it out for the published {}", source,
                kSwigluLimit);
  return read_positive(config, "swiglu_limit", source, kSwigluLimit);
}

/// Models whose experts were trained for FP4 had their indexers' queries and keys rounded as well.
bool read_fp4_indexer(const Json& config, std::string_view source, const Config& result) {
  const std::string type = base::get_string(config, "expert_dtype", source, "fp8");
  base::require(type == "fp4" || type == "fp8", "{}: \"expert_dtype\": \"{}\" is not supported (supported: fp4, fp8)",
                source, type);
  if (type != "fp4") {
    return false;
  }
  const std::int64_t width = result.index_head_dim;
  const bool power_of_two = (width & (width - 1)) == 0;
  base::require(std::none_of(result.compression.begin(), result.compression.end(),
                             [](const nn::CompressionKind& kind) { return kind.overlap; }) ||
                    (power_of_two && width >= kernels::kFp4BlockWidth && width <= kernels::kMaximumHadamardWidth),
                "{}: index_head_dim {} must be a power of two from {} to {} where \"expert_dtype\" is \"fp4\"", source,
                width, kernels::kFp4BlockWidth, kernels::kMaximumHadamardWidth);
  return true;
}

}  // namespace

Config parse_config(const Json& config, std::string_view source) {
  Config result;
  const auto size = [&](std::string_view key) { return read_size(config, key, source); };
  result.vocab_size = size("vocab_size");
  result.hidden_size = size("hidden_size");
  result.num_hidden_layers = size("num_hidden_layers");
  result.num_attention_heads = size("num_attention_heads");
  result.head_dim = size("head_dim");
  result.qk_rope_head_dim = read_rotated(config, source, result.head_dim);
  result.q_lora_rank = size("q_lora_rank");
  result.o_groups = size("o_groups");
  result.o_lora_rank = size("o_lora_rank");
  result.sliding_window = size("sliding_window");
  result.index_n_heads = size("index_n_heads");
  result.index_head_dim = size("index_head_dim");
  result.index_topk = size("index_topk");
  result.n_routed_experts = size("n_routed_experts");
  result.num_experts_per_tok = size("num_experts_per_tok");
  result.moe_intermediate_size = size("moe_intermediate_size");
  result.routed_scaling_factor = read_positive(config, "routed_scaling_factor", source);
  result.swiglu_limit = read_swiglu_limit(config, source);
  result.hc_mult = size("hc_mult");
  result.hc_sinkhorn_iters = read_size(config, "hc_sinkhorn_iters", source, 20);
  result.hc_eps = read_positive(config, "hc_eps", source, 1e-6);
  result.hc_initial_mixing = read_initial(config, "hc_initial_mixing", source, kInitialMixing);
  result.hc_initial_scale = read_initial(config, "hc_initial_scale", source, kInitialScale);
  result.num_nextn_predict_layers = base::get_integer(config, "num_nextn_predict_layers", source, 0);
  result.max_position_embeddings = read_size(config, "max_position_embeddings", source, 1048576);
  result.rms_norm_eps = read_positive(config, "rms_norm_eps", source, 1e-6);
  result.initializer_range = read_positive(config, "initializer_range", source, 0.02);
  check_sizes(result, source);
  result.compression = read_compression(config, source, result.num_hidden_layers, result.num_nextn_predict_layers);
  result.hash_routing = read_hash_routing(config, source, result.num_hidden_layers);
  result.fp4_indexer = read_fp4_indexer(config, source, result);
  check_quantization(config, source);
  read_rope_of_kinds(config, source, result);
  refuse_unsupported_keys(config, source,
                          {"deepseek_v4", result.head_dim, {"layer_types", "partial_rotary_factor", "sliding_window"}});
  require_value(config, "scoring_func", R"("sqrtsoftplus")", source);
  require_value(config, "topk_method", R"("noaux_tc")", source);
  require_value(config, "norm_topk_prob", "true", source);
  require_value(config, "n_shared_experts", "1", source);
  require_value(config, "num_key_value_heads", "1", source);
  require_value(config, "tie_word_embeddings", "false", source);
  require_value(config, "attention_bias", "false", source);
  require_value(config, "compress_rate_csa", "null", source);
  require_value(config, "compress_rate_hca", "null", source);
  require_value(config, "n_group", "1", source);
  require_value(config, "topk_group", "1", source);
  require_value(config, "router_jitter_noise", "0", source);
  // Other names that transformers has for the same sizes.
  require_value(config, "intermediate_size", std::to_string(result.moe_intermediate_size), source);
  require_value(config, "num_local_experts", std::to_string(result.n_routed_experts), source);
  check_token_ids(config, source, result.vocab_size);
  return result;
}

}  // namespace flyover::models::deepseek_v4
