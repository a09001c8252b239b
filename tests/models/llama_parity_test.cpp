// Logits and every gradient against stored results of Hugging Face transformers (tests/models/reference).
#include <cmath>
#include <cstring>

#include <gtest/gtest.h>

#include "checkpoint/hub_directory.h"
#include "checkpoint/model_weights.h"
#include "checkpoint/safetensors.h"
#include "devices/cpu/device.h"
#include "devices/reference/device.h"
#include "nn/batch.h"
#include "ops/loss.h"
#include "support/model_fixture.h"
#include "support/shared_data.h"

namespace flyover::models {
namespace {

using autograd::Tape;
using autograd::TapeOptions;
using checkpoint::SafetensorsFile;
using checkpoint::TensorType;
using tensor::DType;

/// The project promises 1e-4 and expects 1e-5 (design section 4). The reference device must reach the latter; fp32 sums
/// of another order may be a little worse on the ill-conditioned cases, for which reference.json records that the fp32
/// results of transformers itself are 5e-6 away from its own fp64 ones.
constexpr double kReferenceTolerance = 1e-5;
constexpr double kTolerance = 2e-5;

struct Case {
  const char* name;
  const char* device;  ///< "reference" or the name of a CPU instruction set
};

std::unique_ptr<devices::Device> make_device(const std::string& name) {
  return name == "reference" ? devices::reference::make_device()
                             : devices::cpu::make_device(2, devices::cpu::choose_instruction_set(name));
}

std::vector<double> stored(const SafetensorsFile& file, const std::string& name) {
  const checkpoint::TensorEntry* entry = file.find(name);
  if (entry == nullptr) {
    throw std::runtime_error("no stored tensor " + name);
  }
  std::vector<float> floats(file.bytes(*entry).size() / checkpoint::size_of(entry->dtype));
  checkpoint::convert_elements(entry->dtype, file.bytes(*entry), DType::kF32,
                               std::as_writable_bytes(std::span(floats)));
  return {floats.begin(), floats.end()};
}

std::vector<std::int32_t> stored_tokens(const SafetensorsFile& file, const std::string& name) {
  std::vector<std::int32_t> result;
  const auto bytes = file.bytes(*file.find(name));
  for (std::size_t i = 0; i < bytes.size(); i += sizeof(std::int64_t)) {
    std::int64_t token = 0;
    std::memcpy(&token, bytes.data() + i, sizeof(token));
    result.push_back(static_cast<std::int32_t>(token));
  }
  return result;
}

/// |a - b| / |b| in the Euclidean norm.
double relative_error(const std::vector<double>& found, const std::vector<double>& expected) {
  EXPECT_EQ(found.size(), expected.size());
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += (found[i] - expected[i]) * (found[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(difference / norm);
}

/// All documents in one pack, every next token a target of equal weight.
nn::PackedTokens pack(const std::vector<std::vector<std::int32_t>>& documents) {
  nn::PackedTokens packed;
  std::size_t targets = 0;
  for (const auto& document : documents) {
    targets += document.size() - 1;
  }
  for (const auto& document : documents) {
    packed.document_lengths.push_back(static_cast<std::int64_t>(document.size()));
    for (std::size_t i = 0; i < document.size(); ++i) {
      const bool last = i + 1 == document.size();
      packed.tokens.push_back(document[i]);
      packed.targets.push_back(last ? kernels::kIgnoredTarget : document[i + 1]);
      packed.weights.push_back(last ? 0.0f : 1.0f / static_cast<float>(targets));
    }
  }
  return packed;
}

class LlamaParity : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const std::string device = GetParam().device;
    if (device != "reference") {
      bool available = false;
      for (const auto set : devices::cpu::available_instruction_sets()) {
        available = available || name_of(set) == device;
      }
      if (!available) {
        GTEST_SKIP() << "this machine does not have " << device;
      }
    }
  }
};

TEST_P(LlamaParity, LogitsLossAndEveryGradient) {
  const auto directory = tests::repository() / "tests/models/reference/llama" / GetParam().name;
  const auto model_directory = checkpoint::ModelDirectory::open(directory);
  const auto expected = SafetensorsFile::open(directory / "expected.safetensors");
  tests::Machine machine(make_device(GetParam().device));
  tensor::Stream& stream = machine.stream;
  const auto model = make_model(model_directory.config(), "config.json");
  checkpoint::load_weights(model_directory, *model, stream, DType::kF32, autograd::ParameterUse::kTraining);

  const double tolerance = std::string(GetParam().device) == "reference" ? kReferenceTolerance : kTolerance;
  std::vector<std::vector<std::int32_t>> documents;
  std::vector<double> expected_logits;
  if (expected.find("tokens") != nullptr) {
    documents = {stored_tokens(expected, "tokens")};
    expected_logits = stored(expected, "logits");
  } else {
    for (const std::string index : {"0", "1"}) {
      documents.push_back(stored_tokens(expected, "tokens." + index));
      const auto logits = stored(expected, "logits." + index);
      expected_logits.insert(expected_logits.end(), logits.begin(), logits.end());
    }
  }
  const nn::TokenBatch batch = nn::upload(stream, pack(documents));
  Tape tape(stream, model->parameters(), TapeOptions{});
  const auto hidden = model->hidden_states(tape, batch);
  const auto logits = ops::logits(tape, hidden.value, model->output_weight());
  EXPECT_LT(relative_error(tests::read_doubles(stream, logits), expected_logits), tolerance);
  const tensor::Tensor total = stream.zeros({1}, DType::kF32);
  const auto result = ops::linear_cross_entropy(tape, hidden, model->output_weight(), batch.targets, total, 8);
  tape.backward(result.loss, {});
  EXPECT_LT(relative_error(tests::read_doubles(stream, total), stored(expected, "loss")), tolerance);
  for (const autograd::Parameter& parameter : model->parameters().all()) {
    for (const autograd::CheckpointSlice& slice : parameter.spec.slices) {
      const auto gradient = slice.of(parameter.gradient);
      EXPECT_LT(relative_error(tests::read_doubles(stream, gradient), stored(expected, "gradient." + slice.name)),
                tolerance)
          << slice.name;
    }
  }
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const char* device : {"reference", "avx2", "avx512", "avx512_bf16"}) {
    for (const char* name : {"gqa", "mha_tied", "mqa_head_dim", "llama3_rope", "llama3_rope_older_keys",
                             "linear_rope_bias_sharded", "packed"}) {
      cases.push_back({name, device});
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Transformers, LlamaParity, testing::ValuesIn(all_cases()), [](const auto& parameters) {
  return std::string(parameters.param.name) + "_" + parameters.param.device;
});

}  // namespace
}  // namespace flyover::models
