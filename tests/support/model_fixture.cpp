#include "support/model_fixture.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/random.h"
#include "models/fp4_experts.h"

namespace flyover::tests {

using tensor::DType;

Machine::Machine(std::unique_ptr<devices::Device> device_)
    : device(std::move(device_)), allocator(*device), stream(*device, allocator) {}

std::vector<std::string> families() {
  return {"llama", "qwen3_moe", "deepseek_v3", "deepseek_v4", "deepseek_v4_fp4"};
}

namespace {

std::unique_ptr<models::LanguageModel> make(const std::string& config) {
  return models::make_model(base::parse_json(config, "config.json"), "config.json");
}

}  // namespace

std::string tiny_config(const std::string& variant) {
  if (variant == "deepseek_v3") {
    return R"({"model_type": "deepseek_v3", "vocab_size": 11, "hidden_size": 10, "intermediate_size": 9,
      "moe_intermediate_size": 4, "num_hidden_layers": 2, "first_k_dense_replace": 1, "num_attention_heads": 3,
      "q_lora_rank": 5, "kv_lora_rank": 7, "qk_nope_head_dim": 3, "qk_rope_head_dim": 4, "v_head_dim": 5,
      "n_routed_experts": 6, "n_shared_experts": 2, "num_experts_per_tok": 2, "n_group": 3, "topk_group": 2,
      "norm_topk_prob": true, "routed_scaling_factor": 2.5, "rms_norm_eps": 1e-6, "rope_theta": 50.0,
      "rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 4, "beta_fast": 4,
      "beta_slow": 1, "mscale": 1.5, "mscale_all_dim": 0.7}, "num_nextn_predict_layers": 1})";
  }
  if (variant == "deepseek_v4_fp4") {
    base::Json config = base::parse_json(tiny_config("deepseek_v4"), "config.json");
    config["hidden_size"] = 64;
    config["moe_intermediate_size"] = 32;
    config["index_head_dim"] = 32;
    config["expert_dtype"] = "fp4";
    return config.dump();
  }
  if (variant == "deepseek_v4") {
    return R"({"model_type": "deepseek_v4", "vocab_size": 11, "hidden_size": 10, "num_hidden_layers": 3,
      "num_attention_heads": 4, "head_dim": 6, "qk_rope_head_dim": 4, "q_lora_rank": 5, "o_groups": 2, "o_lora_rank": 3,
      "sliding_window": 3, "layer_types": ["sliding_attention", "compressed_sparse_attention",
      "heavily_compressed_attention"], "compress_rates": {"compressed_sparse_attention": 2,
      "heavily_compressed_attention": 3}, "index_n_heads": 2, "index_head_dim": 4, "index_topk": 1,
      "n_routed_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 4, "num_hash_layers": 1,
      "routed_scaling_factor": 1.5, "swiglu_limit": 10.0, "hc_mult": 2, "hc_sinkhorn_iters": 20, "rms_norm_eps": 1e-6,
      "num_nextn_predict_layers": 1})";
  }
  if (variant == "qwen3_moe") {
    return R"({"model_type": "qwen3_moe", "vocab_size": 11, "hidden_size": 12, "intermediate_size": 10,
      "moe_intermediate_size": 6, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
      "head_dim": 6, "num_experts": 5, "num_experts_per_tok": 2, "mlp_only_layers": [1], "norm_topk_prob": true,
      "rms_norm_eps": 1e-5, "tie_word_embeddings": false})";
  }
  return fmt::format(R"({{"model_type": "llama", "vocab_size": 11, "hidden_size": 12, "intermediate_size": 10,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "attention_bias": true,
    "tie_word_embeddings": {}}})",
                     variant == "llama_tied" ? "true" : "false");
}

std::unique_ptr<models::LanguageModel> tiny_model(const std::string& variant) {
  auto model = make(tiny_config(variant));
  if (variant == "deepseek_v4_fp4") {
    models::round_experts_to_fp4(*model);
  }
  return model;
}

std::string small_config(const std::string& family) {
  if (family == "deepseek_v3") {
    return R"({"model_type": "deepseek_v3", "vocab_size": 97, "hidden_size": 72, "intermediate_size": 100,
      "moe_intermediate_size": 40, "num_hidden_layers": 3, "first_k_dense_replace": 1, "num_attention_heads": 5,
      "q_lora_rank": 24, "kv_lora_rank": 28, "qk_nope_head_dim": 20, "qk_rope_head_dim": 12, "v_head_dim": 18,
      "n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2,
      "norm_topk_prob": true, "routed_scaling_factor": 2.5, "rms_norm_eps": 1e-6, "max_position_embeddings": 640,
      "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 16, "mscale": 1.0,
      "mscale_all_dim": 1.0}, "num_nextn_predict_layers": 1})";
  }
  if (family == "deepseek_v4" || family == "deepseek_v4_fp4") {
    const bool fp4 = family == "deepseek_v4_fp4";
    base::Json config =
        base::parse_json(R"({"model_type": "deepseek_v4", "vocab_size": 97, "hidden_size": 72, "num_hidden_layers": 4,
      "num_attention_heads": 6, "head_dim": 32, "qk_rope_head_dim": 8, "q_lora_rank": 24, "o_groups": 2,
      "o_lora_rank": 12, "sliding_window": 40, "layer_types": ["sliding_attention", "compressed_sparse_attention",
      "heavily_compressed_attention", "compressed_sparse_attention"], "compress_rates": {
      "compressed_sparse_attention": 4, "heavily_compressed_attention": 16}, "index_n_heads": 3, "index_head_dim": 16,
      "index_topk": 5, "n_routed_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 40,
      "num_hash_layers": 1, "routed_scaling_factor": 1.5, "swiglu_limit": 10.0, "hc_mult": 4, "hc_sinkhorn_iters": 20,
      "rms_norm_eps": 1e-6, "num_nextn_predict_layers": 1})",
                         "config.json");
    if (fp4) {
      config["index_head_dim"] = 64;
      config["expert_dtype"] = "fp4";
    }
    return config.dump();
  }
  if (family == "qwen3_moe") {
    return R"({"model_type": "qwen3_moe", "vocab_size": 97, "hidden_size": 72, "intermediate_size": 100,
      "moe_intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2,
      "head_dim": 20, "num_experts": 7, "num_experts_per_tok": 3, "norm_topk_prob": true, "rms_norm_eps": 1e-5,
      "max_position_embeddings": 512, "tie_word_embeddings": false})";
  }
  return R"({"model_type": "llama", "vocab_size": 97, "hidden_size": 72, "intermediate_size": 100,
    "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 20,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false})";
}

std::unique_ptr<models::LanguageModel> small_model(const std::string& family) {
  return make(small_config(family));
}

void write_doubles(tensor::Stream& stream, const tensor::Tensor& tensor, const std::vector<double>& values) {
  base::check(static_cast<std::int64_t>(values.size()) == tensor.elements(), "{} values for {}", values.size(),
              kernels::to_string(tensor.view()));
  std::vector<std::byte> bytes;
  const auto append = [&](const auto& value) {
    const auto* data = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), data, data + sizeof(value));
  };
  for (const double value : values) {
    switch (tensor.dtype()) {
      case DType::kF64:
        append(value);
        break;
      case DType::kF32:
        append(static_cast<float>(value));
        break;
      default:
        append(kernels::to_bf16(static_cast<float>(value)));
    }
  }
  stream.write(tensor, bytes);
}

std::vector<double> read_doubles(tensor::Stream& stream, const tensor::Tensor& tensor) {
  auto ticket = stream.read_back(tensor, tensor::ReadBackPurpose::kTest);
  std::vector<double> result;
  switch (tensor.dtype()) {
    case DType::kF64:
      return ticket.values<double>();
    case DType::kF32:
      for (const float value : ticket.values<float>()) {
        result.push_back(value);
      }
      return result;
    default:
      for (const kernels::Bf16 value : ticket.values<kernels::Bf16>()) {
        result.push_back(kernels::to_float(value));
      }
      return result;
  }
}

void randomise(models::LanguageModel& model, tensor::Stream& stream, double deviation, std::uint64_t seed) {
  std::uint64_t index = 0;
  for (autograd::Parameter& parameter : model.parameters().all()) {
    const base::Random random(seed, base::RandomPurpose::kTest, index++);
    if (parameter.value.dtype() == DType::kI32) {
      const std::vector<std::int32_t> indices = model.initialisation(parameter, seed).indices;
      stream.write(parameter.value, std::as_bytes(std::span(indices)));
      continue;
    }
    std::vector<double> values(static_cast<std::size_t>(parameter.spec.shape.elements()));
    const double centre = parameter.spec.role == autograd::ParameterRole::kNorm ? 1.0 : 0.0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = centre + deviation * random.normal(i);
    }
    write_doubles(stream, parameter.value, values);
    const bool separate =
        parameter.master.defined() && (parameter.master.dtype() != parameter.value.dtype() || parameter.rounds_to_fp4);
    if (separate) {
      write_doubles(stream, parameter.master, values);
    }
  }
  model.parameters().round_values(stream);
}

nn::PackedTokens tiny_batch() {
  nn::PackedTokens packed;
  packed.document_lengths = {5, 3};
  packed.tokens = {1, 7, 3, 9, 2, 4, 4, 10};
  packed.targets = {7, kernels::kIgnoredTarget, 9, 2, kernels::kIgnoredTarget, 4, 10, kernels::kIgnoredTarget};
  packed.weights = {0.2f, 0.0f, 0.2f, 0.1f, 0.0f, 0.3f, 0.2f, 0.0f};
  return packed;
}

}  // namespace flyover::tests
