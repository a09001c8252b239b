// The tensors of the published DeepSeek-V4 checkpoints, counted from their configurations alone.
#include <map>
#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "checkpoint/quantised_model.h"
#include "checkpoint/weight_writer.h"
#include "models/deepseek_v4/names.h"

namespace flyover::checkpoint {
namespace {

/// What both published configurations have in common.
base::Json common_config() {
  return base::parse_json(R"({"architectures": ["DeepseekV4ForCausalLM"], "model_type": "deepseek_v4",
    "vocab_size": 129280, "num_key_value_heads": 1, "head_dim": 512, "qk_rope_head_dim": 64, "n_shared_experts": 1,
    "num_experts_per_tok": 6, "scoring_func": "sqrtsoftplus", "topk_method": "noaux_tc", "norm_topk_prob": true,
    "swiglu_limit": 10.0, "num_hash_layers": 3, "sliding_window": 128, "index_n_heads": 64, "index_head_dim": 128,
    "hc_mult": 4, "hc_sinkhorn_iters": 20, "hc_eps": 1e-6, "rms_norm_eps": 1e-6, "rope_theta": 10000,
    "compress_rope_theta": 160000, "rope_scaling": {"type": "yarn", "factor": 16,
    "original_max_position_embeddings": 65536, "beta_fast": 32, "beta_slow": 1}, "max_position_embeddings": 1048576,
    "num_nextn_predict_layers": 1, "hidden_act": "silu", "attention_bias": false, "attention_dropout": 0.0,
    "tie_word_embeddings": false, "initializer_range": 0.02, "torch_dtype": "bfloat16", "expert_dtype": "fp4",
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
    "scale_fmt": "ue8m0", "weight_block_size": [128, 128]}})",
                          "config.json");
}

/// [first, first, 4, 128, 4, 128, ..., 4, 0]: of the layers, and of the prediction block.
std::vector<int> ratios(int layers, int first) {
  std::vector<int> result = {first, first};
  for (int layer = 2; layer < layers; ++layer) {
    result.push_back(layer % 2 == 0 ? 4 : 128);
  }
  result.push_back(0);
  return result;
}

base::Json pro_config() {
  base::Json config = common_config();
  config.update({{"hidden_size", 7168},
                 {"num_hidden_layers", 61},
                 {"num_attention_heads", 128},
                 {"q_lora_rank", 1536},
                 {"o_groups", 16},
                 {"o_lora_rank", 1024},
                 {"n_routed_experts", 384},
                 {"moe_intermediate_size", 3072},
                 {"routed_scaling_factor", 2.5},
                 {"index_topk", 1024},
                 {"compress_ratios", ratios(61, 128)}});
  return config;
}

base::Json flash_config() {
  base::Json config = common_config();
  config.update({{"hidden_size", 4096},
                 {"num_hidden_layers", 43},
                 {"num_attention_heads", 64},
                 {"q_lora_rank", 1024},
                 {"o_groups", 8},
                 {"o_lora_rank", 1024},
                 {"n_routed_experts", 256},
                 {"moe_intermediate_size", 2048},
                 {"routed_scaling_factor", 1.5},
                 {"index_topk", 512},
                 {"compress_ratios", ratios(43, 0)}});
  return config;
}

struct Totals {
  std::size_t tensors = 0;
  std::int64_t elements = 0;
  std::uint64_t bytes = 0;
  std::map<TensorType, std::size_t> by_type;
  std::map<TensorType, std::int64_t> elements_by_type;
};

Totals totals_of(const base::Json& config) {
  Totals totals;
  std::set<std::string> names;
  for (const TensorSpec& tensor : released_tensors(models::released_weights(config, "config.json"))) {
    EXPECT_TRUE(names.insert(tensor.name).second) << tensor.name;
    ++totals.tensors;
    ++totals.by_type[tensor.dtype];
    totals.bytes += byte_count(tensor);
    totals.elements_by_type[tensor.dtype] += static_cast<std::int64_t>(byte_count(tensor) / size_of(tensor.dtype));
    totals.elements += static_cast<std::int64_t>(byte_count(tensor) / size_of(tensor.dtype));
  }
  return totals;
}

TEST(PublishedCheckpoint, OfProHasTheTensorsAndElementsOfItsFileHeaders) {
  const Totals totals = totals_of(pro_config());
  EXPECT_EQ(totals.tensors, 145'116u);
  EXPECT_EQ(totals.elements, 861'608'274'846);
  EXPECT_EQ(totals.by_type.at(TensorType::kI8), 62u * 384 * 3);
  EXPECT_EQ(totals.by_type.at(TensorType::kI64), 3u);
  EXPECT_EQ(totals.bytes / (std::uint64_t{1} << 30), 805u);  // the size of the published files
}

TEST(PublishedCheckpoint, OfFlashHasTheTensorsAndElementsOfTheFormula) {
  const Totals totals = totals_of(flash_config());
  EXPECT_EQ(totals.tensors, 69'187u);
  EXPECT_EQ(totals.elements, 158'069'433'298);
}

TEST(PublishedCheckpoint, OfDeepSeekV3HasTheElementsOfItsFileHeaders) {
  const base::Json config = base::parse_json(R"({"model_type": "deepseek_v3", "vocab_size": 129280,
    "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61,
    "first_k_dense_replace": 3, "num_attention_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 256,
    "n_shared_experts": 1, "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "routed_scaling_factor": 2.5,
    "num_nextn_predict_layers": 1})",
                                             "config.json");
  const Totals totals = totals_of(config);
  EXPECT_EQ(totals.elements_by_type.at(TensorType::kBf16), 3'918'786'560);
  EXPECT_EQ(totals.elements_by_type.at(TensorType::kF8E4M3), 680'571'043'840);
  EXPECT_EQ(totals.elements_by_type.at(TensorType::kF32), 41'555'600);
  EXPECT_EQ(totals.elements_by_type.size(), 3u);
}

TEST(PublishedCheckpoint, OfQwen3MoeHasTheParametersThatItsIndexTells) {
  struct Case {
    std::int64_t hidden, layers, heads, width, parameters;
  };
  for (const Case& size : {Case{2048, 48, 32, 768, 30'532'122'624}, Case{4096, 94, 64, 1536, 235'093'634'560}}) {
    base::Json config = base::parse_json(R"({"model_type": "qwen3_moe", "vocab_size": 151936, "intermediate_size": 1,
      "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": true,
      "tie_word_embeddings": false})",
                                         "config.json");
    config.update({{"hidden_size", size.hidden},
                   {"num_hidden_layers", size.layers},
                   {"num_attention_heads", size.heads},
                   {"moe_intermediate_size", size.width}});
    const Totals totals = totals_of(config);
    const std::int64_t projections = size.hidden * size.layers * (2 * 128 * (size.heads + 4) + 3 * 128 * size.width);
    EXPECT_EQ(totals.elements_by_type.at(TensorType::kF8E4M3), projections);
    // All sizes are multiples of 128: a scale for every 16,384 elements.
    EXPECT_EQ(totals.elements, size.parameters + projections / 16384);
    EXPECT_EQ(totals.elements_by_type.size(), 2u);
  }
}

TEST(PublishedCheckpoint, WeightsAreThoseOfTheModelUnderEverySetOfNames) {
  using models::deepseek_v4::NameStyle;
  const base::Json config = base::parse_json(quantised_config(), "config.json");
  for (const NameStyle style : {NameStyle::kPublished, NameStyle::kSaved, NameStyle::kTransformers}) {
    // Experts one by one also under transformers' names: only so are they stored quantised.
    const models::StoredNames all = models::deepseek_v4::stored_names_of(style, true);
    const models::StoredNames stored = [&](std::string_view name) { return all(name) && !name.ends_with("_proj"); };
    std::map<std::string, std::vector<std::int64_t>> of_model, released;
    const auto model = models::make_model(config, "config.json", stored);
    for (const autograd::Parameter& parameter : model->parameters().all()) {
      for (const autograd::CheckpointSlice& slice : parameter.spec.slices) {
        of_model[slice.name] = {slice.shape.values().begin(), slice.shape.values().end()};
      }
    }
    for (const models::ReleasedWeight& weight : models::released_weights(config, "config.json", stored)) {
      released[weight.name] = {weight.shape.values().begin(), weight.shape.values().end()};
    }
    EXPECT_EQ(released, of_model);
  }
}

TEST(PublishedCheckpoint, FamiliesWithoutOneHaveNone) {
  EXPECT_TRUE(models::released_weights(base::parse_json(R"({"model_type": "llama"})", "config.json"), "c").empty());
}

}  // namespace
}  // namespace flyover::checkpoint
