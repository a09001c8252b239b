// Reading config.json: what all families check in the same way.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "nn/rope.h"

namespace flyover::models {

/// Far beyond every model there is; within them no product of sizes overflows and no loop over layers takes long.
inline constexpr std::int64_t kMostLayers = 10'000;
inline constexpr std::int64_t kMostHeads = 16'384;
inline constexpr std::int64_t kLargestHead = 65'536;

/// Throws Error for `count` (about as many parameters as the model will have) beyond 1e15.
void check_parameter_count(double count, std::string_view source);
/// Throws Error for layers or heads beyond the limits above.
void check_layers_and_heads(std::int64_t layers, std::int64_t heads, std::int64_t head_dim, std::string_view source);
/// Throws Error for a choice of experts that no router makes. `key` is what config.json calls the number of experts.
void check_experts(std::int64_t experts, std::int64_t chosen, std::string_view key, std::string_view source);

/// A size: a positive 31-bit number. Throws Error naming file and key.
std::int64_t read_size(const base::Json& config, std::string_view key, std::string_view source);
std::int64_t read_size(const base::Json& config, std::string_view key, std::string_view source, std::int64_t fallback);
/// A positive number, neither too small nor too large for 32 bits. Throws Error naming file and key.
double read_positive(const base::Json& config, std::string_view key, std::string_view source);
double read_positive(const base::Json& config, std::string_view key, std::string_view source, double fallback);
/// A list of non-negative integers; the fallback where the key is absent or null. Throws Error naming file and key.
std::vector<std::int64_t> read_integers(const base::Json& config, std::string_view key, std::string_view source);
/// Throws Error unless the key is absent, null or `supported` (JSON).
void require_value(const base::Json& config, std::string_view key, std::string_view supported, std::string_view source);

/// Throws Error where `quantization_config` speaks of another format than FP8 e4m3 in blocks of 128 x 128. How each
/// weight is stored is told by its tensors; the key may not speak of a format that they cannot have.
void check_quantization(const base::Json& config, std::string_view source);

/// `eos_token_id` and the like, of config.json or generation_config.json: a token of the vocabulary, a list of them, or
/// nothing. Throws Error naming file, key and value.
std::vector<std::int32_t> read_token_ids(const base::Json& object, std::string_view key, std::string_view source,
                                         std::int64_t vocabulary);
/// Throws Error for a bos_token_id or eos_token_id outside of the vocabulary. A pad_token_id may be anything: nothing
/// is padded, and some published models have one beyond their embedding.
void check_token_ids(const base::Json& object, std::string_view source, std::int64_t vocabulary);

/// theta and scaling, from `rope_theta` and `rope_scaling` of older files or `rope_parameters` of newer ones.
struct RopeConfig {
  double theta = 10000.0;
  nn::RopeScaling scaling;
};
/// `types`: those of scalings that the family supports, besides "default". Throws Error naming file and key.
RopeConfig read_rope(const base::Json& config, std::string_view source, const std::vector<std::string>& types);
/// The members of one such object. `source` names it.
nn::RopeScaling read_rope_scaling(const base::Json& rope, const std::string& source,
                                  const std::vector<std::string>& types);
/// `rope_theta` and the like, of the configuration or of such an object.
double read_rope_theta(const base::Json& rope, std::string_view key, std::string_view source, double fallback);

}  // namespace flyover::models
