// config.json of DeepSeek-V4 (DeepSeek-V4 technical report, 2026), with the keys of the published files and those that
// transformers writes.
#pragma once

#include <cstdint>
#include <vector>

#include "base/json.h"
#include "nn/compressed_attention.h"
#include "nn/rope.h"

namespace flyover::models::deepseek_v4 {

/// The values that decide the computation.
struct Config {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t qk_rope_head_dim = 0;
  std::int64_t q_lora_rank = 0;
  std::int64_t o_groups = 0;
  std::int64_t o_lora_rank = 0;
  std::int64_t sliding_window = 0;
  std::vector<nn::CompressionKind> compression;  ///< of each layer, then of each prediction block
  std::int64_t index_n_heads = 0;
  std::int64_t index_head_dim = 0;
  std::int64_t index_topk = 0;
  std::int64_t n_routed_experts = 0;
  std::int64_t num_experts_per_tok = 0;
  std::int64_t moe_intermediate_size = 0;
  std::vector<bool> hash_routing;  ///< of each layer
  double routed_scaling_factor = 1.0;
  double swiglu_limit = 0.0;
  std::int64_t hc_mult = 0;
  std::int64_t hc_sinkhorn_iters = 0;
  double hc_eps = 0.0;
  double hc_initial_mixing = 0.0;  ///< logit of a stream's weight for itself when training begins from scratch
  double hc_initial_scale = 0.0;   ///< of the coefficients' dependent parts, likewise
  std::int64_t num_nextn_predict_layers = 0;  ///< 0 or 1
  std::int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0.0;
  double rope_theta = 0.0;           ///< of layers with a window alone
  double compress_rope_theta = 0.0;  ///< of the others, as is
  nn::RopeScaling compress_scaling;
  double initializer_range = 0.02;
  bool fp4_indexer = false;  ///< trained for FP4 ("expert_dtype"): its queries and keys are rounded
};

/// Reads and validates; `source` names the file. Throws Error naming the key for a value that is missing, out of range
/// or not supported. Keys that do not change the computation are not looked at.
Config parse_config(const base::Json& config, std::string_view source);

}  // namespace flyover::models::deepseek_v4
