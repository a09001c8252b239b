// config.json of the Llama family: what is refused, and with which words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/llama/config.h"

namespace flyover::models::llama {
namespace {

using base::Json;

/// The message for a small valid configuration with these members instead of its own.
std::string message_of(const char* changes) {
  Json config = Json::parse(R"({"vocab_size": 11, "hidden_size": 12, "intermediate_size": 10, "num_hidden_layers": 2,
                                "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6})");
  config.update(Json::parse(changes));
  try {
    parse_config(config, "config.json");
  } catch (const base::Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(LlamaConfig, SizesOutOfRangeAreNamed) {
  EXPECT_EQ(message_of("{}"), "no error");
  EXPECT_EQ(message_of(R"({"hidden_size": 0})"),
            "config.json: \"hidden_size\" must be a positive 31-bit number, found 0");
  EXPECT_EQ(message_of(R"({"vocab_size": 2147483648})"),
            "config.json: \"vocab_size\" must be a positive 31-bit number, found 2147483648");
  EXPECT_EQ(message_of(R"({"num_hidden_layers": 2000000000})"),
            "config.json: num_hidden_layers 2000000000 is more than 10000");
  EXPECT_EQ(message_of(R"({"head_dim": 1000000000})"),
            "config.json: heads of 1000000000 elements are not supported (supported: up to 65536)");
  EXPECT_EQ(message_of(R"({"head_dim": null, "hidden_size": 1000000000})"),
            "config.json: heads of 250000000 elements are not supported (supported: up to 65536)");
  EXPECT_EQ(message_of(R"({"head_dim": 7})"), "config.json: an odd head_dim 7 cannot be rotated in pairs");
  EXPECT_EQ(message_of(R"({"num_key_value_heads": 3})"),
            "config.json: num_attention_heads 4 must be a multiple of num_key_value_heads 3");
  EXPECT_EQ(message_of(R"({"num_key_value_heads": 0})"),
            "config.json: \"num_key_value_heads\" must be a positive 31-bit number, found 0");
}

TEST(LlamaConfig, MoreHeadsThanThereAreInAnyModelAreRefused) {
  EXPECT_EQ(message_of(R"({"num_attention_heads": 1073741824})"),
            "config.json: 1073741824 attention heads are not supported (supported: up to 16384)");
}

TEST(LlamaConfig, SizesWhoseProductOverflowsAreRefused) {
  for (const char* changes : {R"({"hidden_size": 2147483646, "intermediate_size": 2147483646})",
                              R"({"vocab_size": 2147483646, "hidden_size": 2147483646})",
                              R"({"num_attention_heads": 16384, "head_dim": 65536, "hidden_size": 2147483646})"}) {
    EXPECT_THAT(message_of(changes), testing::HasSubstr("parameters (supported: up to 1e+15)")) << changes;
  }
}

TEST(LlamaConfig, RopeScalingThatIsNotWhollyGivenIsNamed) {
  EXPECT_EQ(message_of(R"({"rope_scaling": {"type": "linear"}})"),
            "config.json: rope_scaling: the key \"factor\" is missing (expected a number)");
  const Json llama3 = Json::parse(R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                      "high_freq_factor": 4.0, "original_max_position_embeddings": 8192})");
  const auto message = [](const Json& scaling) { return message_of(Json({{"rope_scaling", scaling}}).dump().c_str()); };
  EXPECT_EQ(message(llama3), "no error");
  for (const char* key : {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    Json partly = llama3;
    partly.erase(key);
    EXPECT_EQ(message(partly),
              fmt::format("config.json: rope_scaling: the key \"{}\" is missing (expected a number)", key));
  }
  EXPECT_EQ(message_of(R"({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.25}})"),
            "config.json: rope_parameters: \"partial_rotary_factor\": 0.25 is not supported (supported: 1)");
}

TEST(LlamaConfig, AnAttentionMultiplierThatIsTheUsualScaleIsAccepted) {
  const char* changes = R"({"head_dim": 64, "attention_multiplier": 0.125, "query_pre_attn_scalar": 64})";
  EXPECT_EQ(message_of(changes), "no error");
}

TEST(LlamaConfig, ExpertsAreNamed) {
  EXPECT_EQ(message_of(R"({"num_local_experts": 8})"),
            "config.json: \"num_local_experts\": 8 is not supported (supported: null)");
}

TEST(LlamaConfig, ValuesThatChangeTheComputationAndAreNotSupportedAreNamed) {
  EXPECT_EQ(message_of(R"({"hidden_act": "gelu"})"),
            "config.json: \"hidden_act\": \"gelu\" is not supported (supported: \"silu\")");
  EXPECT_EQ(message_of(R"({"mlp_bias": true})"), "config.json: \"mlp_bias\": true is not supported (supported: false)");
  EXPECT_EQ(message_of(R"({"attention_dropout": 0.1})"),
            "config.json: \"attention_dropout\": 0.1 is not supported (supported: 0)");
  EXPECT_EQ(message_of(R"({"rope_scaling": {"rope_type": "yarn", "factor": 4}})"),
            "config.json: rope_scaling: rope_type \"yarn\" is not supported (supported: default, linear, llama3)");
  EXPECT_EQ(message_of(R"({"rope_scaling": {"type": "linear", "factor": -2}})"),
            "config.json: rope_scaling: \"factor\" must be a number from 1 to 1000000, found -2");
  EXPECT_EQ(message_of(R"({"hidden_act": null, "mlp_bias": null, "some_unknown_key": 3})"), "no error");
}

}  // namespace
}  // namespace flyover::models::llama
