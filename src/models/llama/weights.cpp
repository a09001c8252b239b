#include "models/llama/weights.h"

#include <vector>

#include <fmt/core.h>

#include "models/parameter_specs.h"

namespace flyover::models::llama {
namespace {

using autograd::ParameterRole;
using autograd::ParameterSpec;

std::string layer_name(std::int64_t layer, const std::string& rest) {
  return fmt::format("model.layers.{}.{}", layer, rest);
}

std::vector<RowsPart> qkv_parts(const Config& config, std::int64_t layer, const std::string& kind) {
  const std::int64_t query_rows = config.num_attention_heads * config.head_dim;
  const std::int64_t key_rows = config.num_key_value_heads * config.head_dim;
  return {{layer_name(layer, "self_attn.q_proj." + kind), query_rows},
          {layer_name(layer, "self_attn.k_proj." + kind), key_rows},
          {layer_name(layer, "self_attn.v_proj." + kind), key_rows}};
}

}  // namespace

ParameterSpec embedding_spec(const Config& config) {
  return single("model.embed_tokens.weight", {config.vocab_size, config.hidden_size}, ParameterRole::kEmbedding);
}

ParameterSpec output_spec(const Config& config) {
  return single("lm_head.weight", {config.vocab_size, config.hidden_size}, ParameterRole::kOutput);
}

ParameterSpec final_norm_spec(const Config& config) {
  return single("model.norm.weight", {config.hidden_size}, ParameterRole::kNorm);
}

ParameterSpec layer_norm_spec(const Config& config, std::int64_t layer, const std::string& name) {
  return single(layer_name(layer, name + ".weight"), {config.hidden_size}, ParameterRole::kNorm);
}

ParameterSpec qkv_spec(const Config& config, std::int64_t layer) {
  return stacked(layer_name(layer, "self_attn.qkv_proj.weight"), qkv_parts(config, layer, "weight"), config.hidden_size,
                 ParameterRole::kMatrix);
}

ParameterSpec qkv_bias_spec(const Config& config, std::int64_t layer) {
  return stacked(layer_name(layer, "self_attn.qkv_proj.bias"), qkv_parts(config, layer, "bias"), 0,
                 ParameterRole::kBias);
}

ParameterSpec attention_output_spec(const Config& config, std::int64_t layer) {
  return single(layer_name(layer, "self_attn.o_proj.weight"),
                {config.hidden_size, config.num_attention_heads * config.head_dim}, ParameterRole::kMatrix);
}

ParameterSpec attention_output_bias_spec(const Config& config, std::int64_t layer) {
  return single(layer_name(layer, "self_attn.o_proj.bias"), {config.hidden_size}, ParameterRole::kBias);
}

ParameterSpec gate_up_spec(const Config& config, std::int64_t layer) {
  return stacked(layer_name(layer, "mlp.gate_up_proj.weight"),
                 {{layer_name(layer, "mlp.gate_proj.weight"), config.intermediate_size},
                  {layer_name(layer, "mlp.up_proj.weight"), config.intermediate_size}},
                 config.hidden_size, ParameterRole::kMatrix);
}

ParameterSpec down_spec(const Config& config, std::int64_t layer) {
  return single(layer_name(layer, "mlp.down_proj.weight"), {config.hidden_size, config.intermediate_size},
                ParameterRole::kMatrix);
}

}  // namespace flyover::models::llama
