// `flyover convert` as users call it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/files.h"
#include "checkpoint/hub_directory.h"
#include "checkpoint/quantised_model.h"
#include "process.h"
#include "support/shared_data.h"

namespace flyover::tests {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class ConvertCommand : public testing::Test {
 protected:
  void SetUp() override { checkpoint::write_handmade(source_, checkpoint::quantised_model(1), true); }
  ProcessResult convert(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "convert");
    return run_flyover(arguments);
  }
  std::string at(const std::string& name) const { return (directory_.path() / name).string(); }

  TemporaryDirectory directory_;
  const std::string source_ = at("source");
};

TEST_F(ConvertCommand, WritesADirectoryThatOtherVerbsRead) {
  const ProcessResult made = convert({source_, at("bf16"), "--max-shard-bytes", "100000"});
  ASSERT_EQ(made.exit_code, 0) << made.output;
  EXPECT_THAT(made.output, AllOf(HasSubstr("1/"), HasSubstr("wrote"), HasSubstr(at("bf16"))));
  const std::string logits = at("logits.safetensors"), other = at("other.safetensors");
  for (const auto& [model, out] : {std::pair{at("bf16"), logits}, std::pair{source_, other}}) {
    const ProcessResult result =
        run_flyover({"inspect", "logits", "--model", model, "--tokens", "1,2,3,4,5,6", "--out", out});
    ASSERT_EQ(result.exit_code, 0) << result.output;
  }
  EXPECT_EQ(base::read_file(logits), base::read_file(other));
  const ProcessResult back = convert({at("bf16"), at("back"), "--like", source_});
  ASSERT_EQ(back.exit_code, 0) << back.output;
  const auto original = checkpoint::ModelDirectory::open(source_),
             restored = checkpoint::ModelDirectory::open(at("back"));
  ASSERT_EQ(original.tensors().size(), restored.tensors().size());
  for (const checkpoint::ModelTensor& tensor : original.tensors()) {
    const auto expected = bytes_of(tensor), found = restored.bytes(tensor.entry->name);
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), found.begin(), found.end())) << tensor.entry->name;
  }
}

TEST_F(ConvertCommand, FollowsADirectoryOfEveryFamilyThatIsPublishedQuantised) {
  for (const std::string family : {"deepseek_v3", "deepseek_v4", "qwen3_moe"}) {
    const std::string config = checkpoint::quantised_config(family);
    const std::string published = at(family), plain = at(family + "-plain"), again = at(family + "-again");
    checkpoint::write_handmade(published, checkpoint::quantised_model(2, false, config), false, config);
    ASSERT_EQ(convert({published, plain, "--to", "f32"}).exit_code, 0);
    const ProcessResult back = convert({plain, again, "--like", published});
    ASSERT_EQ(back.exit_code, 0) << back.output;
    std::vector<std::string> logits;
    for (const std::string& model : {published, again}) {
      logits.push_back(model + ".safetensors");
      const ProcessResult result =
          run_flyover({"inspect", "logits", "--model", model, "--tokens", "1,2,3,4,5,6", "--out", logits.back()});
      ASSERT_EQ(result.exit_code, 0) << result.output;
    }
    EXPECT_EQ(base::read_file(logits[0]), base::read_file(logits[1])) << family;
  }
}

TEST_F(ConvertCommand, SaysWhenFp8IsMoreThanWasTrainedFor) {
  ASSERT_EQ(convert({source_, at("bf16")}).exit_code, 0);
  EXPECT_THAT(convert({at("bf16"), at("fp4"), "--to", "fp4", "--scales", "f32"}).output,
              AllOf(HasSubstr("note: "), HasSubstr("--to fp4-experts")));
  EXPECT_EQ(checkpoint::ModelDirectory::open(at("fp4")).find("layers.1.attn.wq_a.scale")->entry->dtype,
            checkpoint::TensorType::kF32);
  EXPECT_THAT(convert({at("bf16"), at("experts"), "--to", "fp4-experts"}).output, Not(HasSubstr("note: ")));
}

TEST_F(ConvertCommand, WrongUseIsExplained) {
  const ProcessResult unknown = convert({source_, at("out"), "--to", "fp2"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.output, HasSubstr("fp2"));
  const ProcessResult both = convert({source_, at("out"), "--to", "bf16", "--like", source_});
  EXPECT_EQ(both.exit_code, 2);
  EXPECT_THAT(both.output, AllOf(HasSubstr("--like"), HasSubstr("--to")));
  const ProcessResult scales = convert({source_, at("out"), "--to", "bf16", "--scales", "f32"});
  EXPECT_EQ(scales.exit_code, 2);
  EXPECT_THAT(scales.output, HasSubstr("--scales"));
  const ProcessResult same = convert({source_, source_});
  EXPECT_EQ(same.exit_code, 2);
  EXPECT_THAT(same.output, AllOf(HasSubstr("error: "), HasSubstr("not empty")));
  EXPECT_FALSE(std::filesystem::exists(at("out")));
}

}  // namespace
}  // namespace flyover::tests
