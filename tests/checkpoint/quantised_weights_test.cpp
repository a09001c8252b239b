// Models are loaded from quantised directories and written as such; what does not fit is named.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "checkpoint/handmade_files.h"
#include "checkpoint/model_output.h"
#include "checkpoint/model_weights.h"
#include "checkpoint/quantised_model.h"
#include "devices/reference/device.h"
#include "support/model_fixture.h"
#include "support/shared_data.h"

namespace flyover::checkpoint {
namespace {

namespace fs = std::filesystem;
using autograd::ParameterUse;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

/// A directory's model in memory.
struct LoadedModel {
  LoadedModel(const fs::path& path, tensor::DType dtype, ParameterUse use)
      : directory(ModelDirectory::open(path)),
        machine(devices::reference::make_device()),
        model(models::make_model(directory.config(), "config.json", stored_names(directory))) {
    load_weights(directory, *model, machine.stream, dtype, use);
  }
  ModelDirectory directory;
  tests::Machine machine;
  std::unique_ptr<models::LanguageModel> model;
};

class QuantisedWeights : public testing::Test {
 protected:
  fs::path model_path() const { return directory_.path() / "model"; }

  /// Every slice of the parameters, or of their masters, is what the definition of the formats says.
  void expect_values(LoadedModel& loaded, const HandmadeModel& expected, bool masters) {
    std::size_t slices = 0;
    for (const autograd::Parameter& parameter : loaded.model->parameters().all()) {
      if (parameter.value.dtype() == tensor::DType::kI32) {
        continue;
      }
      const tensor::Tensor& whole = masters && parameter.master.defined() ? parameter.master : parameter.value;
      for (const autograd::CheckpointSlice& slice : parameter.spec.slices) {
        const std::vector<double> found = tests::read_doubles(loaded.machine.stream, slice.of(whole));
        ASSERT_EQ(found, handmade_values(expected, slice.name)) << slice.name;
        ++slices;
      }
    }
    EXPECT_GT(slices, 100u);
  }

  /// What is said of the model with one thing changed.
  std::string message_with(const std::function<void(HandmadeModel&)>& change, bool copies = false) {
    HandmadeModel model = quantised_model(3, copies);
    change(model);
    write_handmade(model_path(), model);
    const ModelDirectory directory = ModelDirectory::open(model_path());
    const auto built = models::make_model(directory.config(), "config.json", stored_names(directory));
    return message_of([&] { check_weights(directory, *built); });
  }

  tests::TemporaryDirectory directory_;
};

const std::string kExpert = "layers.1.ffn.experts.3.w1";  // [64, 160], FP4
const std::string kProjection = "layers.0.attn.wq_a";     // [24, 160], FP8

TEST_F(QuantisedWeights, AreLoadedAsCodesTimesScales) {
  const HandmadeModel model = quantised_model(1);
  write_handmade(model_path(), model, true);
  LoadedModel f32(model_path(), tensor::DType::kF32, ParameterUse::kInference);
  expect_values(f32, model, false);
  // Powers of two as scales: exact in bf16 too.
  LoadedModel bf16(model_path(), tensor::DType::kBf16, ParameterUse::kTraining);
  expect_values(bf16, model, false);
  expect_values(bf16, model, true);
}

TEST_F(QuantisedWeights, WithF32ScalesAreRoundedToF32AndThatToBf16) {
  HandmadeModel model = quantised_model(2);
  const std::string name = kProjection + ".weight";
  HandmadeTensor scales = model.at(kProjection + ".scale");
  model.erase(kProjection + ".scale");
  ASSERT_EQ(scales.bytes.size(), 2u);
  const float values[2] = {0x1.234567p-8f, 0x1.fedcbap-7f};
  scales.spec.name = name + "_scale_inv";
  scales.spec.dtype = TensorType::kF32;
  scales.bytes.assign(reinterpret_cast<const char*>(values), sizeof(values));
  model[scales.spec.name] = scales;
  write_handmade(model_path(), model);
  LoadedModel loaded(model_path(), tensor::DType::kBf16, ParameterUse::kTraining);
  const std::vector<double> exact = handmade_values(model, name);
  std::size_t inexact = 0;
  for (const autograd::Parameter& parameter : loaded.model->parameters().all()) {
    if (parameter.spec.name != name) {
      continue;
    }
    const auto masters = tests::read_doubles(loaded.machine.stream, parameter.master);
    const auto narrow = tests::read_doubles(loaded.machine.stream, parameter.value);
    for (std::size_t i = 0; i < exact.size(); ++i) {
      const auto rounded = static_cast<float>(exact[i]);
      ASSERT_EQ(masters[i], static_cast<double>(rounded));
      ASSERT_EQ(narrow[i], static_cast<double>(kernels::to_float(kernels::to_bf16(rounded))));
      inexact += narrow[i] != exact[i] ? 1 : 0;
    }
  }
  EXPECT_GT(inexact, exact.size() / 2);
}

TEST_F(QuantisedWeights, CopiesOfEmbeddingAndOutputAreAcceptedOnlyIfTheyAreCopies) {
  EXPECT_EQ(message_with([](HandmadeModel&) {}, true), "no error");
  EXPECT_THAT(message_with([](HandmadeModel& model) { model.at("mtp.0.head.weight").bytes[77] ^= 1; }, true),
              AllOf(HasSubstr("\"mtp.0.head.weight\" must repeat \"head.weight\""), HasSubstr("differ")));
  EXPECT_THAT(message_with([](HandmadeModel& model) { model["mtp.0.tail.weight"] = model.at("head.weight"); }, true),
              HasSubstr("1 tensor that the model has no use for: \"mtp.0.tail.weight\""));
}

TEST_F(QuantisedWeights, MissingScalesAreNamedWithTheirWeight) {
  EXPECT_THAT(message_with([](HandmadeModel& model) { model.erase(kExpert + ".scale"); }),
              HasSubstr("1 tensor missing: \"layers.1.ffn.experts.3.w1.scale\" (the scales of "
                        "\"layers.1.ffn.experts.3.w1.weight\", which is FP4)"));
}

TEST_F(QuantisedWeights, ScalesOfAnotherShapeOrTypeAreNamed) {
  EXPECT_THAT(
      message_with([](HandmadeModel& model) {
        model.at(kExpert + ".scale").spec.shape = {5, 64};
      }),
      AllOf(HasSubstr("1 tensor of another shape: \"layers.1.ffn.experts.3.w1.scale\" [5, 64] instead of [64, 5]"),
            HasSubstr("a scale for 32 elements of a row of [64, 160]"), Not(HasSubstr("missing"))));
  EXPECT_THAT(
      message_with([](HandmadeModel& model) {
        model.at(kProjection + ".scale").spec.shape = {2, 1};
      }),
      HasSubstr("\"layers.0.attn.wq_a.scale\" [2, 1] instead of [1, 2] (a scale for 128 x 128 elements of [24, 160])"));
  EXPECT_THAT(message_with([](HandmadeModel& model) { model.at(kExpert + ".scale").spec.dtype = TensorType::kU8; }),
              HasSubstr("1 tensor of another type: \"layers.1.ffn.experts.3.w1.scale\" U8 instead of F8_E8M0"));
  EXPECT_THAT(message_with([](HandmadeModel& model) { model.at(kProjection + ".scale").spec.dtype = TensorType::kI8; }),
              HasSubstr("\"layers.0.attn.wq_a.scale\" I8 instead of F8_E8M0, F32, BF16 or F16"));
}

TEST_F(QuantisedWeights, APackedWidthThatDoesNotFitIsNamed) {
  EXPECT_THAT(
      message_with([](HandmadeModel& model) {
        HandmadeTensor& tensor = model.at(kExpert + ".weight");
        tensor.spec.shape = {64, 160};
        tensor.bytes += tensor.bytes;
      }),
      HasSubstr("\"layers.1.ffn.experts.3.w1.weight\" [64, 160] instead of [64, 80] (two columns of FP4 in a byte)"));
  EXPECT_THAT(message_with([](HandmadeModel& model) {
                HandmadeTensor& tensor = model.at("layers.0.attn.wq_b.weight");  // [192, 24]
                tensor.spec.dtype = TensorType::kI8;
              }),
              HasSubstr("\"layers.0.attn.wq_b.weight\" is I8, but a weight [192, 24] cannot be FP4"));
}

TEST_F(QuantisedWeights, AnNanScaleIsNamedWithItsBlock) {
  EXPECT_THAT(message_with([](HandmadeModel& model) { model.at(kExpert + ".scale").bytes[5 * 7 + 2] = '\xFF'; }),
              AllOf(HasSubstr("\"layers.1.ffn.experts.3.w1.scale\""), HasSubstr("block [7, 2]"), HasSubstr("255"),
                    HasSubstr("NaN")));
  EXPECT_THAT(message_with([](HandmadeModel& model) {
                HandmadeTensor& scales = model.at(kProjection + ".scale");
                scales.spec.dtype = TensorType::kF32;
                scales.bytes = std::string("\0\0\x80\x3F\0\0\x80\xBF", 8);  // 1 and -1
              }),
              AllOf(HasSubstr("\"layers.0.attn.wq_a.scale\""), HasSubstr("block [0, 1]"), HasSubstr("scale -1")));
}

TEST_F(QuantisedWeights, AValueThatIsNotFiniteIsNamedWhenItIsCheckedAndWhenItIsLoaded) {
  const auto expect_refused = [&](const std::function<void(HandmadeModel&)>& change, const auto& expected) {
    HandmadeModel model = quantised_model(3);
    change(model);
    write_handmade(model_path(), model);
    for (const tensor::DType dtype : {tensor::DType::kF32, tensor::DType::kBf16}) {
      EXPECT_THAT(message_of([&] { LoadedModel(model_path(), dtype, ParameterUse::kInference); }), expected);
    }
    const ModelDirectory directory = ModelDirectory::open(model_path());
    const auto bare = models::make_model(directory.config(), "config.json", stored_names(directory));
    EXPECT_THAT(message_of([&] { check_weights(directory, *bare); }), expected);
  };
  const auto put = [](const std::string& name, std::size_t byte, const std::string& value) {
    return [=](HandmadeModel& model) { model.at(name).bytes.replace(byte, value.size(), value); };
  };
  const std::string file = (model_path() / "model.safetensors").string();
  for (const char* code : {"\x7F", "\xFF"}) {
    expect_refused(put(kProjection + ".weight", 2 * 160 + 140, code),
                   AllOf(HasSubstr(file), HasSubstr("\"layers.0.attn.wq_a.weight\""), HasSubstr("block [0, 1]"),
                         HasSubstr("NaN")));
  }
  for (const char* value : {"\x80\x7F", "\x80\xFF", "\xC0\x7F"}) {  // infinities and a NaN in BF16
    expect_refused(put("embed.weight", 2 * (160 * 7 + 30), value),
                   HasSubstr(file + ": the tensor \"embed.weight\": element [7, 30] is NaN, infinite"));
  }
  expect_refused(put("layers.1.attn.attn_sink", 4 * 3, std::string("\0\0\x80\x7F", 4)),
                 HasSubstr(file + ": the tensor \"layers.1.attn.attn_sink\": element [3] is NaN, infinite"));
}

TEST_F(QuantisedWeights, ExpertsMissingFromAShardAreListed) {
  const std::string message = message_with([](HandmadeModel& model) {
    for (const char* part : {"w1.weight", "w1.scale", "w2.weight", "w2.scale", "w3.weight", "w3.scale"}) {
      model.erase(std::string("layers.2.ffn.experts.4.") + part);
    }
  });
  EXPECT_THAT(message, AllOf(HasSubstr("3 tensors missing:"), HasSubstr("\"layers.2.ffn.experts.4.w2.weight\"")));
  const fs::path sharded = directory_.path() / "sharded";
  write_handmade(sharded, quantised_model(3), true);
  std::string index = base::read_file(sharded / "model.safetensors.index.json");
  index.replace(index.find("layers.2.ffn.experts.4.w2.weight"), 32, "layers.2.ffn.experts.5.w2.weight");
  put_file(sharded / "model.safetensors.index.json", index);
  EXPECT_THAT(message_of([&] { ModelDirectory::open(sharded); }), HasSubstr("layers.2.ffn.experts.4.w2.weight"));
}

/// The same tensors under other names.
HandmadeModel renamed(const HandmadeModel& model, const std::function<std::string(const std::string&)>& name_of) {
  HandmadeModel result;
  for (const auto& [name, tensor] : model) {
    HandmadeTensor& other = result[name_of(name)] = tensor;
    other.spec.name = name_of(name);
  }
  return result;
}

TEST_F(QuantisedWeights, PublishedNamesMayAllBeginWithModel) {
  const HandmadeModel original = quantised_model(6);
  for (const char* without : {"", "head.weight", "mtp."}) {
    const HandmadeModel prefixed = renamed(original, [&](const std::string& name) {
      return *without != 0 && name.starts_with(without) ? name : "model." + name;
    });
    write_handmade(model_path(), prefixed);
    LoadedModel loaded(model_path(), tensor::DType::kF32, ParameterUse::kInference);
    EXPECT_GT(loaded.model->summary().prediction_parameters, 0);
    expect_values(loaded, prefixed, false);
  }
}

TEST_F(QuantisedWeights, AHashTableMustBeThereAndNameExperts) {
  EXPECT_THAT(message_with([](HandmadeModel& model) { model.erase("layers.0.ffn.gate.tid2eid"); }),
              HasSubstr("1 tensor missing: \"layers.0.ffn.gate.tid2eid\""));
  const std::string tensor =
      (model_path() / "model.safetensors").string() + ": the tensor \"layers.0.ffn.gate.tid2eid\"";
  const auto message = [&](std::size_t element, std::int64_t expert) {  // instead of that element of [40, 2]
    return message_with([&](HandmadeModel& model) {
      std::memcpy(model.at("layers.0.ffn.gate.tid2eid").bytes.data() + 8 * element, &expert, sizeof(expert));
    });
  };
  EXPECT_THAT(message(9, 5), HasSubstr(tensor + ": the row of token 4 names the expert 5, expected 0 to 4"));
  EXPECT_THAT(message(9, -1), HasSubstr(tensor + ": the row of token 4 names the expert -1, expected 0 to 4"));
  EXPECT_EQ(message(9, 3), "no error") << "a single row may name an expert twice";
  EXPECT_EQ(message(9, 2), "no error");
}

TEST_F(QuantisedWeights, AHashTableThatWasNeverFilledIsRefused) {
  const auto message = [&](std::size_t rows) {
    return message_with([&](HandmadeModel& model) {
      model.at("layers.0.ffn.gate.tid2eid").bytes.replace(0, 16 * rows, std::string(16 * rows, '\0'));
    });
  };
  EXPECT_EQ(message(39), "no error") << "the last row of 40 has two experts";
  EXPECT_THAT(message(40),
              HasSubstr("\"layers.0.ffn.gate.tid2eid\": every row names an expert twice, expected 2 different"));
}

TEST_F(QuantisedWeights, AreWrittenBackByteForByteAsTheyWere) {
  const HandmadeModel original = quantised_model(4, true);
  write_handmade(model_path(), original, true);
  LoadedModel loaded(model_path(), tensor::DType::kBf16, ParameterUse::kTraining);
  const fs::path target = directory_.path() / "written";
  ModelOutput output;
  output.like = &loaded.directory;
  write_model(target, loaded.directory.config(), *loaded.model, loaded.machine.stream, output);
  const ModelDirectory written = ModelDirectory::open(target);
  ASSERT_EQ(written.tensors().size(), original.size());
  for (const auto& [name, tensor] : original) {
    const ModelTensor* found = written.find(name);
    ASSERT_NE(found, nullptr) << name;
    EXPECT_EQ(found->entry->dtype, tensor.spec.dtype) << name;
    EXPECT_EQ(found->entry->shape, tensor.spec.shape) << name;
    EXPECT_EQ(as_text(bytes_of(*found)), tensor.bytes) << name;
  }
  EXPECT_EQ(written.config(), loaded.directory.config());
  EXPECT_GE(fs::file_size(target / "model.safetensors"),
            model_bytes(*loaded.model, tensor::DType::kBf16, &loaded.directory));
}

TEST_F(QuantisedWeights, ChangeOnlyInTheBlocksThatWereTrained) {
  const HandmadeModel original = quantised_model(5);
  write_handmade(model_path(), original);
  LoadedModel loaded(model_path(), tensor::DType::kBf16, ParameterUse::kTraining);
  const std::string name = kExpert + ".weight";
  for (const autograd::Parameter& parameter : loaded.model->parameters().all()) {
    for (const autograd::CheckpointSlice& slice : parameter.spec.slices) {
      if (slice.name == name) {
        std::vector<double> values = handmade_values(original, name);
        values[160 * 3 + 40] = 1000;  // row 3, block 1
        tests::write_doubles(loaded.machine.stream, slice.of(parameter.master), values);
      }
    }
  }
  const fs::path target = directory_.path() / "written";
  ModelOutput output;
  output.like = &loaded.directory;
  write_model(target, loaded.directory.config(), *loaded.model, loaded.machine.stream, output);
  const ModelDirectory written = ModelDirectory::open(target);
  for (const auto& [other, tensor] : original) {
    if (other != name && other != kExpert + ".scale") {
      EXPECT_EQ(as_text(written.bytes(other)), tensor.bytes) << other;
    }
  }
  HandmadeModel changed = original;
  changed.at(name).bytes = as_text(written.bytes(name));
  changed.at(kExpert + ".scale").bytes = as_text(written.bytes(kExpert + ".scale"));
  const std::vector<double> before = handmade_values(original, name), after = handmade_values(changed, name);
  for (std::size_t i = 0; i < before.size(); ++i) {
    const bool in_block = i / 32 == 5 * 3 + 1;
    EXPECT_TRUE(in_block || after[i] == before[i]) << i;
    EXPECT_TRUE(in_block || changed.at(name).bytes[i / 2] == original.at(name).bytes[i / 2]) << i;
  }
  EXPECT_EQ(after[160 * 3 + 40], 1024.0);  // the scale is 256 >= 1000 / 6, and 1000 / 256 is nearest to the code 4
}

TEST_F(QuantisedWeights, WithoutADirectoryToFollowAllIsPlainAndConfigSaysSo) {
  const HandmadeModel original = quantised_model(6, true);
  write_handmade(model_path(), original);
  LoadedModel loaded(model_path(), tensor::DType::kBf16, ParameterUse::kInference);
  const fs::path target = directory_.path() / "written";
  write_model(target, loaded.directory.config(), *loaded.model, loaded.machine.stream, {});
  LoadedModel again(target, tensor::DType::kF32, ParameterUse::kInference);
  expect_values(again, original, false);
  EXPECT_FALSE(again.directory.config().contains("quantization_config"));
  EXPECT_EQ(again.directory.config()["expert_dtype"], "fp4");  // how it was trained: its indexers compute as before
  EXPECT_EQ(again.directory.config()["unknown_key"], base::Json::array({1}));
  EXPECT_EQ(again.directory.find("mtp.0.head.weight"), nullptr);
}

TEST_F(QuantisedWeights, AGrowingVocabularyRepeatsTheTablesFirstRows) {
  constexpr std::int64_t kStored = 40, kGrown = 43;
  write_handmade(model_path(), quantised_model(3));
  const ModelDirectory directory = ModelDirectory::open(model_path());
  tests::Machine machine(devices::reference::make_device());
  base::Json config = directory.config();
  config["vocab_size"] = kGrown;
  const auto model = models::make_model(config, "config.json", stored_names(directory));
  check_weights(directory, *model, kStored);
  load_weights(directory, *model, machine.stream, tensor::DType::kF32, ParameterUse::kInference, kStored);
  std::size_t tables = 0;
  for (const autograd::Parameter& parameter : model->parameters().all()) {
    if (parameter.spec.storage != autograd::ParameterStorage::kIndices) {
      continue;
    }
    ++tables;
    const auto rows = machine.stream.read_back(parameter.value, tensor::ReadBackPurpose::kTest).values<std::int32_t>();
    const auto choices = static_cast<std::ptrdiff_t>(rows.size() / kGrown);
    EXPECT_TRUE(std::equal(rows.begin() + kStored * choices, rows.end(), rows.begin())) << parameter.spec.name;
  }
  EXPECT_GT(tables, 0u);
}

}  // namespace
}  // namespace flyover::checkpoint
