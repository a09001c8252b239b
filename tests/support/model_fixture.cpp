#include "support/model_fixture.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/random.h"

namespace flyover::tests {

using tensor::DType;

Machine::Machine(std::unique_ptr<devices::Device> device_)
    : device(std::move(device_)), allocator(*device), stream(*device, allocator) {}

std::unique_ptr<models::LanguageModel> tiny_llama(bool tied) {
  const std::string config =
      fmt::format(R"({{"model_type": "llama", "vocab_size": 11, "hidden_size": 12, "intermediate_size": 10,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "attention_bias": true,
    "tie_word_embeddings": {}}})",
                  tied ? "true" : "false");
  return models::make_model(base::parse_json(config, "config.json"), "config.json");
}

std::unique_ptr<models::LanguageModel> small_llama() {
  const std::string config = R"({"model_type": "llama", "vocab_size": 97, "hidden_size": 72, "intermediate_size": 100,
    "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 20,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false})";
  return models::make_model(base::parse_json(config, "config.json"), "config.json");
}

void write_doubles(tensor::Stream& stream, const tensor::Tensor& tensor, const std::vector<double>& values) {
  base::check(static_cast<std::int64_t>(values.size()) == tensor.elements(), "{} values for {}", values.size(),
              kernels::to_string(tensor.view()));
  std::vector<std::byte> bytes;
  const auto append = [&](const auto& value) {
    const auto* data = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), data, data + sizeof(value));
  };
  for (const double value : values) {
    switch (tensor.dtype()) {
      case DType::kF64:
        append(value);
        break;
      case DType::kF32:
        append(static_cast<float>(value));
        break;
      default:
        append(kernels::to_bf16(static_cast<float>(value)));
    }
  }
  stream.write(tensor, bytes);
}

std::vector<double> read_doubles(tensor::Stream& stream, const tensor::Tensor& tensor) {
  auto ticket = stream.read_back(tensor, tensor::ReadBackPurpose::kTest);
  std::vector<double> result;
  switch (tensor.dtype()) {
    case DType::kF64:
      return ticket.values<double>();
    case DType::kF32:
      for (const float value : ticket.values<float>()) {
        result.push_back(value);
      }
      return result;
    default:
      for (const kernels::Bf16 value : ticket.values<kernels::Bf16>()) {
        result.push_back(kernels::to_float(value));
      }
      return result;
  }
}

void randomise(models::LanguageModel& model, tensor::Stream& stream, double deviation, std::uint64_t seed) {
  std::uint64_t index = 0;
  for (autograd::Parameter& parameter : model.parameters().all()) {
    const base::Random random(seed, base::RandomPurpose::kTest, index++);
    std::vector<double> values(static_cast<std::size_t>(parameter.spec.shape.elements()));
    const double centre = parameter.spec.role == autograd::ParameterRole::kNorm ? 1.0 : 0.0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = centre + deviation * random.normal(i);
    }
    write_doubles(stream, parameter.value, values);
    if (parameter.master.defined() && parameter.master.dtype() != parameter.value.dtype()) {
      write_doubles(stream, parameter.master, values);
    }
  }
}

nn::PackedTokens tiny_batch() {
  nn::PackedTokens packed;
  packed.document_lengths = {5, 3};
  packed.tokens = {1, 7, 3, 9, 2, 4, 4, 10};
  packed.targets = {7, kernels::kIgnoredTarget, 9, 2, kernels::kIgnoredTarget, 4, 10, kernels::kIgnoredTarget};
  packed.weights = {0.2f, 0.0f, 0.2f, 0.1f, 0.0f, 0.3f, 0.2f, 0.0f};
  return packed;
}

}  // namespace flyover::tests
