// Names and shapes of a Llama checkpoint's tensors, and how they form the model's parameters.
#pragma once

#include "autograd/parameter.h"
#include "models/llama/config.h"

namespace flyover::models::llama {

autograd::ParameterSpec embedding_spec(const Config& config);
autograd::ParameterSpec output_spec(const Config& config);
autograd::ParameterSpec final_norm_spec(const Config& config);

/// `name`: "input_layernorm" or "post_attention_layernorm".
autograd::ParameterSpec layer_norm_spec(const Config& config, std::int64_t layer, const std::string& name);
/// Query, key and value projections stacked: [(heads + 2 kv_heads) * head_dim, hidden].
autograd::ParameterSpec qkv_spec(const Config& config, std::int64_t layer);
autograd::ParameterSpec qkv_bias_spec(const Config& config, std::int64_t layer);
autograd::ParameterSpec attention_output_spec(const Config& config, std::int64_t layer);
autograd::ParameterSpec attention_output_bias_spec(const Config& config, std::int64_t layer);
/// Gate and up projections stacked: [2 * intermediate, hidden].
autograd::ParameterSpec gate_up_spec(const Config& config, std::int64_t layer);
autograd::ParameterSpec down_spec(const Config& config, std::int64_t layer);

}  // namespace flyover::models::llama
