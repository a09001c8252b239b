// Converting to FP8: following directories of every family, merging and splitting blocks, types of scales.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "checkpoint/convert_fixture.h"

namespace flyover::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ConvertFamilies : public Convert, public testing::WithParamInterface<const char*> {};

TEST_P(ConvertFamilies, ToPlainAndBackLikeTheOriginalIsTheOriginal) {
  const std::string config = quantised_config(GetParam());
  const HandmadeModel original = quantised_model(31, false, config);
  write_handmade(at("published"), original, true, config);
  convert("published", "f32", ConvertTo::kF32);
  ConvertRequest follow = request("f32", "again", ConvertTo::kBf16);
  follow.like = at("published");
  convert_model(follow);
  expect_equal(read_model(at("again")), original);
  EXPECT_EQ(config_of("again"), config_of("published"));
  EXPECT_EQ(parameter_values(at("again")), parameter_values(at("published")));
  follow.target = at("plain");
  follow.source = at("published");
  follow.like = at("f32");
  convert_model(follow);
  EXPECT_EQ(parameter_values(at("plain")), parameter_values(at("published")));
}

INSTANTIATE_TEST_SUITE_P(Families, ConvertFamilies, testing::Values("deepseek_v3", "deepseek_v4", "qwen3_moe"));

TEST_F(Convert, WhatCouldNotBeReadIsNotWritten) {
  const std::string config = R"({"model_type": "llama", "vocab_size": 4, "hidden_size": 2, "intermediate_size": 2,
    "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 8, "tie_word_embeddings": true)";
  HandmadeModel llama;
  const auto model = models::make_model(base::parse_json(config + "}", "config.json"), "config.json");
  for (const autograd::Parameter& parameter : model->parameters().all()) {
    for (const autograd::CheckpointSlice& slice : parameter.spec.slices) {
      const TensorSpec spec{slice.name, TensorType::kF32, {slice.shape.values().begin(), slice.shape.values().end()}};
      llama[slice.name] = {spec, std::string(byte_count(spec), '\x01')};
    }
  }
  write_handmade(at("plain"), llama, false, config + "}");
  write_handmade(at("other"), llama, false, config + R"(, "quantization_config": {"quant_method": "fp8"}})");
  ConvertRequest follow = request("plain", "out", ConvertTo::kBf16);
  follow.like = at("other");
  EXPECT_THAT(message_of([&] { convert_model(follow); }),
              AllOf(HasSubstr("as it would be converted"), HasSubstr("quantization_config")));
  EXPECT_EQ(entries(), 2u);
}

/// FP8 of experts of this width, whose scales differ from block to block.
class ConvertMergedFp8 : public Convert {
 protected:
  void write_fp8(std::int64_t width) const {
    base::Json config = base::parse_json(quantised_config(), "config.json");
    config["moe_intermediate_size"] = width;
    write_handmade(at("fp4"), quantised_model(32, false, config.dump()), false, config.dump());
    convert("fp4", "fp8", ConvertTo::kFp8);
  }
  ConvertOutcome rename(const std::string& source, const std::string& target, ConvertNames names, ConvertTo to) const {
    ConvertRequest result = request(source, target, to);
    result.names = names;
    return convert_model(result);
  }
};

TEST_F(ConvertMergedFp8, OfWholeBlocksIsTheSameBytes) {
  write_fp8(128);
  ConvertRequest wide = request("fp4", "fp8-f32", ConvertTo::kFp8);
  wide.fp8_scales = TensorType::kF32;
  convert_model(wide);
  for (const char* const fp8 : {"fp8", "fp8-f32"}) {
    const std::string merged = std::string(fp8) + "-merged", split = std::string(fp8) + "-split";
    rename(fp8, merged, ConvertNames::kTransformers, ConvertTo::kFp8);
    EXPECT_EQ(read_model(at(merged)).at("model.layers.1.mlp.experts.gate_up_proj_scale_inv").spec.shape,
              (std::vector<std::int64_t>{5, 2, 2}));
    EXPECT_EQ(parameter_values(at(merged)), parameter_values(at(fp8)));
    rename(merged, split, ConvertNames::kPublished, ConvertTo::kFp8);
    expect_equal(read_model(at(split)), read_model(at(fp8)));
  }
}

TEST_F(ConvertMergedFp8, OfCutBlocksIsRefusedBecauseItsValuesWouldChange) {
  write_fp8(192);
  const std::size_t before = entries();
  EXPECT_THAT(
      message_of([&] { rename("fp8", "merged", ConvertNames::kTransformers, ConvertTo::kFp8); }),
      AllOf(HasSubstr("\"model.layers.0.mlp.experts.gate_up_proj\" [5, 384, 160]"), HasSubstr("--names source")));
  EXPECT_EQ(entries(), before);
  rename("fp8", "merged-bf16", ConvertNames::kTransformers, ConvertTo::kBf16);
  EXPECT_EQ(parameter_values(at("merged-bf16")), parameter_values(at("fp8")));
  ConvertRequest back = request("merged-bf16", "again", ConvertTo::kBf16);
  back.like = at("fp8");
  convert_model(back);
  expect_equal(read_model(at("again")), read_model(at("fp8")));

  rename("merged-bf16", "merged", ConvertNames::kSource, ConvertTo::kFp8);
  back.source = at("fp8");
  back.target = at("followed");
  back.like = at("merged");
  EXPECT_THAT(message_of([&] { convert_model(back); }), HasSubstr("rows of several FP8 blocks"));
}

TEST_F(ConvertMergedFp8, IsSplitWhereEveryBlockIsPartOfOne) {
  write_fp8(64);  // two matrices in a block of the merged one
  ConvertRequest merge = request("fp4", "merged", ConvertTo::kFp8);
  merge.names = ConvertNames::kTransformers;
  for (const TensorType scales : {TensorType::kF8E8M0, TensorType::kF32}) {
    const std::string name(name_of(scales));
    merge.fp8_scales = scales;
    merge.target = at("merged-" + name);
    convert_model(merge);
    rename("merged-" + name, "split-" + name, ConvertNames::kPublished, ConvertTo::kFp8);
    EXPECT_EQ(read_model(at("split-" + name)).at("layers.1.ffn.experts.3.w1.scale").spec.dtype, scales);
    EXPECT_EQ(parameter_values(at("split-" + name)), parameter_values(at("merged-" + name)));
  }
}

TEST_F(Convert, TypesOfScalesAreThoseOfTheSourceUnlessAskedFor) {
  write_handmade(at("fp4"), quantised_model(33));
  ConvertRequest wide = request("fp4", "f32", ConvertTo::kFp8);
  wide.fp8_scales = TensorType::kF32;
  convert_model(wide);
  const HandmadeModel f32 = read_model(at("f32"));
  EXPECT_EQ(f32.at("layers.1.ffn.experts.3.w1.scale").spec.dtype, TensorType::kF32);
  EXPECT_EQ(f32.at("layers.1.attn.wq_a.scale").spec.dtype, TensorType::kF32);
  EXPECT_FALSE(config_of("f32").at("quantization_config").contains("scale_fmt"));
  parameter_values(at("f32"));  // it is read

  const HandmadeModel published = read_model(at("fp4"));
  for (const char* const same : {"layers.1.attn.wq_a.weight", "layers.1.attn.wo_b.weight"}) {  // FP8 already
    EXPECT_EQ(f32.at(same).bytes, published.at(same).bytes) << same;
    EXPECT_EQ(handmade_values(f32, same), handmade_values(published, same)) << same;
  }

  convert("f32", "same", ConvertTo::kFp8);
  expect_equal(read_model(at("same")), f32);
  EXPECT_EQ(config_of("same"), config_of("f32"));

  ConvertRequest narrow = request("f32", "ue8m0", ConvertTo::kFp8);
  narrow.fp8_scales = TensorType::kF8E8M0;
  convert_model(narrow);
  EXPECT_EQ(read_model(at("ue8m0")).at("layers.1.attn.wq_a.scale").spec.dtype, TensorType::kF8E8M0);
  EXPECT_EQ(config_of("ue8m0").at("quantization_config").at("scale_fmt"), "ue8m0");

  convert("f32", "bf16", ConvertTo::kBf16);
  convert("bf16", "published", ConvertTo::kFp8);
  EXPECT_EQ(read_model(at("published")).at("layers.1.attn.wq_a.scale").spec.dtype, TensorType::kF8E8M0);

  ConvertRequest none = request("fp4", "out", ConvertTo::kBf16);
  none.fp8_scales = TensorType::kF32;
  EXPECT_THAT(message_of([&] { convert_model(none); }), HasSubstr("--scales: is for --to fp8 and --to fp4"));
}

TEST_F(Convert, CountsThePlainWeightsThatTrainingForFp4DidNotRound) {
  write_handmade(at("fp4"), quantised_model(34));
  EXPECT_EQ(convert("fp4", "bf16", ConvertTo::kBf16).untrained_fp8, 0u);
  const std::size_t rounded = convert("bf16", "again", ConvertTo::kFp4).untrained_fp8;
  std::size_t fp8 = 0;
  for (const auto& [name, tensor] : read_model(at("again"))) {
    fp8 += tensor.spec.dtype == TensorType::kF8E4M3 ? 1 : 0;
  }
  EXPECT_EQ(rounded, fp8);
  EXPECT_GT(fp8, 10u);
  EXPECT_EQ(convert("bf16", "experts", ConvertTo::kFp4Experts).untrained_fp8, 0u);
  EXPECT_EQ(convert("fp4", "copy", ConvertTo::kFp4).untrained_fp8, 0u);
}

}  // namespace
}  // namespace flyover::checkpoint
