#include "checkpoint/model_weights.h"

#include <cstring>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/random.h"
#include "checkpoint/hub_directory_writer.h"
#include "checkpoint/tensor_consumer.h"

namespace flyover::checkpoint {
namespace {

using autograd::CheckpointSlice;
using autograd::Parameter;
using tensor::DType;
using tensor::Tensor;

constexpr std::string_view kOutputName = "lm_head.weight";
constexpr std::string_view kEmbeddingName = "model.embed_tokens.weight";

void write_rows(tensor::Stream& stream, const Tensor& destination, const CheckpointSlice& slice,
                std::span<const std::byte> bytes) {
  stream.write(destination.rows(slice.first_row, slice.shape[0]), bytes);
}

/// Rows of `row_elements` floats behind the stored ones, each their mean.
void append_mean_rows(std::vector<float>& values, std::int64_t row_elements, std::int64_t rows) {
  const auto width = static_cast<std::size_t>(row_elements);
  const std::size_t stored = values.size() / width;
  std::vector<double> sums(width, 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    sums[i % width] += values[i];
  }
  for (std::int64_t row = 0; row < rows; ++row) {
    for (const double sum : sums) {
      values.push_back(static_cast<float>(sum / static_cast<double>(stored)));
    }
  }
}

/// The elements of one tensor of the directory into the parameter's value and master.
void load_slice(tensor::Stream& stream, const Parameter& parameter, const CheckpointSlice& slice,
                const ModelTensor& source) {
  const std::int64_t stored_rows = source.entry->shape.front();
  const std::int64_t row_elements = slice.shape.elements() / slice.shape[0];
  if (parameter.value.dtype() == DType::kBf16 && stored_rows == slice.shape[0]) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(slice.shape.elements()) * sizeof(kernels::Bf16));
    read_elements(source, DType::kBf16, bytes);
    write_rows(stream, parameter.value, slice, bytes);
    if (!parameter.master.defined()) {
      return;
    }
  }
  std::vector<float> values(static_cast<std::size_t>(stored_rows * row_elements));
  read_elements(source, DType::kF32, std::as_writable_bytes(std::span(values)));
  append_mean_rows(values, row_elements, slice.shape[0] - stored_rows);
  if (parameter.master.defined()) {
    write_rows(stream, parameter.master, slice, std::as_bytes(std::span(values)));
  }
  if (parameter.value.dtype() == DType::kF32) {
    write_rows(stream, parameter.value, slice, std::as_bytes(std::span(values)));
  } else if (stored_rows != slice.shape[0]) {
    std::vector<kernels::Bf16> rounded;
    rounded.reserve(values.size());
    for (const float value : values) {
      rounded.push_back(kernels::to_bf16(value));
    }
    write_rows(stream, parameter.value, slice, std::as_bytes(std::span(rounded)));
  }
}

/// The shape that the directory has for a slice: with fewer rows where the vocabulary grows.
std::vector<std::int64_t> stored_shape(const Parameter& parameter, const CheckpointSlice& slice,
                                       std::int64_t stored_vocabulary) {
  const auto sizes = slice.shape.values();
  std::vector<std::int64_t> shape(sizes.begin(), sizes.end());
  const bool by_vocabulary = parameter.spec.role == autograd::ParameterRole::kEmbedding ||
                             parameter.spec.role == autograd::ParameterRole::kOutput;
  if (stored_vocabulary > 0 && by_vocabulary) {
    shape[0] = stored_vocabulary;
  }
  return shape;
}

bool repeats_embedding(const ModelDirectory& directory) {
  const ModelTensor* output = directory.find(kOutputName);
  const ModelTensor* embedding = directory.find(kEmbeddingName);
  if (output == nullptr || embedding == nullptr) {
    return false;
  }
  const std::span<const std::byte> a = bytes_of(*output), b = bytes_of(*embedding);
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size()) == 0;
}

std::vector<TensorSpec> tensor_specs(const models::LanguageModel& model, DType dtype) {
  std::vector<TensorSpec> specs;
  for (const Parameter& parameter : model.parameters().all()) {
    for (const CheckpointSlice& slice : parameter.spec.slices) {
      const auto sizes = slice.shape.values();
      specs.push_back({slice.name, tensor_type_of(dtype), {sizes.begin(), sizes.end()}});
    }
  }
  return specs;
}

struct SliceLocation {
  const Parameter* parameter;
  const CheckpointSlice* slice;
};

std::map<std::string, SliceLocation> locate_slices(const models::LanguageModel& model) {
  std::map<std::string, SliceLocation> result;
  for (const Parameter& parameter : model.parameters().all()) {
    for (const CheckpointSlice& slice : parameter.spec.slices) {
      result[slice.name] = {&parameter, &slice};
    }
  }
  return result;
}

/// Which tensor of the directory fills which slice; each tensor of the directory is used exactly once.
std::vector<std::pair<SliceLocation, const ModelTensor*>> plan_load(const ModelDirectory& directory,
                                                                    const models::LanguageModel& model,
                                                                    std::int64_t stored_vocabulary) {
  TensorConsumer consumer(directory);
  std::vector<std::pair<SliceLocation, const ModelTensor*>> plan;
  for (const Parameter& parameter : model.parameters().all()) {
    for (const CheckpointSlice& slice : parameter.spec.slices) {
      const auto shape = stored_shape(parameter, slice, stored_vocabulary);
      plan.push_back({{&parameter, &slice}, consumer.consume(slice.name, shape)});
    }
  }
  consumer.finish([&](std::string_view name) {
    return name.ends_with("rotary_emb.inv_freq") || (name == kOutputName && repeats_embedding(directory));
  });
  return plan;
}

tensor::ReadBack read_slice(tensor::Stream& stream, const SliceLocation& location) {
  return stream.read_back(location.parameter->value.rows(location.slice->first_row, location.slice->shape[0]),
                          tensor::ReadBackPurpose::kCheckpoint);
}

}  // namespace

void check_weights(const ModelDirectory& directory, const models::LanguageModel& model,
                   std::int64_t stored_vocabulary) {
  plan_load(directory, model, stored_vocabulary);
}

void load_weights(const ModelDirectory& directory, models::LanguageModel& model, tensor::Stream& stream, DType compute,
                  autograd::ParameterUse use, std::int64_t stored_vocabulary) {
  // Everything is checked before memory is taken.
  const auto plan = plan_load(directory, model, stored_vocabulary);
  model.parameters().allocate(stream, compute, use);
  for (const auto& [location, source] : plan) {
    load_slice(stream, *location.parameter, *location.slice, *source);
  }
}

void initialise_weights(models::LanguageModel& model, tensor::Stream& stream, std::uint64_t seed, DType compute,
                        autograd::ParameterUse use) {
  model.parameters().allocate(stream, compute, use);
  std::uint64_t index = 0;
  for (const Parameter& parameter : model.parameters().all()) {
    const base::Random random(seed, base::RandomPurpose::kInitialisation, 0, index++);
    const double deviation = model.initialisation(parameter);
    std::vector<float> values(static_cast<std::size_t>(parameter.value.elements()), deviation < 0 ? 0.0f : 1.0f);
    if (deviation > 0) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<float>(deviation * random.normal(i));
      }
    }
    const auto bytes = std::as_bytes(std::span(values));
    if (parameter.master.defined()) {
      stream.write(parameter.master, bytes);
    }
    if (parameter.value.dtype() == DType::kF32) {
      stream.write(parameter.value, bytes);
    } else {
      std::vector<kernels::Bf16> rounded;
      rounded.reserve(values.size());
      for (const float value : values) {
        rounded.push_back(kernels::to_bf16(value));
      }
      stream.write(parameter.value, std::as_bytes(std::span(rounded)));
    }
  }
}

std::uint64_t model_bytes(const models::LanguageModel& model, DType dtype) {
  return safetensors_file_bytes(tensor_specs(model, dtype), {});
}

void write_model(const std::filesystem::path& target, const base::Json& original, const models::LanguageModel& model,
                 tensor::Stream& stream, const ModelOutput& output) {
  const auto slices = locate_slices(model);
  const DType dtype = model.parameters().all().front().value.dtype();
  ModelDirectoryContents contents;
  contents.tensors = tensor_specs(model, dtype);
  sort_for_writing(contents.tensors);
  contents.write_tensor = [&](const TensorSpec& spec, const PieceWriter& write) {
    write(read_slice(stream, slices.at(spec.name)).bytes());
  };
  contents.tokenizer_source = output.tokenizer_source;
  contents.extra_files = output.extra_files;
  base::Json config = original;
  config[config.contains("dtype") ? "dtype" : "torch_dtype"] = dtype == DType::kF32 ? "float32" : "bfloat16";
  require_disk_space(target, required_bytes(config, contents));
  write_model_directory(target, config, contents, true);

  const ModelDirectory written = ModelDirectory::open(target);
  for (const auto& [name, location] : slices) {
    auto ticket = read_slice(stream, location);
    const auto expected = ticket.bytes();
    const auto found = written.bytes(name);
    base::require(expected.size() == found.size() && std::memcmp(expected.data(), found.data(), found.size()) == 0,
                  "{}: tensor {} reads back differently from what was written: do not trust this disk", target.string(),
                  name);
  }
}

}  // namespace flyover::checkpoint
