// Damaged configurations make a model or are refused with an Error, never anything else. Meant for the sanitizer
// builds.
#include <utility>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "models/language_model.h"
#include "support/damage.h"

namespace flyover::models {
namespace {

using base::Json;

const std::string kLlama =
    R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 11, "hidden_size": 12,)"
    R"( "intermediate_size": 10, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,)"
    R"( "head_dim": 6, "hidden_act": "silu", "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "rope_theta": 10000.0,)"
    R"( "max_position_embeddings": 64, "attention_bias": false, "mlp_bias": false, "eos_token_id": [1, 2],)"
    R"( "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,)"
    R"( "original_max_position_embeddings": 16}})";

const std::string kDeepSeekV4 =
    R"({"model_type": "deepseek_v4", "vocab_size": 11, "hidden_size": 12, "num_hidden_layers": 3,)"
    R"( "num_attention_heads": 4, "head_dim": 8, "qk_rope_head_dim": 4, "q_lora_rank": 6, "o_groups": 2,)"
    R"( "o_lora_rank": 4, "sliding_window": 8, "compress_ratios": [0, 4, 128], "index_n_heads": 2,)"
    R"( "index_head_dim": 8, "index_topk": 4, "n_routed_experts": 5, "n_shared_experts": 1, "num_experts_per_tok": 2,)"
    R"( "moe_intermediate_size": 6, "num_hash_layers": 1, "hc_mult": 2, "num_nextn_predict_layers": 1,)"
    R"( "routed_scaling_factor": 1.5, "rms_norm_eps": 1e-6, "max_position_embeddings": 64, "tie_word_embeddings": false})";

/// Whether the text gives a model. One that is accepted has parameters of positive sizes with names.
bool accepts(const std::string& text) {
  try {
    const std::unique_ptr<LanguageModel> model = make_model(base::parse_json(text, "config.json"), "config.json");
    const autograd::ParameterSet& parameters = std::as_const(*model).parameters();
    EXPECT_FALSE(parameters.all().empty());
    for (const autograd::Parameter& parameter : parameters.all()) {
      EXPECT_FALSE(parameter.spec.name.empty());
      for (const std::int64_t size : parameter.spec.shape.values()) {
        EXPECT_GT(size, 0) << text;
      }
    }
    return true;
  } catch (const base::Error& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with("config.json")) << error.what();
    return false;
  }
}

class ConfigFuzz : public testing::TestWithParam<std::string> {};

TEST_P(ConfigFuzz, DamagedBytesAreRefusedOrMakeAModel) {
  ASSERT_TRUE(accepts(GetParam()));
  constexpr std::uint64_t kRounds = 3000;
  std::uint64_t accepted = 0;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    accepted += accepts(tests::damaged(GetParam(), round)) ? 1u : 0u;
  }
  EXPECT_GT(accepted, kRounds / 20);
  EXPECT_LT(accepted, kRounds * 4 / 5);
}

TEST_P(ConfigFuzz, OtherValuesAreRefusedOrMakeAModel) {
  const std::vector<Json> others = {
      nullptr, true, 0,     1,  -1,     3,        10000,         2147483647,     3000000000u,     9223372036854775807,
      0.5,     -0.0, 1e300, "", "silu", "llama3", Json::array(), Json::object(), Json::array({4})};
  constexpr std::uint64_t kRounds = 3000;
  std::uint64_t accepted = 0;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    Json config = Json::parse(GetParam());
    tests::change_value(config, base::Random(19, base::RandomPurpose::kTest, round), others);
    accepted += accepts(config.dump()) ? 1u : 0u;
  }
  EXPECT_GT(accepted, kRounds / 20);
  EXPECT_LT(accepted, kRounds * 4 / 5);
}

INSTANTIATE_TEST_SUITE_P(Families, ConfigFuzz, testing::Values(kLlama, kDeepSeekV4),
                         [](const auto& family) { return std::string(family.index == 0 ? "Llama" : "DeepSeekV4"); });

}  // namespace
}  // namespace flyover::models
