// config.json of the DeepSeek-V4 family: what is refused, and with which words.
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/deepseek_v4/model.h"

namespace flyover::models::deepseek_v4 {
namespace {

using base::Json;
using testing::HasSubstr;

/// A small valid configuration with these members instead of its own.
Json small_config(const char* changes) {
  Json config = Json::parse(R"({"vocab_size": 11, "hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 4,
      "head_dim": 8, "qk_rope_head_dim": 4, "q_lora_rank": 6, "o_groups": 2, "o_lora_rank": 4, "sliding_window": 8,
      "compress_ratios": [0, 4, 128], "index_n_heads": 2, "index_head_dim": 8, "index_topk": 4, "n_routed_experts": 5,
      "num_experts_per_tok": 2, "moe_intermediate_size": 6, "num_hash_layers": 1, "hc_mult": 2,
      "routed_scaling_factor": 1.5, "num_nextn_predict_layers": 1})");
  config.update(Json::parse(changes));
  return config;
}

/// The message for the small configuration with these members instead of its own.
std::string message_of(const char* changes) {
  try {
    Model(parse_config(small_config(changes), "config.json"), {});
  } catch (const base::Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(DeepSeekV4Config, RatiosThatCannotBeAreNamed) {
  EXPECT_EQ(message_of("{}"), "no error");
  EXPECT_EQ(message_of(R"({"compress_ratios": [0, 4, 128, 0]})"), "no error") << "one more for the prediction block";
  EXPECT_EQ(message_of(R"({"compress_ratios": [0, 1, 128]})"),
            "config.json: compress_ratios: 1 is not a ratio (0, or from 2 to 1048575)");
  EXPECT_THAT(message_of(R"({"compress_ratios": [0, -4, 128]})"), HasSubstr("compress_ratios"));
  EXPECT_THAT(message_of(R"({"compress_ratios": [0, 4.5, 128]})"), HasSubstr("compress_ratios"));
  EXPECT_THAT(message_of(R"({"compress_ratios": [0, 1000000000000, 128]})"), HasSubstr("compress_ratios"));
  EXPECT_THAT(message_of(R"({"compress_ratios": "4"})"), HasSubstr("compress_ratios"));
}

TEST(DeepSeekV4Config, IndexersTrainedForFp4NeedHeadsThatItCanHold) {
  EXPECT_EQ(message_of(R"({"expert_dtype": "fp8"})"), "no error");
  EXPECT_EQ(message_of(R"({"expert_dtype": "fp4", "index_head_dim": 32})"), "no error");
  EXPECT_EQ(message_of(R"({"expert_dtype": "fp4", "compress_ratios": [0, 0, 128]})"), "no error") << "no indexer";
  EXPECT_EQ(message_of(R"({"expert_dtype": "fp4"})"),
            "config.json: index_head_dim 8 must be a power of two from 32 to 4096 where \"expert_dtype\" is \"fp4\"");
  EXPECT_THAT(message_of(R"({"expert_dtype": "fp4", "index_head_dim": 96})"), HasSubstr("index_head_dim 96"));
  EXPECT_THAT(message_of(R"({"expert_dtype": 4})"), HasSubstr("expert_dtype"));
}

TEST(DeepSeekV4Config, WeightsThatAreQuantisedInAnotherWayAreNamed) {
  EXPECT_EQ(message_of(R"({"expert_dtype": null, "quantization_config": null})"), "no error");
  EXPECT_EQ(message_of(R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128],
                          "fmt": "e4m3"}})"),
            "no error");
  EXPECT_EQ(message_of(R"({"expert_dtype": "int4"})"),
            "config.json: \"expert_dtype\": \"int4\" is not supported (supported: fp4, fp8)");
  EXPECT_EQ(message_of(R"({"quantization_config": {"quant_method": "gptq", "bits": 4}})"),
            "config.json: quantization_config: \"quant_method\": \"gptq\" is not supported (supported: \"fp8\" in "
            "blocks of 128 x 128)");
  EXPECT_EQ(
      message_of(R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [32, 32]}})"),
      "config.json: quantization_config: \"weight_block_size\": [32,32] is not supported (supported: [128, 128])");
  EXPECT_THAT(message_of(R"({"quantization_config": "fp8"})"), HasSubstr("quantization_config: expected an object"));
}

TEST(DeepSeekV4Config, ALimitOfTheActivationThatIsNoneIsRefused) {
  EXPECT_EQ(parse_config(small_config("{}"), "config.json").swiglu_limit, 10.0);
  EXPECT_EQ(parse_config(small_config(R"({"swiglu_limit": 7})"), "config.json").swiglu_limit, 7.0);
  EXPECT_EQ(message_of(R"({"swiglu_limit": null})"),
            "config.json: \"swiglu_limit\" must be a positive number, found null; leave it out for the published 10");
  EXPECT_EQ(message_of(R"({"swiglu_limit": 0})"), "config.json: \"swiglu_limit\" must be positive, found 0");
}

TEST(DeepSeekV4Config, AListOfTheWrongLengthIsNamed) {
  for (const char* list : {"[0, 4]", "[0]", "[]", "[0, 4, 128, 0, 0]"}) {
    EXPECT_THAT(message_of(fmt::format(R"({{"compress_ratios": {}}})", list).c_str()),
                HasSubstr("entries for 3 layers and 1 prediction blocks"));
  }
  EXPECT_EQ(message_of(R"({"compress_ratios": null})"), "config.json: \"compress_ratios\" is missing");
  EXPECT_THAT(message_of(R"({"mlp_layer_types": ["moe"]})"), HasSubstr("has 1 entries for 3 layers"));
}

TEST(DeepSeekV4Config, ExpertsThatCannotBeChosenAreNamed) {
  EXPECT_THAT(message_of(R"({"num_experts_per_tok": 6})"), HasSubstr("num_experts_per_tok"));
  EXPECT_THAT(message_of(R"({"n_routed_experts": 0})"), HasSubstr("n_routed_experts"));
  EXPECT_THAT(message_of(R"({"n_routed_experts": 1000000})"), HasSubstr("n_routed_experts"));
  EXPECT_THAT(message_of(R"({"num_hash_layers": -1})"), HasSubstr("num_hash_layers"));
  EXPECT_THAT(message_of(R"({"scoring_func": "tanh"})"), HasSubstr("scoring_func"));
  EXPECT_THAT(message_of(R"({"num_experts_per_tok": 40, "n_routed_experts": 64})"),
              HasSubstr("num_experts_per_tok 40"));
}

TEST(DeepSeekV4Config, SizesThatDoNotFitAreNamed) {
  EXPECT_THAT(message_of(R"({"o_groups": 3})"), HasSubstr("o_groups"));
  EXPECT_THAT(message_of(R"({"qk_rope_head_dim": 5})"), HasSubstr("qk_rope_head_dim"));
  EXPECT_THAT(message_of(R"({"qk_rope_head_dim": 16})"), HasSubstr("qk_rope_head_dim"));
  EXPECT_THAT(message_of(R"({"hc_mult": 0})"), HasSubstr("hc_mult"));
  EXPECT_THAT(message_of(R"({"hc_mult": 1000})"), HasSubstr("hc_mult"));
  EXPECT_THAT(message_of(R"({"sliding_window": 0})"), HasSubstr("sliding_window"));
  EXPECT_THAT(message_of(R"({"num_key_value_heads": 2})"), HasSubstr("num_key_value_heads"));
  EXPECT_THAT(message_of(R"({"num_nextn_predict_layers": 2})"), HasSubstr("num_nextn_predict_layers"));
  EXPECT_THAT(message_of(R"({"hidden_size": 2147483646, "moe_intermediate_size": 2147483646})"),
              HasSubstr("supported: up to"));
}

TEST(DeepSeekV4Config, SizesWhoseProductsWouldOverflowOrNeverEndAreNamed) {
  // The squares of the prediction block's projections, and the compressors, count as well.
  EXPECT_THAT(message_of(R"({"hidden_size": 1073741824})"), HasSubstr("parameters (supported: up to 1e+15)"));
  EXPECT_THAT(message_of(R"({"num_hidden_layers": 10000, "compress_ratios": [], "head_dim": 65536,
                            "hidden_size": 16777216})"),
              HasSubstr("parameters (supported: up to 1e+15)"));
  EXPECT_EQ(message_of(R"({"num_attention_heads": 1048576, "o_groups": 1048576})"),
            "config.json: 1048576 attention heads are not supported (supported: up to 16384)");
  EXPECT_THAT(message_of(R"({"index_n_heads": 1048576})"), HasSubstr("1048576 attention heads"));
}

TEST(DeepSeekV4Config, ARotatedPartThatIsNoneIsNamed) {
  const auto message = [](const char* factor) {
    return message_of(fmt::format(R"({{"qk_rope_head_dim": null, "partial_rotary_factor": {}}})", factor).c_str());
  };
  EXPECT_EQ(message("0.5"), "no error");
  EXPECT_EQ(message("-1"), "config.json: \"partial_rotary_factor\" must be positive, found -1");
  EXPECT_EQ(message("0.0"), "config.json: \"partial_rotary_factor\" must be positive, found 0");
  EXPECT_EQ(message("1e30"), "config.json: \"partial_rotary_factor\" must be at most 1, found 1e+30");
  EXPECT_EQ(message("0.01"),
            "config.json: \"partial_rotary_factor\" 0.01 of head_dim 8 is 0, expected an even number of elements; set "
            "\"qk_rope_head_dim\"");
}

TEST(DeepSeekV4Config, RatesOfLayerTypesAreBoundAsRatiosAre) {
  const auto message = [](const char* rates) {
    return message_of(
        fmt::format(R"({{"compress_ratios": null, "compress_rates": {}, "layer_types": ["sliding_attention",
        "compressed_sparse_attention", "heavily_compressed_attention"]}})",
                    rates)
            .c_str());
  };
  EXPECT_EQ(message("null"), "no error");
  EXPECT_EQ(message(R"({"heavily_compressed_attention": 1})"),
            "config.json: compress_rates: heavily_compressed_attention: 1 is not a ratio (0, or from 2 to 1048575)");
  EXPECT_THAT(message(R"({"compressed_sparse_attention": 2147483647})"), HasSubstr("2147483647 is not a ratio"));
}

TEST(DeepSeekV4Config, LayerTypesThatContradictTheRatiosAreNamed) {
  EXPECT_EQ(message_of(R"({"layer_types": ["sliding_attention", "compressed_sparse_attention",
                          "heavily_compressed_attention"]})"),
            "no error");
  EXPECT_EQ(message_of(R"({"layer_types": ["sliding_attention", "heavily_compressed_attention",
                          "heavily_compressed_attention"]})"),
            "config.json: layer 1: \"layer_types\" says heavily_compressed_attention (a ratio of 128), "
            "\"compress_ratios\" says 4; correct one of them, or leave one out");
}

TEST(DeepSeekV4Config, HyperConnectionsBeginAsTheConfigurationSays) {
  const auto starts = [](const char* changes) {
    const Model model(parse_config(small_config(changes), "config.json"), {});
    std::vector<double> result;  // logits of a stream's weights for itself and for the other one, and a scale
    for (const autograd::Parameter& parameter : model.parameters().all()) {
      if (parameter.spec.name == "layers.0.hc_attn_base") {
        const Initialisation base = model.initialisation(parameter, 1);
        result = {base.values[4], base.values[5]};  // behind 2 + 2 for reading and writing
      } else if (parameter.spec.name == "layers.0.hc_attn_scale") {
        result.push_back(model.initialisation(parameter, 1).mean);
      }
    }
    return result;
  };
  EXPECT_EQ(starts("{}"), (std::vector<double>{6.0, 0.0, 0.01}));
  EXPECT_EQ(starts(R"({"hc_initial_mixing": 2.5, "hc_initial_scale": 1.0})"), (std::vector<double>{2.5, 0.0, 1.0}));
  EXPECT_EQ(message_of(R"({"hc_initial_mixing": 1e30})"),
            "config.json: \"hc_initial_mixing\" must be a number from 0 to 80, found 1e+30");
  EXPECT_THAT(message_of(R"({"hc_initial_scale": -1})"), HasSubstr("hc_initial_scale"));
}

TEST(DeepSeekV4Config, RopeScalingThatIsNotSupportedIsNamed) {
  EXPECT_THAT(message_of(R"({"rope_scaling": {"type": "dynamic", "factor": 2}})"), HasSubstr("rope_scaling"));
  EXPECT_THAT(message_of(R"({"rope_scaling": {"type": "yarn", "factor": -1}})"), HasSubstr("rope_scaling"));
  EXPECT_THAT(message_of(R"({"rope_theta": 0})"), HasSubstr("rope_theta"));
  EXPECT_EQ(message_of(R"({"rope_scaling": {"type": "yarn", "factor": 4}})"),
            "config.json: rope_scaling: the key \"original_max_position_embeddings\" is missing (expected a number)");
  EXPECT_EQ(message_of(R"({"rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 64,
                                            "attention_factor": 1.2}})"),
            "config.json: rope_scaling: \"attention_factor\": 1.2 is not supported (supported: 1)");
}

TEST(DeepSeekV4Config, RopeParametersMayBeOfBothKindsOfLayersOrOfTheCompressedAlone) {
  const char* scaling = R"("rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 64)";
  const auto parsed = [&](const std::string& rope) {
    return parse_config(small_config(fmt::format(R"({{"rope_parameters": {}}})", rope).c_str()), "config.json");
  };
  const Config nested = parsed(fmt::format(R"({{"main": {{"rope_theta": 500.0}}, "compress": {{"rope_theta": 700.0,
                                               "partial_rotary_factor": 0.5, {}}}}})",
                                           scaling));
  EXPECT_EQ(nested.rope_theta, 500.0);
  EXPECT_EQ(nested.compress_rope_theta, 700.0);
  EXPECT_EQ(nested.compress_scaling.kind, nn::RopeScaling::Kind::kYarn);
  const Config alone = parsed(fmt::format("{{{}}}", scaling));
  EXPECT_EQ(alone.rope_theta, 10000.0);
  EXPECT_EQ(alone.compress_rope_theta, 160000.0);
  EXPECT_EQ(alone.compress_scaling.kind, nn::RopeScaling::Kind::kYarn);
  EXPECT_EQ(alone.compress_scaling.factor, 4.0);
  EXPECT_EQ(message_of(R"({"rope_parameters": {"main": {"partial_rotary_factor": 1.0}}})"),
            "config.json: rope_parameters: main: \"partial_rotary_factor\" 1 of head_dim 8 is not qk_rope_head_dim 4");
  EXPECT_EQ(message_of(R"({"rope_parameters": {"main": {"rope_type": "yarn", "factor": 4}}})"),
            "config.json: rope_parameters: main: \"rope_type\": \"yarn\" is not supported (supported: \"default\")");
}

TEST(DeepSeekV4Config, KeysOfOtherVersionsThatChangeTheForwardPassAreNamed) {
  for (const auto& [key, value] : std::map<std::string, std::string>{{"compress_rate_csa", "8"},
                                                                     {"compress_rate_hca", "64"},
                                                                     {"n_group", "8"},
                                                                     {"topk_group", "4"},
                                                                     {"router_jitter_noise", "0.1"},
                                                                     {"intermediate_size", "7"},
                                                                     {"num_local_experts", "6"}}) {
    EXPECT_THAT(message_of(fmt::format(R"({{"{}": {}}})", key, value).c_str()),
                HasSubstr(fmt::format("config.json: \"{}\": {} is not supported", key, value)));
  }
  EXPECT_EQ(message_of(R"({"router_jitter_noise": 0.0, "num_local_experts": 5, "intermediate_size": 6})"), "no error");
}

}  // namespace
}  // namespace flyover::models::deepseek_v4
