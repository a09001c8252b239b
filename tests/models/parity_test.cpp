// Logits and every gradient against stored results of Hugging Face transformers (tests/models/reference).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "checkpoint/hub_directory.h"
#include "checkpoint/model_weights.h"
#include "checkpoint/safetensors.h"
#include "devices/cpu/device.h"
#include "devices/reference/device.h"
#include "models/fp4_experts.h"
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
/// The gradients of DeepSeek-V4's three mixing scales are sums over all tokens that cancel: transformers' own fp32 is
/// up to 1e-5 away (reference.json).
constexpr double kHyperConnectionTolerance = 5e-5;

double tolerance_of(const std::string& family, const std::string& device) {
  if (device == "reference") {
    return kReferenceTolerance;
  }
  return family == "deepseek_v4" ? kHyperConnectionTolerance : kTolerance;
}

struct Case {
  std::string family;  ///< a folder of tests/models/reference ...
  std::string name;    ///< ... and one in it
  std::string device;  ///< "reference" or the name of a CPU instruction set
};

/// The weights of the case `packed` under other names; what is expected of them is beside that.
std::string expectations_of(const std::string& name) {
  return name == "packed_published" || name == "packed_saved" ? "packed" : name;
}

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

class Parity : public testing::TestWithParam<Case> {
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

/// The model of a case, its weights loaded; experts round where the configuration says that they were trained for FP4.
std::unique_ptr<LanguageModel> load_model(const checkpoint::ModelDirectory& directory, tensor::Stream& stream) {
  const base::Json& config = directory.config();
  auto model = make_model(config, "config.json", checkpoint::stored_names(directory));
  if (config.value("expert_dtype", "") == "fp4") {
    round_experts_to_fp4(*model);
  }
  checkpoint::load_weights(directory, *model, stream, DType::kF32, autograd::ParameterUse::kTraining);
  return model;
}

/// The case's documents and, one behind the other, the stored rows called "<name>" or "<name>.<document>".
std::vector<std::vector<std::int32_t>> stored_documents(const SafetensorsFile& file) {
  if (file.find("tokens") != nullptr) {
    return {stored_tokens(file, "tokens")};
  }
  std::vector<std::vector<std::int32_t>> documents;
  while (file.find(fmt::format("tokens.{}", documents.size())) != nullptr) {
    documents.push_back(stored_tokens(file, fmt::format("tokens.{}", documents.size())));
  }
  return documents;
}

std::vector<double> stored_rows(const SafetensorsFile& file, const std::string& name, std::size_t documents) {
  if (file.find(name) != nullptr) {
    return stored(file, name);
  }
  std::vector<double> rows;
  for (std::size_t i = 0; i < documents; ++i) {
    const auto part = stored(file, fmt::format("{}.{}", name, i));
    rows.insert(rows.end(), part.begin(), part.end());
  }
  return rows;
}

/// Every gradient against those stored under `prefix`, all of which must be found; one that is not stored must be zero.
void expect_gradients(tensor::Stream& stream, const LanguageModel& model, const SafetensorsFile& expected,
                      const std::string& prefix, double tolerance) {
  std::size_t found = 0;
  for (const autograd::Parameter& parameter : model.parameters().all()) {
    for (const autograd::CheckpointSlice& slice : parameter.spec.slices) {
      if (!parameter.gradient.defined()) {
        continue;
      }
      const auto gradient = tests::read_doubles(stream, slice.of(parameter.gradient));
      const std::string name = prefix + slice.name;
      if (expected.find(name) == nullptr) {
        EXPECT_TRUE(std::all_of(gradient.begin(), gradient.end(), [](double x) { return x == 0.0; })) << name;
        continue;
      }
      EXPECT_LT(relative_error(gradient, stored(expected, name)), tolerance) << name;
      ++found;
    }
  }
  const auto& entries = expected.tensors();
  const auto stored_count =
      std::count_if(entries.begin(), entries.end(), [&](const auto& entry) { return entry.name.starts_with(prefix); });
  EXPECT_GT(found, 0u);
  EXPECT_EQ(found, static_cast<std::size_t>(stored_count)) << "stored gradients that the model does not have";
}

TEST_P(Parity, LogitsLossAndEveryGradient) {
  const auto& [family, name, device] = GetParam();
  const auto root = tests::repository() / "tests/models/reference" / family;
  const auto model_directory = checkpoint::ModelDirectory::open(root / name);
  const auto expected = SafetensorsFile::open(root / expectations_of(name) / "expected.safetensors");
  tests::Machine machine(make_device(device));
  tensor::Stream& stream = machine.stream;
  const auto model = load_model(model_directory, stream);

  const double tolerance = tolerance_of(family, device);
  const auto documents = stored_documents(expected);
  const nn::TokenBatch batch = nn::upload(stream, pack(documents));
  Tape tape(stream, model->parameters(), TapeOptions{});
  const auto hidden = model->hidden_states(tape, batch);
  const auto logits = ops::logits(tape, hidden.value, model->output_weight());
  EXPECT_LT(relative_error(tests::read_doubles(stream, logits), stored_rows(expected, "logits", documents.size())),
            tolerance);
  const tensor::Tensor total = stream.zeros({1}, DType::kF32);
  const auto result = ops::linear_cross_entropy(tape, hidden, model->output_weight(), batch.targets, total, 8);
  tape.backward(result.loss, {});
  EXPECT_LT(relative_error(tests::read_doubles(stream, total), stored(expected, "loss")), tolerance);
  if (expectations_of(name) == name) {
    expect_gradients(stream, *model, expected, "gradient.", tolerance);
  }
}

/// What the tests of single parts share: a case's model, loaded, and its documents.
struct LoadedCase {
  LoadedCase(const std::string& family, const std::string& name, const std::string& device)
      : root(tests::repository() / "tests/models/reference" / family / name),
        expected(SafetensorsFile::open(root / "expected.safetensors")),
        machine(make_device(device)),
        model(load_model(checkpoint::ModelDirectory::open(root), machine.stream)),
        documents(stored_documents(expected)),
        tolerance(tolerance_of(family, device)) {}

  std::filesystem::path root;
  SafetensorsFile expected;
  tests::Machine machine;
  std::unique_ptr<LanguageModel> model;
  std::vector<std::vector<std::int32_t>> documents;
  double tolerance;
};

std::vector<std::string> devices_to_test() {
  std::vector<std::string> names = {"reference"};
  for (const auto set : devices::cpu::available_instruction_sets()) {
    names.emplace_back(name_of(set));
  }
  return names;
}

TEST(DeepSeekV4Parity, PredictionOfTheTokenAfterTheNext) {
  for (const std::string& device : devices_to_test()) {
    LoadedCase one("deepseek_v4", "mtp", device);
    tensor::Stream& stream = one.machine.stream;
    nn::PackedTokens packed = pack(one.documents);
    nn::TokenBatch batch = nn::upload(stream, packed);
    // The stored loss is the mean over its own targets, two fewer than tokens in each document.
    const auto all = static_cast<float>(packed.tokens.size()), documents = static_cast<float>(one.documents.size());
    batch.auxiliary.further = nn::further_targets(stream, packed, (all - documents) / (all - 2 * documents));
    Tape tape(stream, one.model->parameters(), TapeOptions{});
    const TrainingStates states = one.model->training_states(tape, batch);
    const auto logits =
        tests::read_doubles(stream, ops::logits(tape, states.further.value, one.model->output_weight()));
    const std::size_t vocabulary = logits.size() / packed.tokens.size();
    std::vector<double> predictions;
    std::size_t row = 0;
    for (const auto& document : one.documents) {
      const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(row * vocabulary);
      predictions.insert(predictions.end(), begin,
                         begin + static_cast<std::ptrdiff_t>((document.size() - 1) * vocabulary));
      row += document.size();
    }
    EXPECT_LT(relative_error(predictions, stored_rows(one.expected, "mtp_logits", one.documents.size())),
              one.tolerance);
    const tensor::Tensor total = stream.zeros({1}, DType::kF32);
    const auto loss = ops::linear_cross_entropy(tape, states.further, one.model->output_weight(),
                                                batch.auxiliary.further.targets, total, 8);
    tape.backward(loss.loss, {});
    EXPECT_LT(relative_error(tests::read_doubles(stream, total), stored(one.expected, "mtp_loss")), one.tolerance);
    expect_gradients(stream, *one.model, one.expected, "mtp_gradient.", one.tolerance);
  }
}

TEST(DeepSeekV4Parity, TheIndexerLearnsFromItsOwnLossAlone) {
  for (const char* name :
       {"csa_dense", "csa_sparse", "all_layer_types", "packed", "mtp", "all_published_ratios", "fp4"}) {
    for (const std::string& device : devices_to_test()) {
      SCOPED_TRACE(fmt::format("{} on {}", name, device));
      LoadedCase one("deepseek_v4", name, device);
      tensor::Stream& stream = one.machine.stream;
      nn::PackedTokens packed = pack(one.documents);
      std::fill(packed.weights.begin(), packed.weights.end(), 0.0f);  // the language model's own loss counts nothing
      nn::TokenBatch batch = nn::upload(stream, packed);
      batch.auxiliary.indexer = stream.zeros({1}, DType::kF32);
      batch.auxiliary.indexer_coefficient = 1.0f;
      batch.auxiliary.token_weights = stream.upload(std::vector<float>(packed.tokens.size(), 1.0f),
                                                    {static_cast<std::int64_t>(packed.tokens.size())});
      Tape tape(stream, one.model->parameters(), TapeOptions{});
      const TrainingStates states = one.model->training_states(tape, batch);
      const auto loss = ops::linear_cross_entropy(tape, states.hidden, one.model->output_weight(), batch.targets,
                                                  stream.zeros({1}, DType::kF32), 8);
      tape.backward(loss.loss, {});
      double divergence = 0;
      for (std::int64_t layer = 0; layer < one.model->summary().layers; ++layer) {
        if (one.expected.find(fmt::format("indexer_kl.{}", layer)) != nullptr) {
          for (const double value : stored(one.expected, fmt::format("indexer_kl.{}", layer))) {
            divergence += value;
          }
        }
      }
      EXPECT_NEAR(tests::read_doubles(stream, batch.auxiliary.indexer)[0], divergence, one.tolerance * divergence);
      expect_gradients(stream, *one.model, one.expected, "indexer_gradient.", one.tolerance);
    }
  }
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const char* device : {"reference", "avx2", "avx512", "avx512_bf16"}) {
    for (const char* family : {"deepseek_v3", "deepseek_v4", "llama", "qwen3_moe"}) {
      std::set<std::string> names;
      for (const auto& entry :
           std::filesystem::directory_iterator(tests::repository() / "tests/models/reference" / family)) {
        if (entry.is_directory()) {
          names.insert(entry.path().filename().string());
        }
      }
      for (const std::string& name : names) {
        cases.push_back({family, name, device});
      }
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Transformers, Parity, testing::ValuesIn(all_cases()), [](const auto& parameters) {
  return parameters.param.family + "_" + parameters.param.name + "_" + parameters.param.device;
});

}  // namespace
}  // namespace flyover::models
