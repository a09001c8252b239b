// config.json of Qwen3-MoE (Qwen team, "Qwen3 Technical Report", 2025).
#pragma once

#include <cstdint>
#include <vector>

#include "base/json.h"
#include "nn/rope.h"

namespace flyover::models::qwen3_moe {

/// The values that decide the computation.
struct Config {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;      ///< of the layers without experts
  std::int64_t moe_intermediate_size = 0;  ///< of each expert
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t num_experts = 0;
  std::int64_t num_experts_per_tok = 0;
  std::vector<bool> has_experts;  ///< per layer
  bool norm_topk_prob = false;
  std::int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0.0;
  double rope_theta = 0.0;
  nn::RopeScaling rope_scaling;
  bool tie_word_embeddings = false;
  bool attention_bias = false;
  double initializer_range = 0.02;
};

/// Reads and validates; `source` names the file. Throws Error naming the key for a value that is missing, out of range
/// or not supported. Keys that do not change the computation are not looked at.
Config parse_config(const base::Json& config, std::string_view source);

}  // namespace flyover::models::qwen3_moe
