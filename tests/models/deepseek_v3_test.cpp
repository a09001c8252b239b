// DeepSeek-V3: what is refused, how many parameters there are, and what the prediction block computes (transformers
// leaves it out, so that no stored results have it).
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "devices/reference/device.h"
#include "models/deepseek_v3/config.h"
#include "nn/batch.h"
#include "support/model_fixture.h"

namespace flyover::models::deepseek_v3 {
namespace {

using base::Json;
using tensor::DType;

Json small_config() {
  return Json::parse(R"({"model_type": "deepseek_v3", "vocab_size": 11, "hidden_size": 10, "intermediate_size": 9,
    "moe_intermediate_size": 4, "num_hidden_layers": 2, "first_k_dense_replace": 1, "num_attention_heads": 3,
    "q_lora_rank": 5, "kv_lora_rank": 7, "qk_nope_head_dim": 3, "qk_rope_head_dim": 4, "v_head_dim": 5,
    "n_routed_experts": 6, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 3, "topk_group": 2,
    "routed_scaling_factor": 2.5, "rms_norm_eps": 1e-5, "num_nextn_predict_layers": 1})");
}

/// As published in 2024; what does not change the computation is left out.
Json published_config() {
  return Json::parse(R"({"model_type": "deepseek_v3", "vocab_size": 129280, "hidden_size": 7168,
    "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61, "first_k_dense_replace": 3,
    "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 256,
    "n_shared_experts": 1, "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "norm_topk_prob": true,
    "routed_scaling_factor": 2.5, "moe_layer_freq": 1, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
    "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000, "rope_scaling": {"type": "yarn", "factor": 40,
    "beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096},
    "max_position_embeddings": 163840, "num_nextn_predict_layers": 1, "tie_word_embeddings": false})");
}

/// The message for the small configuration with these members instead of its own.
std::string message_of(const char* changes) {
  Json config = small_config();
  config.update(Json::parse(changes));
  try {
    parse_config(config, "config.json");
  } catch (const base::Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(DeepSeekV3Config, SizesThatDoNotFitTogetherAreNamed) {
  EXPECT_EQ(message_of("{}"), "no error");
  EXPECT_EQ(message_of(R"({"q_lora_rank": null})"), "no error");
  EXPECT_EQ(message_of(R"({"kv_lora_rank": 0})"),
            "config.json: \"kv_lora_rank\" must be a positive 31-bit number, found 0");
  EXPECT_EQ(message_of(R"({"qk_rope_head_dim": 3})"),
            "config.json: an odd qk_rope_head_dim 3 cannot be rotated in pairs");
  EXPECT_EQ(message_of(R"({"first_k_dense_replace": -1})"),
            "config.json: first_k_dense_replace must not be negative, found -1");
  EXPECT_EQ(message_of(R"({"n_group": 4})"), "config.json: n_routed_experts 6 must be a multiple of n_group 4");
  EXPECT_EQ(message_of(R"({"topk_group": 4})"), "config.json: topk_group 4 is more than n_group 3");
  EXPECT_EQ(message_of(R"({"num_experts_per_tok": 5})"),
            "config.json: num_experts_per_tok 5 is more than the 4 experts of topk_group 2 groups, or than 32");
  EXPECT_EQ(message_of(R"({"n_routed_experts": 1026})"),
            "config.json: n_routed_experts 1026 is more than 1024, which is supported");
  EXPECT_THAT(message_of(R"({"num_attention_heads": 16384, "v_head_dim": 65536, "hidden_size": 2147483647})"),
              testing::HasSubstr("parameters (supported: up to 1e+15)"));
  EXPECT_EQ(message_of(R"({"num_attention_heads": 1048576})"),
            "config.json: 1048576 attention heads are not supported (supported: up to 16384)");
  for (const char* key : {"v_head_dim", "qk_nope_head_dim", "qk_rope_head_dim"}) {
    EXPECT_THAT(message_of(fmt::format(R"({{"{}": 100000}})", key).c_str()),
                testing::HasSubstr("elements are not supported (supported: up to 65536)"));
  }
}

TEST(DeepSeekV3Config, ValuesThatChangeTheComputationAndAreNotSupportedAreNamed) {
  EXPECT_EQ(message_of(R"({"scoring_func": "softmax"})"),
            "config.json: \"scoring_func\": \"softmax\" is not supported (supported: \"sigmoid\")");
  EXPECT_EQ(message_of(R"({"topk_method": "greedy"})"),
            "config.json: \"topk_method\": \"greedy\" is not supported (supported: \"noaux_tc\")");
  EXPECT_EQ(message_of(R"({"num_key_value_heads": 1})"),
            "config.json: \"num_key_value_heads\": 1 is not supported (supported: 3)");
  EXPECT_EQ(message_of(R"({"num_nextn_predict_layers": 2})"),
            "config.json: num_nextn_predict_layers 2 is not supported (supported: 0, 1)");
  EXPECT_EQ(message_of(R"({"moe_layer_freq": 2})"),
            "config.json: \"moe_layer_freq\": 2 is not supported (supported: 1)");
  EXPECT_EQ(message_of(R"({"tie_word_embeddings": true})"),
            "config.json: \"tie_word_embeddings\": true is not supported (supported: false)");
  EXPECT_EQ(message_of(R"({"rope_scaling": {"type": "linear", "factor": 2}})"),
            "config.json: rope_scaling: rope_type \"linear\" is not supported (supported: default, yarn)");
  EXPECT_EQ(message_of(R"({"rope_scaling": {"type": "yarn", "factor": 2}})"),
            "config.json: rope_scaling: the key \"original_max_position_embeddings\" is missing (expected a number)");
  EXPECT_EQ(message_of(R"({"index_topk": 2048})"),
            "config.json: \"index_topk\": 2048 is not supported (supported: null)");
  EXPECT_EQ(message_of(R"({"head_dim": 64})"), "config.json: \"head_dim\": 64 is not supported (supported: 4)");
  EXPECT_EQ(message_of(R"({"qk_head_dim": 64})"), "config.json: \"qk_head_dim\": 64 is not supported (supported: 7)");
}

/// Worked out by hand from the sizes; the report and the model card round the same numbers to 671B, 37B and 14B (the
/// prediction block with its copies of embedding and output layer).
TEST(DeepSeekV3, OfPublishedSizeHasThePublishedNumberOfParameters) {
  const auto model = make_model(published_config(), "config.json");
  const ModelSummary& summary = model->summary();
  constexpr std::int64_t kTable = std::int64_t{129280} * 7168;
  EXPECT_EQ(model->parameters().elements() - summary.prediction_parameters, 671'026'419'200);
  EXPECT_EQ(summary.prediction_parameters, 11'610'068'224);
  EXPECT_EQ(model->parameters().elements() + 2 * kTable, 684'489'845'504);  // all elements of the published files
  EXPECT_EQ(summary.active_parameters, 36'625'618'432);
  ASSERT_EQ(summary.mixtures.size(), 59u);
  EXPECT_EQ(summary.mixtures.front(), "3") << "behind three dense layers";
  EXPECT_EQ(summary.mixtures.back(), "mtp");
  // A token meets 61 attentions, 3 dense layers, in 58 layers a router, 8 experts and a shared one, and the output.
  constexpr std::int64_t kAttention = std::int64_t{7168} * (1536 + 576 + 16384) + 1536 * 24576 + 512 * 32768;
  constexpr std::int64_t kExpert = std::int64_t{3} * 7168 * 2048;
  EXPECT_EQ(summary.matrix_parameters,
            61 * kAttention + 3 * std::int64_t{3} * 7168 * 18432 + 58 * (7168 * 256 + 9 * kExpert) + kTable);
}

TEST(DeepSeekV3, WithoutTheBlocksTensorsThereIsNoPredictionBlock) {
  const auto without = make_model(small_config(), "config.json", [](std::string_view) { return false; });
  EXPECT_EQ(without->summary().prediction_parameters, 0);
  EXPECT_EQ(without->summary().mixtures, (std::vector<std::string>{"1"}));
  const auto with = make_model(small_config(), "config.json",
                               [](std::string_view name) { return name == "model.layers.2.eh_proj.weight"; });
  EXPECT_GT(with->summary().prediction_parameters, 0);
  EXPECT_EQ(with->summary().mixtures, (std::vector<std::string>{"1", "mtp"}));
  EXPECT_EQ(with->balanced_mixtures().size(), 2u);
}

TEST(DeepSeekV3, TrainingCountsSixFlopsForEachMatrixElementAndEachElementOfAVisiblePair) {
  const auto model = make_model(small_config(), "config.json");
  const std::vector<std::int64_t> lengths = {4, 2};
  // 10 + 3 visible pairs; 3 heads, of which queries and keys have 7 elements and values 5.
  EXPECT_EQ(model->training_flops(lengths),
            6.0 * 6 * static_cast<double>(model->summary().matrix_parameters) + 6.0 * 2 * 3 * (7 + 5) * 13);
}

/// The values of a model's tensors by their names in checkpoints.
std::vector<double> values_of(tests::Machine& machine, const LanguageModel& model, const std::string& name) {
  for (const autograd::Parameter& parameter : model.parameters().all()) {
    for (const autograd::CheckpointSlice& slice : parameter.spec.slices) {
      if (slice.name == name) {
        return tests::read_doubles(machine.stream, slice.of(parameter.value));
      }
    }
  }
  throw std::runtime_error("no tensor " + name);
}

constexpr double kEpsilon = static_cast<double>(1e-5f);  // rms_norm_eps, which kernels get as a float

std::vector<double> normalised(const std::vector<double>& x, std::size_t begin, const std::vector<double>& weight) {
  double squares = 0;
  for (std::size_t i = 0; i < weight.size(); ++i) {
    squares += x[begin + i] * x[begin + i];
  }
  std::vector<double> result;
  for (std::size_t i = 0; i < weight.size(); ++i) {
    result.push_back(x[begin + i] * weight[i] / std::sqrt(squares / static_cast<double>(weight.size()) + kEpsilon));
  }
  return result;
}

/// eh_proj [norm(embedding of the next token); norm(hidden state)] of every token, in plain loops.
std::vector<double> inputs_of_prediction(tests::Machine& machine, const LanguageModel& model,
                                         const nn::PackedTokens& packed, const std::vector<double>& hidden) {
  const auto embedding = values_of(machine, model, "model.embed_tokens.weight");
  const auto enorm = values_of(machine, model, "model.layers.2.enorm.weight");
  const auto hnorm = values_of(machine, model, "model.layers.2.hnorm.weight");
  const auto projection = values_of(machine, model, "model.layers.2.eh_proj.weight");
  const std::size_t width = enorm.size();
  std::vector<double> result;
  for (std::size_t t = 0; t < packed.tokens.size(); ++t) {
    // Behind a document's end any token will do: nothing is predicted there, and no other row sees it.
    const std::size_t next = t + 1 < packed.tokens.size() ? static_cast<std::size_t>(packed.tokens[t + 1]) : 0;
    std::vector<double> joined = normalised(embedding, next * width, enorm);
    const auto state = normalised(hidden, t * width, hnorm);
    joined.insert(joined.end(), state.begin(), state.end());
    for (std::size_t row = 0; row < width; ++row) {
      double sum = 0;
      for (std::size_t i = 0; i < 2 * width; ++i) {
        sum += projection[row * 2 * width + i] * joined[i];
      }
      result.push_back(sum);
    }
  }
  return result;
}

TEST(DeepSeekV3, PredictionBlockIsALayerOverNextEmbeddingAndHiddenState) {
  tests::Machine machine(devices::reference::make_device());
  const auto model = make_model(small_config(), "config.json");
  model->parameters().allocate(machine.stream, DType::kF64, autograd::ParameterUse::kInference);
  tests::randomise(*model, machine.stream, 0.3, 4);
  const nn::PackedTokens packed = tests::tiny_batch();
  nn::TokenBatch batch = nn::upload(machine.stream, packed, DType::kF64);
  batch.auxiliary.further = nn::further_targets(machine.stream, packed, 1.0f, DType::kF64);
  autograd::Tape tape(machine.stream, model->parameters(), {false, autograd::RecomputePolicy::kNone, nullptr});
  const TrainingStates states = model->training_states(tape, batch);
  const auto hidden = tests::read_doubles(machine.stream, states.hidden.value);
  const auto found = tests::read_doubles(machine.stream, states.further.value);

  // The same as a model of one layer, with the block's inputs as the embeddings of as many tokens.
  Json config = small_config();
  config.update({{"num_hidden_layers", 1},
                 {"first_k_dense_replace", 0},
                 {"num_nextn_predict_layers", 0},
                 {"vocab_size", packed.tokens.size()}});
  const auto layer = make_model(config, "config.json");
  layer->parameters().allocate(machine.stream, DType::kF64, autograd::ParameterUse::kInference);
  for (autograd::Parameter& parameter : layer->parameters().all()) {
    std::vector<double> values;
    for (const autograd::CheckpointSlice& slice : parameter.spec.slices) {
      std::string name = slice.name;
      if (name.starts_with("model.layers.0.")) {
        name.replace(0, std::string("model.layers.0.").size(), "model.layers.2.");
      }
      std::vector<double> part;
      if (name == "model.embed_tokens.weight") {
        part = inputs_of_prediction(machine, *model, packed, hidden);
      } else if (name == "lm_head.weight") {
        part.assign(static_cast<std::size_t>(slice.shape.elements()), 0.0);
      } else {
        part =
            values_of(machine, *model, name == "model.norm.weight" ? "model.layers.2.shared_head.norm.weight" : name);
      }
      values.insert(values.end(), part.begin(), part.end());
    }
    tests::write_doubles(machine.stream, parameter.value, values);
  }
  nn::PackedTokens numbered = packed;
  for (std::size_t t = 0; t < numbered.tokens.size(); ++t) {
    numbered.tokens[t] = static_cast<std::int32_t>(t);
  }
  autograd::Tape other(machine.stream, layer->parameters(), {false, autograd::RecomputePolicy::kNone, nullptr});
  const auto expected = tests::read_doubles(
      machine.stream, layer->hidden_states(other, nn::upload(machine.stream, numbered, DType::kF64)).value);
  ASSERT_EQ(found.size(), expected.size());
  std::size_t row = 0;
  for (const std::int64_t length : packed.document_lengths) {
    for (std::size_t i = row * 10; i < (row + static_cast<std::size_t>(length) - 1) * 10; ++i) {
      EXPECT_NEAR(found[i], expected[i], 1e-12) << "token " << i / 10;
    }
    row += static_cast<std::size_t>(length);
  }
}

}  // namespace
}  // namespace flyover::models::deepseek_v3
