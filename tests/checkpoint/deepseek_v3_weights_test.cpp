// DeepSeek-V3 as it is published: FP8 projections with f32 scales of 128 x 128 blocks, and a prediction block that
// repeats embedding and output layer.
#include <algorithm>
#include <cmath>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/random.h"
#include "checkpoint/convert.h"
#include "checkpoint/convert_fixture.h"
#include "checkpoint/handmade_files.h"
#include "checkpoint/model_weights.h"
#include "checkpoint/quantised_model.h"
#include "devices/reference/device.h"
#include "support/model_fixture.h"
#include "support/shared_data.h"

namespace flyover::checkpoint {
namespace {

using testing::HasSubstr;

const std::string kConfig = quantised_config("deepseek_v3");

template <typename Element>
std::string bytes_of_numbers(std::int64_t count, const std::function<Element(std::uint64_t)>& make) {
  std::string bytes;
  for (std::int64_t i = 0; i < count; ++i) {
    const Element element = make(static_cast<std::uint64_t>(i));
    bytes.append(reinterpret_cast<const char*>(&element), sizeof(element));
  }
  return bytes;
}

bool is_quantised(const std::string& name) {
  return name.ends_with("_proj.weight") || name.ends_with("kv_a_proj_with_mqa.weight");
}

/// Random tensors for every weight of the model, with the copies that published directories have.
HandmadeModel published_model(const std::string& config = kConfig) {
  HandmadeModel result;
  const auto model = models::make_model(base::parse_json(config, "config.json"), "config.json");
  std::uint64_t index = 0;
  for (const autograd::Parameter& parameter : model->parameters().all()) {
    for (const autograd::CheckpointSlice& slice : parameter.spec.slices) {
      const base::Random random(7, base::RandomPurpose::kTest, index++);
      const std::string& name = slice.name;
      const std::vector<std::int64_t> shape(slice.shape.values().begin(), slice.shape.values().end());
      const std::int64_t count = slice.shape.elements();
      const auto number = [&](std::uint64_t i) { return static_cast<float>(random.normal(i)); };
      if (parameter.spec.storage == autograd::ParameterStorage::kExact) {
        result[name] = {{name, TensorType::kF32, shape}, bytes_of_numbers<float>(count, number)};
      } else if (is_quantised(name) && !name.ends_with("eh_proj.weight")) {
        const std::vector<std::int64_t> blocks = {(shape[0] + 127) / 128, (shape[1] + 127) / 128};
        const std::string scales = name + "_scale_inv";
        result[name] = {{name, TensorType::kF8E4M3, shape}, bytes_of_numbers<std::uint8_t>(count, [&](std::uint64_t i) {
                          return static_cast<std::uint8_t>(random.below(i, 0x7F));  // finite
                        })};
        result[scales] = {{scales, TensorType::kF32, blocks},
                          bytes_of_numbers<float>(blocks[0] * blocks[1], [&](std::uint64_t i) {
                            return 0.01f + 0.001f * static_cast<float>(i);
                          })};
      } else {
        result[name] = {{name, TensorType::kBf16, shape}, bytes_of_numbers<std::uint16_t>(count, [&](std::uint64_t i) {
                          return kernels::to_bf16(number(i)).bits;
                        })};
      }
    }
  }
  for (const auto& [name, original] : {std::pair{"model.layers.2.embed_tokens.weight", "model.embed_tokens.weight"},
                                       std::pair{"model.layers.2.shared_head.head.weight", "lm_head.weight"}}) {
    result[name] = result[original];
    result[name].spec.name = name;
  }
  return result;
}

class DeepSeekV3Weights : public testing::Test {
 protected:
  std::filesystem::path path() const { return directory_.path() / "model"; }
  std::string message_with(const std::function<void(HandmadeModel&)>& change) {
    HandmadeModel model = published_model();
    change(model);
    write_handmade(path(), model, false, kConfig);
    const ModelDirectory directory = ModelDirectory::open(path());
    const auto built = models::make_model(directory.config(), "config.json", stored_names(directory));
    return message_of([&] { check_weights(directory, *built); });
  }

  tests::TemporaryDirectory directory_;
};

TEST_F(DeepSeekV3Weights, AreLoadedAsCodesTimesScalesWithThePredictionBlock) {
  const HandmadeModel handmade = published_model();
  write_handmade(path(), handmade, true, kConfig);
  const ModelDirectory directory = ModelDirectory::open(path());
  tests::Machine machine(devices::reference::make_device());
  const auto model = models::make_model(directory.config(), "config.json", stored_names(directory));
  EXPECT_GT(model->summary().prediction_parameters, 0);
  load_weights(directory, *model, machine.stream, tensor::DType::kF32, autograd::ParameterUse::kInference);
  for (const autograd::Parameter& parameter : model->parameters().all()) {
    for (const autograd::CheckpointSlice& slice : parameter.spec.slices) {
      const std::vector<double> found = tests::read_doubles(machine.stream, slice.of(parameter.value));
      const std::vector<double> exact = handmade_values(handmade, slice.name);
      ASSERT_EQ(found.size(), exact.size());
      for (std::size_t i = 0; i < exact.size(); ++i) {
        ASSERT_EQ(found[i], static_cast<double>(static_cast<float>(exact[i]))) << slice.name;
      }
    }
  }
}

TEST_F(DeepSeekV3Weights, CopiesBesideThePredictionBlockMustBeCopies) {
  EXPECT_EQ(message_with([](HandmadeModel&) {}), "no error");
  EXPECT_THAT(
      message_with([](HandmadeModel& model) { model.at("model.layers.2.shared_head.head.weight").bytes[5] ^= 1; }),
      HasSubstr("\"model.layers.2.shared_head.head.weight\" must repeat \"lm_head.weight\""));
  EXPECT_THAT(message_with([](HandmadeModel& model) {
                model["model.layers.1.embed_tokens.weight"] = model.at("model.embed_tokens.weight");
              }),
              HasSubstr("1 tensor that the model has no use for: \"model.layers.1.embed_tokens.weight\""));
}

TEST_F(DeepSeekV3Weights, WithoutThePredictionBlockAreWhatTransformersSaves) {
  EXPECT_EQ(message_with([](HandmadeModel& model) {
              std::erase_if(model, [](const auto& entry) { return entry.first.starts_with("model.layers.2."); });
            }),
            "no error");
  EXPECT_THAT(message_with([](HandmadeModel& model) {
                std::erase_if(model, [](const auto& entry) {
                  return entry.first.starts_with("model.layers.1.mlp.experts.3.up_proj.");
                });
              }),
              HasSubstr("1 tensor missing: \"model.layers.1.mlp.experts.3.up_proj.weight\""));
}

ConvertRequest to(const std::filesystem::path& source, const std::filesystem::path& target, ConvertTo type) {
  ConvertRequest request;
  request.source = source;
  request.target = target;
  request.to = type;
  return request;
}

TEST_F(DeepSeekV3Weights, ConvertedToBf16AndBackAreStoredAsPublished) {
  const HandmadeModel original = published_model();
  write_handmade(path(), original, true, kConfig);
  const auto plain = directory_.path() / "bf16", again = directory_.path() / "again", copy = directory_.path() / "copy";
  convert_model(to(path(), plain, ConvertTo::kBf16));
  convert_model(to(plain, again, ConvertTo::kFp8));
  EXPECT_EQ(nlohmann::json::parse(base::read_file(again / "config.json")), nlohmann::json::parse(kConfig));
  const ModelDirectory directory = ModelDirectory::open(again);
  HandmadeModel found;
  for (const ModelTensor& tensor : directory.tensors()) {
    found[tensor.entry->name] = {*tensor.entry, std::string(as_text(bytes_of(tensor)))};
  }
  EXPECT_EQ(found.size(), original.size() - 2) << "all but the copies of embedding and output layer";
  for (const auto& [name, tensor] : found) {
    EXPECT_EQ(tensor.spec.dtype, original.at(name).spec.dtype) << name;
    EXPECT_EQ(tensor.spec.shape, original.at(name).spec.shape) << name;
    if (name.ends_with("_scale_inv")) {
      continue;
    }
    const std::vector<double> expected = handmade_values(original, name), values = handmade_values(found, name);
    const double largest = std::abs(*std::max_element(expected.begin(), expected.end()));
    for (std::size_t i = 0; i < expected.size(); ++i) {
      // FP8 has 3 bits behind the leading one, bf16 has 7; below the smallest normal code steps are 2^-9 of the scale.
      const double step = std::abs(expected[i]) * (1.0 / 16 + 1.0 / 256) + largest / 448 / 512;
      ASSERT_NEAR(values[i], expected[i], tensor.spec.dtype == TensorType::kF8E4M3 ? step : 0.0) << name;
    }
  }
  convert_model(to(again, copy, ConvertTo::kFp8));
  const ModelDirectory copied = ModelDirectory::open(copy);
  for (const ModelTensor& tensor : copied.tensors()) {
    EXPECT_EQ(std::string(as_text(bytes_of(tensor))), found.at(tensor.entry->name).bytes) << tensor.entry->name;
  }
}

/// A plain model with the experts of layer 1 merged, as some versions of transformers save them.
HandmadeModel with_merged_experts(HandmadeModel model, int experts) {
  const std::string prefix = "model.layers.1.mlp.experts";
  for (const auto& [merged, parts] : {std::pair(".gate_up_proj", std::vector<std::string>{"gate_proj", "up_proj"}),
                                      std::pair(".down_proj", std::vector<std::string>{"down_proj"})}) {
    HandmadeTensor whole;
    for (int expert = 0; expert < experts; ++expert) {
      for (const std::string& part : parts) {
        const auto found = model.find(fmt::format("{}.{}.{}.weight", prefix, expert, part));
        whole.bytes += found->second.bytes;
        const std::vector<std::int64_t>& shape = found->second.spec.shape;
        whole.spec = {prefix + merged,
                      found->second.spec.dtype,
                      {experts, shape[0] * static_cast<std::int64_t>(parts.size()), shape[1]}};
        model.erase(found);
      }
    }
    model[whole.spec.name] = whole;
  }
  return model;
}

TEST_F(DeepSeekV3Weights, MergedExpertsAreQuantisedAsSeparateOnesAre) {
  base::Json config = base::parse_json(kConfig, "config.json");
  config["moe_intermediate_size"] = 128;  // as in the real ones, gate and up do not share a block of scales
  write_handmade(path(), published_model(config.dump()), true, config.dump());
  const auto plain = directory_.path() / "plain", merged = directory_.path() / "merged";
  convert_model(to(path(), plain, ConvertTo::kBf16));
  write_handmade(merged, with_merged_experts(read_model(plain), 4), false, base::read_file(plain / "config.json"));
  EXPECT_EQ(parameter_values(merged), parameter_values(plain));
  const auto merged_fp8 = directory_.path() / "merged-fp8", plain_fp8 = directory_.path() / "plain-fp8";
  convert_model(to(merged, merged_fp8, ConvertTo::kFp8));
  convert_model(to(plain, plain_fp8, ConvertTo::kFp8));
  const HandmadeModel found = read_model(merged_fp8);
  const std::string name = "model.layers.1.mlp.experts.gate_up_proj";
  ASSERT_TRUE(found.contains(name));
  EXPECT_EQ(found.at(name).spec.dtype, TensorType::kF8E4M3);
  EXPECT_EQ(found.at(name).spec.shape, (std::vector<std::int64_t>{4, 256, 140}));
  EXPECT_EQ(found.at(name + "_scale_inv").spec.dtype, TensorType::kF32);
  EXPECT_EQ(found.at(name + "_scale_inv").spec.shape, (std::vector<std::int64_t>{4, 2, 2}));
  EXPECT_EQ(parameter_values(merged_fp8), parameter_values(plain_fp8));
}

TEST_F(DeepSeekV3Weights, AreNotPublishedInFp4) {
  write_handmade(path(), published_model(), false, kConfig);
  for (const ConvertTo type : {ConvertTo::kFp4, ConvertTo::kFp4Experts}) {
    EXPECT_THAT(message_of([&] { convert_model(to(path(), directory_.path() / "out", type)); }),
                HasSubstr("is of a family that is not published in FP4: convert it to fp8, bf16 or f32"));
  }
}

}  // namespace
}  // namespace flyover::checkpoint
