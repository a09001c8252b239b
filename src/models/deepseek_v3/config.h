// config.json of DeepSeek-V3 (DeepSeek-AI, "DeepSeek-V3 Technical Report", 2024) and of models of its shape.
#pragma once

#include <cstdint>

#include "base/json.h"
#include "nn/rope.h"

namespace flyover::models::deepseek_v3 {

/// The values that decide the computation, under the names of config.json.
struct Config {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;      ///< of the layers without experts
  std::int64_t moe_intermediate_size = 0;  ///< of each expert
  std::int64_t num_hidden_layers = 0;
  std::int64_t first_k_dense_replace = 0;  ///< layers before this one have no experts
  std::int64_t num_attention_heads = 0;
  std::int64_t q_lora_rank = 0;  ///< 0 = queries come straight from the hidden state
  std::int64_t kv_lora_rank = 0;
  std::int64_t qk_nope_head_dim = 0;
  std::int64_t qk_rope_head_dim = 0;
  std::int64_t v_head_dim = 0;
  std::int64_t n_routed_experts = 0;
  std::int64_t n_shared_experts = 0;  ///< one expert of this many times the width
  std::int64_t num_experts_per_tok = 0;
  std::int64_t n_group = 0;
  std::int64_t topk_group = 0;
  bool norm_topk_prob = true;
  double routed_scaling_factor = 1.0;
  std::int64_t num_nextn_predict_layers = 0;  ///< 0 or 1
  std::int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0.0;
  double rope_theta = 0.0;
  nn::RopeScaling rope_scaling;
  bool rope_interleave = true;  ///< which dimensions form a rotated pair: (2 i, 2 i + 1), else (i, i + half)
  double initializer_range = 0.02;

  std::int64_t qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
};

/// Reads and validates; `source` names the file. Throws Error naming the key for a value that is missing, out of range
/// or not supported. Keys that do not change the computation are not looked at.
Config parse_config(const base::Json& config, std::string_view source);

}  // namespace flyover::models::deepseek_v3
