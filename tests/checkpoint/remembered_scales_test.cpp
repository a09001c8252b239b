// What converting to plain weights writes down of scales, and what the way back makes of it.
#include "checkpoint/remembered_scales.h"

#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/files.h"
#include "checkpoint/convert_fixture.h"

namespace flyover::checkpoint {
namespace {

using testing::HasSubstr;

class ScalesOfConversions : public Convert {};

TEST_F(ScalesOfConversions, ToBf16AndBackRestoresEveryByte) {
  const HandmadeModel original = unruly_model(13);
  write_and_convert(original);
  convert("bf16", "again", ConvertTo::kFp4);
  expect_equal(read_model(at("again")), original);
  EXPECT_EQ(config_of("again"), config_of("fp4"));
  EXPECT_FALSE(std::filesystem::exists(at("again") / "model.scales.json"));
  convert("bf16", "f32", ConvertTo::kF32);  // memory goes on with the values
  convert("f32", "last", ConvertTo::kFp4);
  expect_equal(read_model(at("last")), original);
}

TEST_F(ScalesOfConversions, WithoutWhatIsRememberedValuesComeBackAndNotAllBytes) {
  const HandmadeModel original = unruly_model(13);
  write_and_convert(original);
  const std::filesystem::path scales = at("bf16") / "model.scales.json";
  ASSERT_TRUE(std::filesystem::exists(scales));
  std::filesystem::rename(scales, at("scales"));
  convert("bf16", "again", ConvertTo::kFp4);
  const HandmadeModel again = read_model(at("again"));
  expect_same_values(again, original);
  for (const char* const name : {"layers.1.ffn.experts.3.w1.scale", "layers.1.attn.wq_a.scale"}) {
    EXPECT_NE(again.at(name).bytes, original.at(name).bytes) << name;
  }
  for (const auto& [weight, tensor] : original) {
    EXPECT_EQ(again.at(weight).spec.dtype, tensor.spec.dtype) << weight;
    EXPECT_EQ(again.at(weight).spec.shape, tensor.spec.shape) << weight;
  }
  convert("again", "plain", ConvertTo::kBf16);
  EXPECT_FALSE(
      std::filesystem::exists(at("plain") / "model.scales.json"));  // what follows the rule leaves nothing to remember
}

TEST_F(ScalesOfConversions, RememberedScalesThatDoNotFitTheValuesAreNotTaken) {
  const HandmadeModel original = unruly_model(13);
  write_and_convert(original);
  const std::filesystem::path file = at("bf16") / "model.scales.json";
  ScaleMemory memory = parse_scales(base::read_file(file), "scales");
  for (auto& [name, remembered] : memory) {
    for (auto& block : remembered.blocks) {
      block.second = static_cast<std::uint8_t>(block.second < 100 ? 250 : 1);
    }
    remembered.blocks.emplace_back(std::int64_t{1} << 40, 127);  // behind the weight
  }
  put_file(file, format_scales(memory));
  convert("bf16", "again", ConvertTo::kFp4);
  expect_same_values(read_model(at("again")), original);
}

TEST_F(ScalesOfConversions, AFileOfScalesThatIsNoneIsRefused) {
  write_and_convert(unruly_model(13));
  const std::string path = (at("bf16") / "model.scales.json").string();
  const char* const wrong[] = {"",
                               "[]",
                               "{}",
                               R"({"weights": {"a": []}})",
                               R"({"weights": {"a": {"int4": []}}})",
                               R"({"weights": {"a": {"fp4": [1]}}})",
                               R"({"weights": {"a": {"fp4": [1, 255]}}})",
                               R"({"weights": {"a": {"fp4": [-1, 5]}}})",
                               R"({"weights": {"a": {"fp4": [2, 5, 2, 5]}}})",
                               R"({"weights": {"a": {"fp4": [99999999999999999999, 5]}}})"};
  for (const char* const text : wrong) {
    put_file(path, text);
    EXPECT_THAT(message_of([&] { convert("bf16", "again", ConvertTo::kFp4); }), HasSubstr(path)) << text;
  }
  EXPECT_EQ(entries(), 2u);
}

TEST_F(ScalesOfConversions, MoreThanTheLimitAreLeftOutAndSaidSo) {
  const HandmadeModel original = unruly_model(13);
  write_handmade(at("fp4"), original);
  ConvertRequest plain = request("fp4", "bf16", ConvertTo::kBf16);
  plain.most_remembered_blocks = 3;  // each changed expert has three, the whole wq_a more
  EXPECT_GT(convert_model(plain).not_remembered, 1u);
  std::size_t blocks = 0;
  for (const auto& [name, remembered] : parse_scales(base::read_file(at("bf16") / "model.scales.json"), "scales")) {
    blocks += remembered.blocks.size();
  }
  EXPECT_EQ(blocks, 3u);
  convert("bf16", "again", ConvertTo::kFp4);
  expect_same_values(read_model(at("again")), original);
}

TEST_F(ScalesOfConversions, AreWrittenAgainIfTheirFileIsLostBetweenAttempts) {
  const HandmadeModel original = unruly_model(13);
  write_handmade(at("fp4"), original);
  ConvertRequest sharded = request("fp4", "bf16", ConvertTo::kBf16);
  sharded.max_shard_bytes = 50'000;
  ConvertRequest stopped = sharded;
  stopped.report = [](const ConvertProgress& progress) {
    if (progress.done + 1 == progress.count) {
      throw std::logic_error("stop");
    }
  };
  EXPECT_THROW(convert_model(stopped), std::logic_error);
  std::size_t lost = 0;
  for (const auto& entry : std::filesystem::directory_iterator(at(".bf16.flyover-converting"))) {
    if (entry.path().string().ends_with(".scales.json")) {
      std::filesystem::remove(entry.path());
      ++lost;
    }
  }
  EXPECT_GT(lost, 1u);
  convert_model(sharded);
  convert("bf16", "again", ConvertTo::kFp4);
  expect_equal(read_model(at("again")), original);
}

}  // namespace
}  // namespace flyover::checkpoint
