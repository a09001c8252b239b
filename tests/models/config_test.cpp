// config.json of every family: keys of relatives that would change the forward pass, token ids, positions, RoPE.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/language_model.h"
#include "support/model_fixture.h"

namespace flyover::models {
namespace {

using base::Json;
using testing::HasSubstr;

class FamilyConfig : public testing::TestWithParam<const char*> {
 protected:
  /// The message for the family's tiny configuration with these members instead of its own.
  static std::string message_of(const std::string& changes) {
    Json config = Json::parse(tests::tiny_config(GetParam()));
    config.update(Json::parse(changes));
    try {
      make_model(config, "config.json");
    } catch (const base::Error& error) {
      return error.what();
    }
    return "no error";
  }
  static std::string message_of(std::string_view key, std::string_view value) {
    return message_of(fmt::format(R"({{"{}": {}}})", key, value));
  }
  static bool is(std::string_view family) { return GetParam() == family; }
};

TEST_P(FamilyConfig, KeysOfRelativesThatChangeTheForwardPassAreNamed) {
  constexpr std::pair<std::string_view, std::string_view> kRefused[] = {
      {"residual_multiplier", "0.22"},
      {"embedding_multiplier", "12.0"},
      {"logits_scaling", "8.0"},
      {"attention_multiplier", "0.015625"},
      {"query_pre_attn_scalar", "256"},
      {"logit_scale", "0.0625"},
      {"attn_logit_softcapping", "50.0"},
      {"final_logit_softcapping", "30.0"},
      {"clip_qkv", "8.0"},
      {"no_rope_layers", "[1, 0]"},
      {"no_rope_layer_interval", "4"},
      {"attention_chunk_size", "8192"},
      {"attn_temperature_tuning", "true"},
      {"use_qk_norm", "true"},
      {"mlp_bias", "true"},
      {"use_sliding_window", "true"},
      {"is_causal", "false"},
      {"pretraining_tp", "2"},
      {"attention_dropout", "0.1"},
      {"hidden_act", "\"gelu\""},
      {"torch_dtype", "\"int4\""},
      {"dtype", "\"int4\""},
      {"dtype", "{\"\": \"float32\"}"},
      {"hidden_activation", "\"gelu\""},
      {"architectures", "[\"MistralForCausalLM\"]"},
  };
  for (const auto& [key, value] : kRefused) {
    EXPECT_THAT(message_of(key, value), testing::AllOf(testing::StartsWith(fmt::format("config.json: \"{}\": ", key)),
                                                       HasSubstr(" is not supported (supported: ")))
        << value;
  }
  if (!is("deepseek_v4")) {
    EXPECT_EQ(message_of("layer_types", R"(["sliding_attention", "full_attention"])"),
              R"(config.json: "layer_types": "sliding_attention" is not supported (supported: "full_attention"))");
    EXPECT_THAT(message_of("layer_types", R"("sliding_attention")"), HasSubstr("is not supported"));
    EXPECT_EQ(message_of("partial_rotary_factor", "0.5"),
              "config.json: \"partial_rotary_factor\": 0.5 is not supported (supported: 1)");
  }
  if (!is("deepseek_v4") && !is("qwen3_moe")) {
    EXPECT_EQ(message_of("sliding_window", "4096"),
              "config.json: \"sliding_window\": 4096 is not supported (supported: null)");
  }
}

TEST_P(FamilyConfig, ValuesThatChangeNothingAreAccepted) {
  EXPECT_EQ(message_of(fmt::format(R"({{"architectures": ["{}"], "pretraining_tp": 1, "residual_multiplier": 1.0,
                "embedding_multiplier": 1, "logits_scaling": 1, "attention_multiplier": null, "no_rope_layers": [],
                "mlp_bias": false, "attn_logit_softcapping": null, "torch_dtype": "float16", "dtype": "bfloat16",
                "use_cache": false, "is_causal": true, "attention_dropout": 0, "some_unknown_key": 3}})",
                                   architecture_of(GetParam()))),
            "no error");
  EXPECT_EQ(message_of(R"({"architectures": null, "no_rope_layers": [1, 1], "no_rope_layer_interval": 4})"),
            "no error");
  if (!is("deepseek_v4")) {
    EXPECT_EQ(message_of("layer_types", R"(["full_attention", "full_attention"])"), "no error");
    EXPECT_EQ(message_of("partial_rotary_factor", "1.0"), "no error");
  }
}

// Sizes, and keys for which other programs take different values for granted.
TEST_P(FamilyConfig, KeysWithoutACommonDefaultMustBeThere) {
  std::vector<const char*> keys = {"vocab_size", "hidden_size", "num_hidden_layers"};
  if (is("deepseek_v3")) {
    keys.insert(keys.end(), {"q_lora_rank", "first_k_dense_replace", "n_group", "topk_group", "routed_scaling_factor"});
  } else if (is("deepseek_v4")) {
    keys.push_back("routed_scaling_factor");
  } else if (is("qwen3_moe")) {
    keys.push_back("num_key_value_heads");
  }
  for (const char* key : keys) {
    Json config = Json::parse(tests::tiny_config(GetParam()));
    config.erase(key);
    EXPECT_THAT([&] { make_model(config, "config.json"); },
                testing::ThrowsMessage<base::Error>(
                    testing::StartsWith(fmt::format("config.json: the key \"{}\" is missing", key))));
  }
}

TEST_P(FamilyConfig, WeightsInAnUnknownFormatAreNamed) {
  const std::string message = message_of("quantization_config", R"({"quant_method": "gptq", "bits": 4})");
  EXPECT_THAT(message, testing::AllOf(HasSubstr("quantization_config"), HasSubstr("gptq"), HasSubstr("not supported")));
}

TEST_P(FamilyConfig, TokensOutsideOfTheVocabularyAreNamed) {
  for (const char* key : {"bos_token_id", "eos_token_id"}) {
    for (const char* value : {"null", "0", "10", "[2, 10]"}) {
      EXPECT_EQ(message_of(key, value), "no error") << key << ": " << value;
    }
    for (const char* value : {"11", "99999", "[2, 11]", "-2", "5000000000"}) {
      EXPECT_THAT(message_of(key, value), testing::AllOf(testing::StartsWith(fmt::format("config.json: \"{}\": ", key)),
                                                         HasSubstr("is outside of the vocabulary of 11 tokens")))
          << value;
    }
    EXPECT_THAT(message_of(key, "\"</s>\""), HasSubstr("must be a token id or a list of them, found \"</s>\""));
  }
  for (const char* padding : {"-1", "11"}) {
    EXPECT_EQ(message_of("pad_token_id", padding), "no error") << "nothing is padded";
  }
  EXPECT_EQ(message_of("eos_token_id", "-1"),
            "config.json: \"eos_token_id\": -1 is outside of the vocabulary of 11 tokens: correct it, or remove the "
            "key");
}

TEST_P(FamilyConfig, PositionsThatCannotBeAreNamed) {
  EXPECT_EQ(message_of("max_position_embeddings", "-5"),
            "config.json: \"max_position_embeddings\" must be a positive 31-bit number, found -5");
  EXPECT_THAT(message_of("max_position_embeddings", "0"), HasSubstr("found 0"));
  for (const char* value : {"1e-300", "0.5", "1", "-10000", "1e16"}) {
    EXPECT_THAT(message_of(fmt::format(R"({{"rope_theta": {}, "rope_parameters": null}})", value)),
                HasSubstr("\"rope_theta\" must be a number above 1 and up to 1e+15, found"))
        << value;
  }
  EXPECT_THAT(message_of("rms_norm_eps", "1e-300"),
              HasSubstr("\"rms_norm_eps\" must be a 32-bit number, found 1e-300"));
  EXPECT_THAT(message_of("rms_norm_eps", "1e300"), HasSubstr("\"rms_norm_eps\" must be a 32-bit number, found 1e+300"));
}

TEST_P(FamilyConfig, RopeParametersOfEachKindOfLayerAreNamed) {
  const std::string message = message_of(R"({"rope_scaling": null, "rope_parameters": {"full_attention":
      {"rope_type": "default", "rope_theta": 1000000.0}, "sliding_attention": {"rope_type": "default"}}})");
  EXPECT_THAT(message, HasSubstr("config.json: rope_parameters: \"full_attention\": "));
}

INSTANTIATE_TEST_SUITE_P(Families, FamilyConfig, testing::Values("llama", "qwen3_moe", "deepseek_v3", "deepseek_v4"),
                         [](const auto& family) { return std::string(family.param); });

}  // namespace
}  // namespace flyover::models
