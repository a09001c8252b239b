// Converting tiny DeepSeek-V4 directories, for tests.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "checkpoint/convert.h"
#include "checkpoint/handmade_files.h"
#include "checkpoint/model_output.h"
#include "checkpoint/model_weights.h"
#include "checkpoint/quantised_model.h"
#include "devices/reference/device.h"
#include "support/model_fixture.h"
#include "support/shared_data.h"

namespace flyover::checkpoint {

/// A model directory's tensors, in the form of handmade ones.
inline HandmadeModel read_model(const std::filesystem::path& path) {
  HandmadeModel model;
  const ModelDirectory directory = ModelDirectory::open(path);
  for (const ModelTensor& tensor : directory.tensors()) {
    model[tensor.entry->name] = {*tensor.entry, std::string(as_text(bytes_of(tensor)))};
  }
  return model;
}

inline void expect_equal(const HandmadeModel& found, const HandmadeModel& expected) {
  EXPECT_EQ(found.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE(found.contains(name)) << name;
    EXPECT_EQ(found.at(name).spec.dtype, tensor.spec.dtype) << name;
    EXPECT_EQ(found.at(name).spec.shape, tensor.spec.shape) << name;
    EXPECT_EQ(found.at(name).bytes, tensor.bytes) << name;
  }
}

inline bool is_scale(const std::string& name) {
  return name.ends_with(".scale") || name.ends_with("_scale_inv");
}

/// Same weights, same values; formats may differ.
inline void expect_same_values(const HandmadeModel& found, const HandmadeModel& expected) {
  std::size_t weights = 0;
  for (const auto& [name, tensor] : expected) {
    if (!is_scale(name)) {
      ASSERT_TRUE(found.contains(name)) << name;
      EXPECT_EQ(handmade_values(found, name), handmade_values(expected, name)) << name;
      ++weights;
    }
  }
  std::size_t found_weights = 0;
  for (const auto& [name, tensor] : found) {
    found_weights += is_scale(name) ? 0 : 1;
  }
  EXPECT_EQ(found_weights, weights);
}

/// All parameters of the model that a directory holds, one after the other.
inline std::vector<double> parameter_values(const std::filesystem::path& path) {
  const ModelDirectory directory = ModelDirectory::open(path);
  tests::Machine machine(devices::reference::make_device());
  const auto model = models::make_model(directory.config(), "config.json", stored_names(directory));
  load_weights(directory, *model, machine.stream, tensor::DType::kF32, autograd::ParameterUse::kInference);
  std::vector<double> result;
  for (const autograd::Parameter& parameter : model->parameters().all()) {
    if (parameter.value.dtype() == tensor::DType::kF32) {
      const auto values = tests::read_doubles(machine.stream, parameter.value);
      result.insert(result.end(), values.begin(), values.end());
    }
  }
  return result;
}

/// A model with blocks that no rule for scales would write: small codes, zeros.
inline HandmadeModel unruly_model(std::uint64_t seed) {
  HandmadeModel model = quantised_model(seed);
  for (const int expert : {0, 3, 4}) {
    std::string& codes = model.at(fmt::format("layers.1.ffn.experts.{}.w1.weight", expert)).bytes;
    codes.replace(0, 16, 16, '\x11');                  // 0.5
    codes.replace(5 * 16, 16, 16, '\0');               // zeros
    codes.replace(codes.size() - 16, 16, 16, '\x2a');  // 1 and -1
  }
  std::string& codes = model.at("layers.1.attn.wq_a.weight").bytes;
  codes.assign(codes.size(), '\x18');
  return model;
}

class Convert : public testing::Test {
 protected:
  std::filesystem::path at(const std::string& name) const { return directory_.path() / name; }
  ConvertRequest request(const std::string& source, const std::string& target, ConvertTo to) const {
    ConvertRequest result;
    result.source = at(source);
    result.target = at(target);
    result.to = to;
    return result;
  }
  /// Writes a quantised model as "fp4" and converts it to "bf16".
  void write_and_convert(const HandmadeModel& model) const {
    write_handmade(at("fp4"), model);
    convert("fp4", "bf16", ConvertTo::kBf16);
  }
  ConvertOutcome convert(const std::string& source, const std::string& target, ConvertTo to) const {
    return convert_model(request(source, target, to));
  }
  /// Without the order of its keys.
  nlohmann::json config_of(const std::string& name) const {
    return nlohmann::json::parse(base::read_file(at(name) / "config.json"));
  }
  std::size_t entries() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(directory_.path()), std::filesystem::directory_iterator()));
  }

  tests::TemporaryDirectory directory_;
};

}  // namespace flyover::checkpoint
