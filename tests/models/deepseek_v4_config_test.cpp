// config.json of the DeepSeek-V4 family: what is refused, and with which words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/deepseek_v4/model.h"

namespace flyover::models::deepseek_v4 {
namespace {

using base::Json;
using testing::HasSubstr;

/// The message for a small valid configuration with these members instead of its own.
std::string message_of(const char* changes) {
  Json config = Json::parse(R"({"vocab_size": 11, "hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 4,
      "head_dim": 8, "qk_rope_head_dim": 4, "q_lora_rank": 6, "o_groups": 2, "o_lora_rank": 4, "sliding_window": 8,
      "compress_ratios": [0, 4, 128], "index_n_heads": 2, "index_head_dim": 8, "index_topk": 4, "n_routed_experts": 5,
      "num_experts_per_tok": 2, "moe_intermediate_size": 6, "num_hash_layers": 1, "hc_mult": 2,
      "num_nextn_predict_layers": 1})");
  config.update(Json::parse(changes));
  try {
    Model(parse_config(config, "config.json"), {});
  } catch (const base::Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(DeepSeekV4Config, RatiosThatCannotBeAreNamed) {
  EXPECT_EQ(message_of("{}"), "no error");
  EXPECT_EQ(message_of(R"({"compress_ratios": [0, 4, 128, 0]})"), "no error") << "one more for the prediction block";
  EXPECT_EQ(message_of(R"({"compress_ratios": [0, 1, 128]})"),
            "config.json: compress_ratios: 1 is not a ratio (0, or 2 and more)");
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

TEST(DeepSeekV4Config, AListOfTheWrongLengthIsNamed) {
  for (const char* list : {"[0, 4]", "[0]", "[0, 4, 128, 0, 0]"}) {
    EXPECT_THAT(message_of(fmt::format(R"({{"compress_ratios": {}}})", list).c_str()),
                HasSubstr("entries for 3 layers and 1 prediction blocks"));
  }
  EXPECT_EQ(message_of(R"({"compress_ratios": []})"), "config.json: \"compress_ratios\" is missing");
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

TEST(DeepSeekV4Config, RopeScalingThatIsNotSupportedIsNamed) {
  EXPECT_THAT(message_of(R"({"rope_scaling": {"type": "dynamic", "factor": 2}})"), HasSubstr("rope_scaling"));
  EXPECT_THAT(message_of(R"({"rope_scaling": {"type": "yarn", "factor": -1}})"), HasSubstr("rope_scaling"));
  EXPECT_THAT(message_of(R"({"rope_theta": 0})"), HasSubstr("rope_theta"));
}

}  // namespace
}  // namespace flyover::models::deepseek_v4
