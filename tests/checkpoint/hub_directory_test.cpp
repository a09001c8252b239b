#include "checkpoint/hub_directory.h"

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "checkpoint/handmade_files.h"
#include "checkpoint/hub_index.h"
#include "support/shared_data.h"

namespace flyover::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kIndex = "model.safetensors.index.json";

/// A file with one-byte tensors of these names; the bytes are `data`.
std::string byte_tensors(const std::vector<std::string>& names, std::string_view data) {
  std::string header = "{";
  for (std::size_t i = 0; i < names.size(); ++i) {
    header += fmt::format(R"({}"{}":{{"dtype":"U8","shape":[1],"data_offsets":[{},{}]}})", i == 0 ? "" : ",", names[i],
                          i, i + 1);
  }
  return safetensors_bytes(header + "}", data);
}

class HubDirectory : public testing::Test {
 protected:
  void put(const std::string& name, std::string_view contents) { put_file(directory_.path() / name, contents); }
  void remove(const std::string& name) { std::filesystem::remove(directory_.path() / name); }
  std::string complaint() {
    return message_of([&] { ModelDirectory::open(directory_.path()); });
  }
  /// Two shards: a, c in 1.safetensors; b in 2.safetensors.
  void put_shards() {
    put("config.json", "{}");
    put("1.safetensors", byte_tensors({"c", "a"}, "CA"));
    put("2.safetensors", byte_tensors({"b"}, "B"));
    put(kIndex,
        R"({"metadata":{"total_size":3},"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"1.safetensors"}})");
  }

  tests::TemporaryDirectory directory_;
};

TEST_F(HubDirectory, ASingleFileOpens) {
  put("config.json", R"({"z": 1, "a": {"unknown": [null]}, "m": 0.5})");
  put("model.safetensors", byte_tensors({"w", "b"}, "xy"));
  const ModelDirectory model = ModelDirectory::open(directory_.path());
  EXPECT_EQ(model.config().dump(), R"({"z":1,"a":{"unknown":[null]},"m":0.5})");
  ASSERT_EQ(model.tensors().size(), 2u);
  EXPECT_EQ(model.tensors()[0].entry->name, "b");
  EXPECT_EQ(as_text(model.bytes("w")), "x");
  EXPECT_EQ(as_text(model.bytes("b")), "y");
  EXPECT_EQ(model.total_bytes(), 2u);
  EXPECT_EQ(model.find("nothing"), nullptr);
  EXPECT_THAT(message_of([&] { model.bytes("nothing"); }), HasSubstr("no tensor \"nothing\""));
}

TEST_F(HubDirectory, ShardsOpenAsOneModel) {
  put_shards();
  ModelDirectory opened = ModelDirectory::open(directory_.path());
  const ModelDirectory model = std::move(opened);
  ASSERT_EQ(model.tensors().size(), 3u);
  EXPECT_EQ(as_text(model.bytes("a")), "A");
  EXPECT_EQ(as_text(model.bytes("b")), "B");
  EXPECT_EQ(as_text(model.bytes("c")), "C");
  EXPECT_EQ(model.find("b")->file->path().filename(), "2.safetensors");
}

TEST_F(HubDirectory, WhatIsMissingIsNamed) {
  EXPECT_THAT(message_of([&] { ModelDirectory::open(directory_.path() / "absent"); }),
              AllOf(HasSubstr("absent"), HasSubstr("no such model directory")));
  EXPECT_THAT(complaint(), AllOf(HasSubstr("neither config.json nor model.safetensors"), HasSubstr(kIndex)));
  put("config.json", "{}");
  EXPECT_THAT(complaint(), HasSubstr("has no weights"));
  put("model.safetensors", byte_tensors({"a"}, "A"));
  EXPECT_EQ(complaint(), "no error");
  EXPECT_THAT(message_of([&] { ModelDirectory::open(directory_.path() / "config.json"); }),
              HasSubstr("is not a directory"));
  remove("config.json");
  EXPECT_THAT(complaint(), HasSubstr("has weights but no config.json"));
}

TEST_F(HubDirectory, PickledWeightsAreRefusedWithAdvice) {
  put("config.json", "{}");
  put("pytorch_model.bin", "pickle");
  EXPECT_THAT(complaint(), AllOf(HasSubstr("pytorch_model.bin"), HasSubstr("safe_serialization=True")));
}

TEST_F(HubDirectory, AShardWithoutIndexIsNamed) {
  put("config.json", "{}");
  put("model-00001-of-00002.safetensors", byte_tensors({"a"}, "A"));
  EXPECT_THAT(complaint(), AllOf(HasSubstr("model-00001-of-00002.safetensors"), HasSubstr("neither")));
}

TEST_F(HubDirectory, InvalidConfigIsNamed) {
  put("model.safetensors", byte_tensors({"a"}, "A"));
  put("config.json", "{\n  \"a\" 1}");
  EXPECT_THAT(complaint(), HasSubstr("config.json:2:7: not valid JSON"));
  put("config.json", "[]");
  EXPECT_THAT(complaint(), HasSubstr("config.json: expected an object, found an array"));
}

TEST_F(HubDirectory, IndexAndShardsMustAgree) {
  put_shards();
  remove("2.safetensors");
  EXPECT_THAT(complaint(), HasSubstr("the shard 2.safetensors that the index lists is missing"));
  put("2.safetensors", byte_tensors({"b", "extra"}, "BX"));
  EXPECT_THAT(complaint(), AllOf(HasSubstr("2.safetensors: holds the tensor \"extra\""), HasSubstr("does not list")));
  put("2.safetensors", byte_tensors({"b", "a"}, "BA"));
  EXPECT_THAT(complaint(), HasSubstr("the tensor \"a\", which the index expects in 1.safetensors"));
  put("2.safetensors", byte_tensors({}, ""));
  EXPECT_THAT(complaint(), HasSubstr("the tensor \"b\" should be in 2.safetensors, which does not hold it"));
  put("2.safetensors", byte_tensors({"b"}, ""));
  EXPECT_THAT(complaint(), AllOf(HasSubstr("2.safetensors"), HasSubstr("truncated")));
}

TEST_F(HubDirectory, ShardsOutsideOfTheDirectoryAreRefused) {
  put_shards();
  put_file(directory_.path().parent_path() / "flyover-outside.safetensors", byte_tensors({"a"}, "A"));
  for (const std::string name : {"../flyover-outside.safetensors", "/etc/passwd", "sub/1.safetensors", "..", ".", "",
                                 "1.safetensors\\u0000.bin", "a\\\\b"}) {
    put(kIndex, R"({"weight_map":{"a":")" + name + "\"}}");
    EXPECT_THAT(complaint(), AllOf(HasSubstr("the tensor \"a\""), HasSubstr("not a plain file name"))) << name;
  }
  std::filesystem::remove(directory_.path().parent_path() / "flyover-outside.safetensors");
}

TEST_F(HubDirectory, AShardMayBeALinkAsInTheHubCache) {
  const tests::TemporaryDirectory blobs;
  put_file(blobs.path() / "0123abcd", byte_tensors({"w"}, "x"));
  put("config.json", "{}");
  std::filesystem::create_symlink(blobs.path() / "0123abcd", directory_.path() / "model.safetensors");
  EXPECT_EQ(as_text(ModelDirectory::open(directory_.path()).bytes("w")), "x");
}

TEST_F(HubDirectory, IndexesOfTheWrongFormAreNamed) {
  put_shards();
  const auto complaint_about = [&](std::string_view index) {
    put(kIndex, index);
    return complaint();
  };
  EXPECT_THAT(complaint_about("{}"), HasSubstr("\"weight_map\" is missing"));
  EXPECT_THAT(complaint_about("[]"), HasSubstr("the index must be an object, found an array"));
  EXPECT_THAT(complaint_about(R"({"weight_map": 3})"), HasSubstr("\"weight_map\" must be an object, found a number"));
  EXPECT_THAT(complaint_about(R"({"weight_map": {"a": 3}})"), HasSubstr("must map the tensor \"a\" to a file name"));
  EXPECT_THAT(complaint_about(R"({"weight_map": {"a": {}}})"), HasSubstr("found an object"));
  EXPECT_THAT(complaint_about(R"({"weight_map": {"a": "1", "a": "1"}})"), HasSubstr("the tensor \"a\" twice"));
  EXPECT_THAT(complaint_about(R"({"weight_map": {}, "weight_map": {}})"), HasSubstr("\"weight_map\" twice"));
  EXPECT_THAT(complaint_about(R"({"weight_map": {)"), AllOf(HasSubstr(kIndex), HasSubstr("not valid JSON at byte")));
}

TEST_F(HubDirectory, BothAFileAndAnIndexOfOthersIsAmbiguous) {
  put_shards();
  put("model.safetensors", byte_tensors({"a"}, "A"));
  EXPECT_THAT(complaint(), AllOf(HasSubstr("does not list model.safetensors"), HasSubstr("remove the others")));
  put(kIndex, R"({"weight_map": {"a": "model.safetensors"}})");
  EXPECT_EQ(complaint(), "no error");
}

TEST_F(HubDirectory, ElementsAreReadInTheTypeAskedFor) {
  put("config.json", "{}");
  put("model.safetensors", safetensors_bytes(R"({"q":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]},)"
                                             R"("w":{"dtype":"F16","shape":[2],"data_offsets":[2,6]}})",
                                             std::string_view("\x00\x00\x00\x3C\x01\x80", 6)));
  const ModelDirectory model = ModelDirectory::open(directory_.path());
  std::vector<float> values(2);
  read_elements(*model.find("w"), kernels::DType::kF32, std::as_writable_bytes(std::span(values)));
  EXPECT_EQ(values, (std::vector<float>{1.0f, -0x1p-24f}));
  EXPECT_THAT(message_of([&] {
                read_elements(*model.find("q"), kernels::DType::kF32, std::as_writable_bytes(std::span(values)));
              }),
              AllOf(HasSubstr("model.safetensors: the tensor \"q\""), HasSubstr("F8_E4M3")));
}

TEST(HubIndex, TheTextIsSortedAndReadBack) {
  const WeightMap map = {{"b", "2.safetensors"}, {"a", "1.safetensors"}};
  const std::string text = format_hub_index(map, 12);
  EXPECT_EQ(text,
            "{\n  \"metadata\": {\n    \"total_size\": 12\n  },\n  \"weight_map\": {\n"
            "    \"a\": \"1.safetensors\",\n    \"b\": \"2.safetensors\"\n  }\n}\n");
  EXPECT_EQ(parse_hub_index(text, "index"), map);
}

TEST(RealModels, Stories260KOpens) {
  FLYOVER_SHARED_OR_SKIP(path, "models/stories260K/hf");
  const ModelDirectory model = ModelDirectory::open(path);
  const std::int64_t hidden = model.config()["hidden_size"];
  const std::int64_t layers = model.config()["num_hidden_layers"];
  const ModelTensor* embedding = model.find("model.embed_tokens.weight");
  ASSERT_NE(embedding, nullptr);
  EXPECT_EQ(embedding->entry->dtype, TensorType::kF32);
  EXPECT_EQ(embedding->entry->shape, (std::vector<std::int64_t>{model.config()["vocab_size"], hidden}));
  EXPECT_NE(model.find(fmt::format("model.layers.{}.mlp.down_proj.weight", layers - 1)), nullptr);
  EXPECT_EQ(model.find(fmt::format("model.layers.{}.mlp.down_proj.weight", layers)), nullptr);
  EXPECT_EQ(embedding->file->metadata().at("format"), "pt");
}

TEST(RealModels, ArithSeqLlamaInitOpens) {
  FLYOVER_SHARED_OR_SKIP(path, "models/arith-seq-llama-init");
  const ModelDirectory model = ModelDirectory::open(path);
  EXPECT_EQ(model.find("lm_head.weight")->entry->dtype, TensorType::kBf16);
  EXPECT_EQ(model.find("lm_head.weight")->entry->shape, (std::vector<std::int64_t>{16, 128}));
  // Norm weights of an untrained model are one, which is 0x3F80 in bf16.
  const auto norm = model.bytes("model.norm.weight");
  std::vector<std::uint16_t> values(norm.size() / 2);
  std::memcpy(values.data(), norm.data(), norm.size());
  EXPECT_THAT(values, testing::Each(0x3F80));
}

}  // namespace
}  // namespace flyover::checkpoint
