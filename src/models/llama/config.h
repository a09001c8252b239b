// config.json of the Llama family (Llama 2 and 3, SmolLM2 and alike).
#pragma once

#include <cstdint>

#include "base/json.h"
#include "nn/rope.h"

namespace flyover::models::llama {

/// The values that decide the computation.
struct Config {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
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

}  // namespace flyover::models::llama
