#include "checkpoint/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "checkpoint/convert_fixture.h"
#include "checkpoint/handmade_files.h"
#include "checkpoint/model_output.h"
#include "checkpoint/model_weights.h"
#include "checkpoint/quantised_model.h"
#include "checkpoint/resumable_directory.h"
#include "devices/reference/device.h"
#include "support/model_fixture.h"
#include "support/shared_data.h"

namespace flyover::checkpoint {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

TEST_F(Convert, ToBf16GivesTheValuesAndKeepsWhatMustBeExact) {
  const HandmadeModel original = quantised_model(11, true);
  write_handmade(at("fp4"), original, true);
  put_file(at("fp4") / "tokenizer.json", "{\"t\": 1}");
  const ConvertOutcome outcome = convert("fp4", "bf16", ConvertTo::kBf16);
  const HandmadeModel converted = read_model(at("bf16"));
  EXPECT_EQ(outcome.tensors, converted.size());
  HandmadeModel without_copies = original;
  without_copies.erase("mtp.0.head.weight");
  without_copies.erase("mtp.0.emb.tok_emb.weight");
  expect_same_values(converted, without_copies);
  EXPECT_EQ(converted.at("layers.1.ffn.experts.3.w1.weight").spec.dtype, TensorType::kBf16);
  EXPECT_EQ(converted.at("layers.1.hc_attn_fn").spec.dtype, TensorType::kF32);
  EXPECT_EQ(converted.at("layers.0.ffn.gate.tid2eid").spec.dtype, TensorType::kI64);
  const base::Json config = base::read_json_file(at("bf16") / "config.json");
  EXPECT_FALSE(config.contains("quantization_config"));
  EXPECT_EQ(config["expert_dtype"], "fp4");  // how it was trained: its indexers compute as before
  EXPECT_EQ(config["torch_dtype"], "bfloat16");
  EXPECT_EQ(config["unknown_key"], base::Json::array({1}));
  EXPECT_EQ(base::read_file(at("bf16") / "tokenizer.json"), "{\"t\": 1}");
}

TEST_F(Convert, ToBf16AndBackLikeTheOriginalRestoresEveryByte) {
  const HandmadeModel original = quantised_model(12, true);
  write_handmade(at("fp4"), original, true);
  convert("fp4", "bf16", ConvertTo::kBf16);
  ConvertRequest back = request("bf16", "again", ConvertTo::kBf16);
  back.like = at("fp4");
  convert_model(back);
  expect_equal(read_model(at("again")), original);
  EXPECT_EQ(config_of("again"), config_of("fp4"));
}

TEST_F(Convert, OfAModelThatIsSoAlreadyCopiesBytes) {
  const HandmadeModel original = quantised_model(14);
  write_handmade(at("fp4"), original);
  convert("fp4", "again", ConvertTo::kFp4);
  expect_equal(read_model(at("again")), original);
}

TEST_F(Convert, Fp4ExpertsBecomeFp8WithoutLoss) {
  // Scales within a block of 128 x 128 are at most 2^14 apart, so every FP4 value is an FP8 code times the larger
  // scale.
  const HandmadeModel original = quantised_model(15);
  write_handmade(at("fp4"), original);
  convert("fp4", "fp8", ConvertTo::kFp8);
  const HandmadeModel converted = read_model(at("fp8"));
  expect_same_values(converted, original);
  EXPECT_EQ(converted.at("layers.1.ffn.experts.3.w1.weight").spec.dtype, TensorType::kF8E4M3);
  EXPECT_EQ(converted.at("layers.1.ffn.experts.3.w1.scale").spec.shape, (std::vector<std::int64_t>{1, 2}));
  const base::Json config = base::read_json_file(at("fp8") / "config.json");
  EXPECT_FALSE(config.contains("expert_dtype"));
  EXPECT_EQ(config["quantization_config"]["weight_block_size"], (base::Json::array({128, 128})));
}

TEST_F(Convert, Fp4IsRefusedForIndexersThatCannotComputeSo) {
  tests::Machine machine(devices::reference::make_device());
  const auto model = tests::tiny_model("deepseek_v4");
  model->parameters().allocate(machine.stream, tensor::DType::kF32, autograd::ParameterUse::kInference);
  tests::randomise(*model, machine.stream, 1.0, 1);
  const base::Json config = base::parse_json(tests::tiny_config("deepseek_v4"), "config.json");
  write_model(at("plain"), config, *model, machine.stream, {});
  for (const ConvertTo to : {ConvertTo::kFp4, ConvertTo::kFp4Experts}) {
    EXPECT_THAT(message_of([&] { convert("plain", "out", to); }),
                HasSubstr("as it would be converted: index_head_dim 4 must be a power of two from 32"));
  }
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Convert, OnlyTheExpertsBecomeFp4WhereThatIsAsked) {
  const HandmadeModel original = quantised_model(17);
  write_handmade(at("fp4"), original);
  convert("fp4", "bf16", ConvertTo::kBf16);
  convert("bf16", "experts", ConvertTo::kFp4Experts);
  const HandmadeModel converted = read_model(at("experts"));
  expect_same_values(converted, original);
  EXPECT_EQ(converted.at("layers.1.ffn.experts.3.w1.weight").bytes,
            original.at("layers.1.ffn.experts.3.w1.weight").bytes);
  EXPECT_EQ(converted.at("layers.1.attn.wq_a.weight").spec.dtype, TensorType::kBf16);
  EXPECT_EQ(converted.at("layers.1.ffn.shared_experts.w1.weight").spec.dtype, TensorType::kBf16);
  EXPECT_FALSE(converted.contains("layers.1.attn.wq_a.scale"));
  base::Json config = base::read_json_file(at("experts") / "config.json");
  EXPECT_EQ(config["expert_dtype"], "fp4");
  EXPECT_EQ(config["torch_dtype"], "bfloat16");
  EXPECT_FALSE(config.contains("quantization_config"));
  convert("fp4", "f32", ConvertTo::kF32);
  convert("f32", "f32-experts", ConvertTo::kFp4Experts);
  EXPECT_EQ(read_model(at("f32-experts")).at("layers.1.attn.wq_a.weight").spec.dtype, TensorType::kF32);
  EXPECT_EQ(base::read_json_file(at("f32-experts") / "config.json")["torch_dtype"], "float32");
}

TEST_F(Convert, ToTransformersNamesAndBackIsTheSameModel) {
  const HandmadeModel original = unruly_model(16);
  write_handmade(at("fp4"), original);
  ConvertRequest merge = request("fp4", "merged", ConvertTo::kBf16);
  merge.names = ConvertNames::kTransformers;
  convert_model(merge);
  const HandmadeModel merged = read_model(at("merged"));
  ASSERT_TRUE(merged.contains("model.layers.1.mlp.experts.gate_up_proj"));
  EXPECT_EQ(merged.at("model.layers.1.mlp.experts.gate_up_proj").spec.shape, (std::vector<std::int64_t>{5, 128, 160}));
  EXPECT_TRUE(merged.contains("mtp.0.ffn.experts.4.w2.weight"));  // transformers does not know the prediction block
  EXPECT_EQ(parameter_values(at("merged")), parameter_values(at("fp4")));

  ConvertRequest split = request("merged", "split", ConvertTo::kBf16);
  split.names = ConvertNames::kPublished;
  convert_model(split);
  convert("fp4", "bf16", ConvertTo::kBf16);
  expect_equal(read_model(at("split")), read_model(at("bf16")));
  split.target = at("split-fp4");
  split.to = ConvertTo::kFp4;
  convert_model(split);
  expect_equal(read_model(at("split-fp4")), original);
}

TEST_F(Convert, MergedExpertsAreWrittenQuantised) {
  const HandmadeModel original = unruly_model(16);
  write_handmade(at("fp4"), original);
  ConvertRequest merge = request("fp4", "merged", ConvertTo::kFp4);
  merge.names = ConvertNames::kTransformers;
  convert_model(merge);
  const HandmadeModel merged = read_model(at("merged"));
  const std::string name = "model.layers.1.mlp.experts.gate_up_proj";
  EXPECT_EQ(merged.at(name).spec.dtype, TensorType::kI8);
  EXPECT_EQ(merged.at(name).spec.shape, (std::vector<std::int64_t>{5, 128, 80}));
  EXPECT_EQ(merged.at(name + "_scale_inv").spec.dtype, TensorType::kF8E8M0);
  EXPECT_EQ(merged.at(name + "_scale_inv").spec.shape, (std::vector<std::int64_t>{5, 128, 5}));
  EXPECT_EQ(merged.at("model.layers.1.self_attn.q_a_proj.weight").spec.dtype, TensorType::kF8E4M3);
  EXPECT_EQ(parameter_values(at("merged")), parameter_values(at("fp4")));
  ConvertRequest split = request("merged", "split", ConvertTo::kFp4);
  split.names = ConvertNames::kPublished;
  convert_model(split);
  expect_equal(read_model(at("split")), original);
  merge.target = at("merged-fp8");
  merge.to = ConvertTo::kFp8;
  convert_model(merge);
  EXPECT_EQ(read_model(at("merged-fp8")).at(name).spec.dtype, TensorType::kF8E4M3);
  EXPECT_EQ(read_model(at("merged-fp8")).at(name + "_scale_inv").spec.shape, (std::vector<std::int64_t>{5, 1, 2}));
  EXPECT_EQ(parameter_values(at("merged-fp8")), parameter_values(at("fp4")));
}

TEST_F(Convert, WritesShardsOfTheLargestSizeAskedFor) {
  write_handmade(at("fp4"), quantised_model(17));
  ConvertRequest shards = request("fp4", "shards", ConvertTo::kBf16);
  shards.max_shard_bytes = 50'000;
  const ConvertOutcome outcome = convert_model(shards);
  EXPECT_GT(outcome.files, 5u);
  convert("fp4", "whole", ConvertTo::kBf16);
  EXPECT_TRUE(fs::exists(at("shards") / "model.safetensors.index.json"));
  EXPECT_TRUE(fs::exists(at("whole") / "model.safetensors"));
  expect_equal(read_model(at("shards")), read_model(at("whole")));
}

/// Stops a conversion after some files, as a kill would: the exception is none of ours.
class InterruptedConvert : public Convert {
 protected:
  static constexpr std::size_t kStop = 4;
  const fs::path pending_ = directory_.path() / ".out.flyover-converting";

  ConvertRequest sharded() {
    ConvertRequest result = request("fp4", "out", ConvertTo::kBf16);
    result.max_shard_bytes = 50'000;
    return result;
  }
  void interrupt() {
    write_handmade(at("fp4"), quantised_model(18), true);
    ConvertRequest stopped = sharded();
    stopped.report = [](const ConvertProgress& progress) {
      if (progress.done == kStop) {
        throw std::logic_error("stop");
      }
    };
    EXPECT_THROW(convert_model(stopped), std::logic_error);
    EXPECT_FALSE(fs::exists(at("out")));
  }
  void expect_complete() {
    ConvertRequest whole = sharded();
    whole.target = at("uninterrupted");
    convert_model(whole);
    for (const auto& entry : fs::directory_iterator(at("uninterrupted"))) {
      EXPECT_EQ(base::read_file(at("out") / entry.path().filename()), base::read_file(entry.path())) << entry.path();
    }
    EXPECT_EQ(std::distance(fs::directory_iterator(at("out")), fs::directory_iterator()),
              std::distance(fs::directory_iterator(at("uninterrupted")), fs::directory_iterator()));
    EXPECT_FALSE(fs::exists(pending_));
  }
  std::string first_shard() {
    for (const auto& entry : fs::directory_iterator(pending_)) {
      if (entry.path().filename().string().starts_with("model-00001")) {
        return entry.path().filename().string();
      }
    }
    return {};
  }
};

TEST_F(InterruptedConvert, GoesOnBehindTheFinishedFilesWithoutWritingThemAgain) {
  interrupt();
  std::map<std::string, fs::file_time_type> times;
  for (const auto& entry : fs::directory_iterator(pending_)) {
    if (entry.path().extension() == ".safetensors") {
      fs::last_write_time(entry.path(), fs::file_time_type::clock::now() - std::chrono::hours(1));
      times[entry.path().filename().string()] = entry.last_write_time();
    }
  }
  ASSERT_EQ(times.size(), kStop);
  std::vector<bool> kept;
  ConvertRequest again = sharded();
  again.report = [&](const ConvertProgress& progress) { kept.push_back(progress.kept); };
  const ConvertOutcome outcome = convert_model(again);
  EXPECT_EQ(outcome.kept, kStop);
  EXPECT_EQ(std::count(kept.begin(), kept.end(), true), static_cast<std::ptrdiff_t>(kStop));
  EXPECT_EQ(kept.size(), outcome.files);
  for (const auto& [name, time] : times) {
    EXPECT_LT(fs::last_write_time(at("out") / name), fs::file_time_type::clock::now() - std::chrono::minutes(30))
        << name;
  }
  expect_complete();
}

TEST_F(InterruptedConvert, WritesADamagedFileAgain) {
  interrupt();
  const fs::path shard = pending_ / first_shard();
  std::string bytes = base::read_file(shard);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  put_file(shard, bytes);
  EXPECT_EQ(convert_model(sharded()).kept, kStop - 1);
  expect_complete();
}

TEST_F(InterruptedConvert, StartsAnewForAnotherSourceOrAnotherRequest) {
  interrupt();
  ConvertRequest other = sharded();
  other.max_shard_bytes = 60'000;
  other.report = [](const ConvertProgress&) { throw std::logic_error("stop"); };
  EXPECT_THROW(convert_model(other), std::logic_error);
  write_handmade(at("fp4"), quantised_model(19), true);
  EXPECT_EQ(convert_model(sharded()).kept, 0u);
  expect_complete();
}

TEST_F(InterruptedConvert, FindsItselfCompleteWhenItWasStoppedRightAfterTheRename) {
  write_handmade(at("fp4"), quantised_model(18), true);
  // Stopped once everything is written: all files are kept, config.json and the rename are missing.
  ConvertRequest stopped = sharded();
  stopped.report = [](const ConvertProgress& progress) {
    if (progress.done == progress.count) {
      throw std::logic_error("stop");
    }
  };
  EXPECT_THROW(convert_model(stopped), std::logic_error);
  const std::string journal = base::read_file(pending_ / ".flyover-progress.json");
  const ConvertOutcome outcome = convert_model(sharded());
  EXPECT_EQ(outcome.kept, outcome.files);
  put_file(at("out") / ".flyover-progress.json", journal);  // what the rename leaves until it is removed
  EXPECT_EQ(convert_model(sharded()).kept, outcome.files);
  expect_complete();
  EXPECT_THAT(message_of([&] { convert_model(sharded()); }), HasSubstr("exists and is not empty"));
}

TEST_F(InterruptedConvert, WaitsForNoOtherProcess) {
  write_handmade(at("fp4"), quantised_model(18));
  const ResumableDirectory other(at("out"), "another plan");
  EXPECT_THAT(message_of([&] { convert_model(sharded()); }), HasSubstr("another process writes"));
}

TEST_F(Convert, AValueThatCannotBeStoredIsAnErrorThatLeavesNothing) {
  write_handmade(at("fp4"), quantised_model(20));
  convert("fp4", "bf16", ConvertTo::kBf16);
  HandmadeModel model = read_model(at("bf16"));
  model.at("layers.1.ffn.experts.3.w1.weight").bytes.replace(2 * (160 * 9 + 70), 2, "\xC0\x7F");  // NaN
  write_handmade(at("bad"), model, false, base::read_file(at("bf16") / "config.json"));
  const std::size_t before = entries();
  EXPECT_THAT(message_of([&] { convert("bad", "out", ConvertTo::kFp4); }),
              AllOf(HasSubstr("\"layers.1.ffn.experts.3.w1.weight\""), HasSubstr("element [9, 70]")));
  EXPECT_EQ(entries(), before);
  ConvertRequest sharded = request("bad", "out", ConvertTo::kFp4);
  sharded.max_shard_bytes = 20'000;
  EXPECT_THAT(message_of([&] { convert_model(sharded); }),
              AllOf(HasSubstr("element [9, 70]"), HasSubstr("finished and kept in")));
}

TEST_F(Convert, WhatIsCopiedMustBeFiniteAsWell) {
  const auto message = [&](const std::string& name, const std::string& value) {
    HandmadeModel model = quantised_model(23);
    model.at(name).bytes.replace(0, value.size(), value);
    write_handmade(at("bad"), model);
    return message_of([&] { convert("bad", "out", ConvertTo::kFp4); });
  };
  EXPECT_THAT(message("embed.weight", "\x80\xFF"), HasSubstr("\"embed.weight\": element [0, 0] is NaN, infinite"));
  EXPECT_THAT(message("layers.0.attn.wq_a.weight", "\x7F"), HasSubstr("\"layers.0.attn.wq_a.weight\": element [0, 0]"));
  EXPECT_FALSE(fs::exists(at("out")));
}

TEST_F(Convert, WhatTheFamilyOrTheDirectoryDoesNotAllowIsSaid) {
  write_handmade(at("fp4"), quantised_model(21));
  EXPECT_THAT(message_of([&] { convert("fp4", "fp4", ConvertTo::kBf16); }), HasSubstr("not empty"));
  EXPECT_THAT(message_of([&] { convert("absent", "out", ConvertTo::kBf16); }), HasSubstr("no such model directory"));
  EXPECT_THAT(message_of([&] { convert("fp4", "no/such/place", ConvertTo::kBf16); }), HasSubstr("does not exist"));
  fs::create_directories(at("llama"));
  put_file(at("llama") / "config.json", R"({"model_type": "llama", "vocab_size": 4, "hidden_size": 2,
    "intermediate_size": 2, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1,
    "rms_norm_eps": 1e-5, "max_position_embeddings": 8, "tie_word_embeddings": true})");
  HandmadeModel llama;
  const auto add = [&](const std::string& name, const std::vector<std::int64_t>& shape) {
    const TensorSpec spec{name, TensorType::kF32, shape};
    llama[name] = {spec, std::string(byte_count(spec), '\x01')};
  };
  add("model.embed_tokens.weight", {4, 2});
  add("model.norm.weight", {2});
  for (const char* name : {"input_layernorm", "post_attention_layernorm"}) {
    add(fmt::format("model.layers.0.{}.weight", name), {2});
  }
  for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                           "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
    add(fmt::format("model.layers.0.{}.weight", name), {2, 2});
  }
  write_handmade(at("llama"), llama, false, base::read_file(at("llama") / "config.json"));
  EXPECT_THAT(message_of([&] { convert("llama", "out", ConvertTo::kFp8); }),
              HasSubstr("without a list of quantised weights"));
  ConvertRequest renamed = request("llama", "out", ConvertTo::kBf16);
  renamed.names = ConvertNames::kPublished;
  EXPECT_THAT(message_of([&] { convert_model(renamed); }), HasSubstr("--names"));
  convert("llama", "narrow", ConvertTo::kBf16);  // 0x01010101 is 0x0101 in bf16
  EXPECT_EQ(read_model(at("narrow")).at("model.norm.weight").bytes, "\x01\x01\x01\x01");
}

TEST_F(Convert, ADirectoryOfAnotherShapeCannotBeFollowed) {
  write_handmade(at("fp4"), quantised_model(22));
  HandmadeModel other = quantised_model(22);
  other.at("layers.1.ffn.experts.3.w1.scale").spec.shape = {5, 64};
  write_handmade(at("other"), other);
  ConvertRequest follow = request("fp4", "out", ConvertTo::kBf16);
  follow.like = at("other");
  EXPECT_THAT(message_of([&] { convert_model(follow); }),
              AllOf(HasSubstr("other"), HasSubstr("\"layers.1.ffn.experts.3.w1.weight\" of shape [64, 160]")));
}

}  // namespace
}  // namespace flyover::checkpoint
