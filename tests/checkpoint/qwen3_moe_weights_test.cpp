// Qwen3-MoE as it is published in FP8: projections with bf16 scales of 128 x 128 blocks, routers and the rest plain.
#include <algorithm>
#include <cmath>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "checkpoint/convert_fixture.h"

namespace flyover::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class Qwen3MoeWeights : public Convert {
 protected:
  const std::string config_ = quantised_config("qwen3_moe");
  const HandmadeModel published_ = quantised_model(5, false, config_);
};

TEST_F(Qwen3MoeWeights, AreLoadedAsCodesTimesScales) {
  write_handmade(at("fp8"), published_, true, config_);
  EXPECT_EQ(published_.at("model.layers.1.mlp.experts.3.up_proj.weight_scale_inv").spec.dtype, TensorType::kBf16);
  const ModelDirectory directory = ModelDirectory::open(at("fp8"));
  tests::Machine machine(devices::reference::make_device());
  const auto model = models::make_model(directory.config(), "config.json", stored_names(directory));
  load_weights(directory, *model, machine.stream, tensor::DType::kF32, autograd::ParameterUse::kInference);
  for (const autograd::Parameter& parameter : model->parameters().all()) {
    for (const autograd::CheckpointSlice& slice : parameter.spec.slices) {
      const std::vector<double> found = tests::read_doubles(machine.stream, slice.of(parameter.value));
      const std::vector<double> exact = handmade_values(published_, slice.name);
      ASSERT_EQ(found, exact) << slice.name;  // 4 bits times 8: f32 holds the product
    }
  }
}

TEST_F(Qwen3MoeWeights, ConvertedToBf16AndBackAreStoredAsPublished) {
  write_handmade(at("fp8"), published_, true, config_);
  convert("fp8", "bf16", ConvertTo::kBf16);
  convert("bf16", "again", ConvertTo::kFp8);
  EXPECT_FALSE(config_of("bf16").contains("quantization_config"));
  EXPECT_EQ(config_of("again"), config_of("fp8"));
  const HandmadeModel found = read_model(at("again"));
  EXPECT_EQ(found.size(), published_.size());
  for (const auto& [name, tensor] : published_) {
    ASSERT_TRUE(found.contains(name)) << name;
    EXPECT_EQ(found.at(name).spec.dtype, tensor.spec.dtype) << name;
    EXPECT_EQ(found.at(name).spec.shape, tensor.spec.shape) << name;
    if (is_scale(name)) {
      continue;
    }
    const std::vector<double> expected = handmade_values(published_, name), values = handmade_values(found, name);
    const double largest = std::abs(*std::max_element(expected.begin(), expected.end(),
                                                      [](double a, double b) { return std::abs(a) < std::abs(b); }));
    for (std::size_t i = 0; i < expected.size(); ++i) {
      // As for DeepSeek-V3; a scale that was rounded up may be 2^-7 larger than it needs to be.
      const double step = std::abs(expected[i]) * (1.0 / 16 + 1.0 / 256) + largest / 440 / 512;
      ASSERT_NEAR(values[i], expected[i], tensor.spec.dtype == TensorType::kF8E4M3 ? step : 0.0) << name;
    }
  }
}

TEST_F(Qwen3MoeWeights, AreWrittenBackByteForByteAsTheyWere) {
  write_handmade(at("fp8"), published_, true, config_);
  const ModelDirectory directory = ModelDirectory::open(at("fp8"));
  tests::Machine machine(devices::reference::make_device());
  const auto model = models::make_model(directory.config(), "config.json", stored_names(directory));
  load_weights(directory, *model, machine.stream, tensor::DType::kF32, autograd::ParameterUse::kInference);
  ModelOutput output;
  output.like = &directory;
  write_model(at("again"), directory.config(), *model, machine.stream, output);
  const HandmadeModel again = read_model(at("again"));
  for (const auto& [name, tensor] : published_) {
    const bool quantised = is_scale(name) || published_.contains(name + "_scale_inv");
    EXPECT_TRUE(!quantised || again.at(name).bytes == tensor.bytes) << name;
  }
}

TEST_F(Qwen3MoeWeights, InOtherFormatsAreRefused) {
  const auto message = [&](const std::string& quantization) {
    base::Json config = base::parse_json(config_, "config.json");
    config["quantization_config"] = base::parse_json(quantization, "test");
    return message_of([&] { models::make_model(config, "config.json"); });
  };
  EXPECT_EQ(message(R"({"quant_method": "fp8", "weight_block_size": [128, 128]})"), "no error");
  EXPECT_THAT(message(R"({"quant_method": "awq", "bits": 4})"),
              AllOf(HasSubstr("config.json: quantization_config"), HasSubstr("\"awq\""), HasSubstr("\"fp8\"")));
  EXPECT_THAT(message(R"({"bits": 4})"), HasSubstr("\"quant_method\": null"));
  EXPECT_THAT(message(R"({"quant_method": "fp8", "fmt": "e5m2"})"), HasSubstr("\"fmt\": \"e5m2\""));
  EXPECT_THAT(message(R"({"quant_method": "fp8", "weight_block_size": [64, 128]})"),
              AllOf(HasSubstr("[64,128]"), HasSubstr("[128, 128]")));
}

TEST_F(Qwen3MoeWeights, AreListedForEveryConfiguration) {
  for (const bool tied : {false, true}) {
    base::Json config = base::parse_json(config_, "config.json");
    config["tie_word_embeddings"] = tied;
    config["attention_bias"] = tied;
    std::map<std::string, std::vector<std::int64_t>> of_model, released;
    const auto model = models::make_model(config, "config.json");
    for (const autograd::Parameter& parameter : model->parameters().all()) {
      for (const autograd::CheckpointSlice& slice : parameter.spec.slices) {
        of_model[slice.name] = {slice.shape.values().begin(), slice.shape.values().end()};
      }
    }
    for (const models::ReleasedWeight& weight : models::released_weights(config, "config.json")) {
      released[weight.name] = {weight.shape.values().begin(), weight.shape.values().end()};
    }
    EXPECT_EQ(released, of_model);
  }
}

}  // namespace
}  // namespace flyover::checkpoint
