// A model that reads back differently from what was trained is not left in its place.
#include "posttrain/written_model.h"

#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/model_weights.h"
#include "devices/reference/device.h"
#include "posttrain/preflight.h"
#include "posttrain/recipes.h"
#include "support/model_fixture.h"

namespace flyover::posttrain {
namespace {

namespace fs = std::filesystem;
using base::Json;
using testing::HasSubstr;

using Damage = std::function<void(const fs::path& directory)>;

class WrittenModel : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    workplace_ = new Workplace();
    workplace_->write("train.jsonl", "{\"prompt\": \"q\", \"completion\": \"a\"}\n");
    const std::string keys =
        "    algorithm: sft\n    chat_template: chatml\n    data: {train: " + workplace_->path("train.jsonl").string() +
        ", max_seq_length: 64, show_examples: 0}\n    optimizer: {learning_rate: 1e-3}\n"
        "    schedule: {max_steps: 1}\n    batch: {global_batch_size: 1}\n";
    ASSERT_EQ(run_silently(workplace_->recipe("run", keys)), RunOutcome::kCompleted);
  }
  static void TearDownTestSuite() {
    delete workplace_;
    workplace_ = nullptr;
  }

  /// Writes the model of the run as a run writes it, with this damage before it is compared: the message.
  std::string message_of(const Damage& damage) {
    const StartingModel start = open_model(workplace_->path("run") / "model", {});
    tests::Machine machine(devices::reference::make_device());
    const auto model = make_model(start);
    checkpoint::load_weights(*start.directory, *model, machine.stream, tensor::DType::kF32,
                             autograd::ParameterUse::kInference);
    checkpoint::ModelOutput output = model_output(start);
    output.verify = [damage, verify = output.verify](const fs::path& directory) {
      damage(directory);
      verify(directory);
    };
    try {
      checkpoint::write_model(target_, *start.config, *model, machine.stream, output);
    } catch (const base::Error& error) {
      return error.what();
    }
    return "no error";
  }
  void expect_refused(const Damage& damage, const std::string& part) {
    EXPECT_THAT(message_of(damage),
                testing::AllOf(testing::StartsWith(target_.string() + ": was not written, because it reads back "
                                                                      "differently: "),
                               HasSubstr(part)));
    EXPECT_EQ(std::distance(fs::directory_iterator(directory_.path()), fs::directory_iterator()),
              fs::exists(target_) ? 1 : 0);
  }

  static Workplace* workplace_;
  tests::TemporaryDirectory directory_;
  fs::path target_ = directory_.path() / "model";
};

Workplace* WrittenModel::workplace_ = nullptr;

Damage replaced(const char* file, const std::string& old, const std::string& by) {
  return [=](const fs::path& directory) {
    std::string text = base::read_file(directory / file);
    const auto at = text.find(old);
    ASSERT_NE(at, std::string::npos) << file;
    base::write_file_atomically(directory / file, text.replace(at, old.size(), by));
  };
}

TEST_F(WrittenModel, AsItWasTrainedTakesItsPlace) {
  EXPECT_EQ(message_of([](const fs::path&) {}), "no error");
  EXPECT_TRUE(fs::exists(target_ / "config.json"));
}

TEST_F(WrittenModel, WithAnythingElseIsRefusedAndLeftNowhere) {
  expect_refused(replaced("config.json", "\"hidden_size\": 16", "\"hidden_size\": 20"), "model.embed_tokens.weight");
  expect_refused(replaced("config.json", "1e-05", "2e-05"), "config.json is not what was written");
  expect_refused(replaced("tokenizer.json", "<|im_end|>", "<|im_ende|>"),
                 "tokenizer.json is not the tokenizer that was trained with");
  expect_refused(replaced("chat_template.jinja", "<|im_start|>", "<|im_stirt|>"), "the chat template");
  expect_refused(replaced("chat_template.jinja", "{%", "{% %"), "chat_template.jinja");
  expect_refused(replaced("generation_config.json", "[", "[1, "), "generation_config.json does not end generation");
  expect_refused([](const fs::path& directory) { fs::remove(directory / "tokenizer.json"); }, "has no tokenizer.json");
  expect_refused(
      [](const fs::path& directory) {
        const fs::path file = directory / "model.safetensors";
        std::string bytes = base::read_file(file);
        bytes.back() = static_cast<char>(bytes.back() ^ 1);
        base::write_file_atomically(file, bytes);
      },
      " is not what was written");
}

TEST_F(WrittenModel, ThatIsRefusedLeavesTheOneBefore) {
  ASSERT_EQ(message_of([](const fs::path&) {}), "no error");
  const std::string before = base::read_file(target_ / "tokenizer.json");
  expect_refused(replaced("tokenizer.json", "<|im_end|>", "<|im_ende|>"), "tokenizer.json");
  EXPECT_EQ(base::read_file(target_ / "tokenizer.json"), before);
}

TEST_F(WrittenModel, ATemplateThatSeesOtherTokensIsRefused) {
  // The source is the same: only what it writes differs.
  const fs::path copy = directory_.path() / "copy";
  fs::copy(workplace_->path("run") / "model", copy, fs::copy_options::recursive);
  base::write_file_atomically(copy / "chat_template.jinja",
                              "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}");
  const StartingModel start = open_model(copy, {});
  check_written_model(start, copy);
  replaced("tokenizer_config.json", "\"eos_token\": \"<|im_end|>\"", "\"eos_token\": \"<|im_start|>\"")(copy);
  try {
    check_written_model(start, copy);
    FAIL() << "no error";
  } catch (const base::Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("does not write the text that was trained with"));
  }
}

}  // namespace
}  // namespace flyover::posttrain
