// What reads back differently from what was written is an error, and is not left in its place.
#include "checkpoint/model_output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "devices/reference/device.h"
#include "support/model_fixture.h"
#include "support/shared_data.h"

namespace flyover::checkpoint {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class ModelOutputs : public testing::Test {
 protected:
  ModelOutputs() {
    model_->parameters().allocate(machine_.stream, tensor::DType::kF32, autograd::ParameterUse::kInference);
    tests::randomise(*model_, machine_.stream, 1.0, 1);
  }
  /// The message of writing the model where `damage` changes this file before it is read back.
  std::string message_of(const char* file, const std::function<void(std::string&)>& damage) {
    ModelOutput output;
    output.verify = [&](const fs::path& directory) {
      std::string bytes = base::read_file(directory / file);
      damage(bytes);
      base::write_file_atomically(directory / file, bytes);
    };
    try {
      write_model(target_, config_, *model_, machine_.stream, output);
    } catch (const base::Error& error) {
      return error.what();
    }
    return "no error";
  }

  tests::TemporaryDirectory directory_;
  fs::path target_ = directory_.path() / "model";
  tests::Machine machine_{devices::reference::make_device()};
  std::unique_ptr<models::LanguageModel> model_ = tests::tiny_model("llama");
  base::Json config_ = base::parse_json(tests::tiny_config("llama"), "config.json");
};

TEST_F(ModelOutputs, ABitThatChangesWhileWritingIsFound) {
  EXPECT_EQ(message_of("model.safetensors", [](std::string&) {}), "no error");
  const std::string before = base::read_file(target_ / "model.safetensors");
  EXPECT_THAT(message_of("model.safetensors", [](std::string& bytes) { bytes.back() ^= 1; }),
              testing::AllOf(testing::StartsWith(target_.string() + ": was not written, because it reads back "),
                             HasSubstr("tensor "), HasSubstr(" is not what was written; do not trust this disk")));
  EXPECT_THAT(message_of("config.json", [](std::string& bytes) { bytes.replace(bytes.find("64"), 2, "65"); }),
              HasSubstr("config.json is not what was written"));
  EXPECT_THAT(message_of("model.safetensors", [](std::string& bytes) { bytes.pop_back(); }), HasSubstr("truncated"));
  EXPECT_EQ(base::read_file(target_ / "model.safetensors"), before);
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_.path()), fs::directory_iterator()), 1);
}

TEST_F(ModelOutputs, NothingIsLeftWhereThereWasNothing) {
  EXPECT_THAT(message_of("model.safetensors", [](std::string& bytes) { bytes.back() ^= 1; }), HasSubstr("tensor "));
  EXPECT_TRUE(fs::is_empty(directory_.path()));
}

}  // namespace
}  // namespace flyover::checkpoint
