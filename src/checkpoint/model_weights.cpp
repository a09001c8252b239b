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
  stream.write(slice.of(destination), bytes);
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

std::vector<kernels::Bf16> rounded(const std::vector<float>& values) {
  std::vector<kernels::Bf16> result;
  result.reserve(values.size());
  for (const float value : values) {
    result.push_back(kernels::to_bf16(value));
  }
  return result;
}

/// A table of indices, which files hold as I64 or I32. Throws Error for any other type and for what 31 bits do not
/// hold.
std::vector<std::int32_t> read_indices(const ModelTensor& source, const CheckpointSlice& slice) {
  const std::span<const std::byte> bytes = bytes_of(source);
  const bool wide = source.entry->dtype == TensorType::kI64;
  base::require(wide || source.entry->dtype == TensorType::kI32, "{}: is {}, expected I64 or I32", slice.name,
                name_of(source.entry->dtype));
  std::vector<std::int32_t> result(static_cast<std::size_t>(slice.shape.elements()));
  for (std::size_t i = 0; i < result.size(); ++i) {
    std::int64_t value = 0;
    if (wide) {
      std::memcpy(&value, bytes.data() + i * sizeof(value), sizeof(value));
    } else {
      std::int32_t narrow = 0;
      std::memcpy(&narrow, bytes.data() + i * sizeof(narrow), sizeof(narrow));
      value = narrow;
    }
    base::require(value >= 0 && value <= INT32_MAX, "{}: element {} is {}, expected an index", slice.name, i, value);
    result[i] = static_cast<std::int32_t>(value);
  }
  return result;
}

/// The elements of one tensor of the directory into the parameter's value and master.
void load_slice(tensor::Stream& stream, const Parameter& parameter, const CheckpointSlice& slice,
                const ModelTensor& source) {
  if (parameter.spec.storage == autograd::ParameterStorage::kIndices) {
    const std::vector<std::int32_t> indices = read_indices(source, slice);
    write_rows(stream, parameter.value, slice, std::as_bytes(std::span(indices)));
    return;
  }
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
    const std::vector<kernels::Bf16> narrow = rounded(values);
    write_rows(stream, parameter.value, slice, std::as_bytes(std::span(narrow)));
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

/// The type that a parameter's elements have in the files: indices as 64-bit numbers, as published models have them.
TensorType file_type(const Parameter& parameter, DType compute) {
  switch (parameter.spec.storage) {
    case autograd::ParameterStorage::kIndices:
      return TensorType::kI64;
    case autograd::ParameterStorage::kExact:
      return TensorType::kF32;
    case autograd::ParameterStorage::kCompute:
      break;
  }
  return tensor_type_of(compute);
}

std::vector<TensorSpec> tensor_specs(const models::LanguageModel& model, DType dtype) {
  std::vector<TensorSpec> specs;
  for (const Parameter& parameter : model.parameters().all()) {
    for (const CheckpointSlice& slice : parameter.spec.slices) {
      const auto sizes = slice.shape.values();
      specs.push_back({slice.name, file_type(parameter, dtype), {sizes.begin(), sizes.end()}});
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

/// A slice's elements as they are in the files.
std::vector<std::byte> file_bytes(tensor::Stream& stream, const SliceLocation& location) {
  auto ticket = stream.read_back(location.slice->of(location.parameter->value), tensor::ReadBackPurpose::kCheckpoint);
  if (location.parameter->spec.storage == autograd::ParameterStorage::kIndices) {
    const std::vector<std::int32_t> narrow = ticket.values<std::int32_t>();
    const std::vector<std::int64_t> wide(narrow.begin(), narrow.end());
    const auto bytes = std::as_bytes(std::span(wide));
    return {bytes.begin(), bytes.end()};
  }
  const auto bytes = ticket.bytes();
  return {bytes.begin(), bytes.end()};
}

}  // namespace

models::StoredNames stored_names(const ModelDirectory& directory) {
  return [&directory](std::string_view name) { return directory.find(name) != nullptr; };
}

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
    models::Initialisation start = model.initialisation(parameter, seed);
    const auto count = static_cast<std::size_t>(parameter.value.elements());
    if (parameter.value.dtype() == DType::kI32) {
      base::check(start.indices.size() == count, "{}: {} initial indices", parameter.spec.name, start.indices.size());
      stream.write(parameter.value, std::as_bytes(std::span(start.indices)));
      continue;
    }
    if (start.values.empty()) {
      start.values.assign(count, static_cast<float>(start.mean));
      for (std::size_t i = 0; start.deviation > 0 && i < count; ++i) {
        start.values[i] = static_cast<float>(start.mean + start.deviation * random.normal(i));
      }
    }
    base::check(start.values.size() == count, "{}: {} initial values", parameter.spec.name, start.values.size());
    const auto bytes = std::as_bytes(std::span(start.values));
    if (parameter.master.defined()) {
      stream.write(parameter.master, bytes);
    }
    if (parameter.value.dtype() == DType::kF32) {
      stream.write(parameter.value, bytes);
    } else {
      const std::vector<kernels::Bf16> narrow = rounded(start.values);
      stream.write(parameter.value, std::as_bytes(std::span(narrow)));
    }
  }
}

std::uint64_t model_bytes(const models::LanguageModel& model, DType dtype) {
  return safetensors_file_bytes(tensor_specs(model, dtype), {});
}

void write_model(const std::filesystem::path& target, const base::Json& original, const models::LanguageModel& model,
                 tensor::Stream& stream, const ModelOutput& output) {
  const auto slices = locate_slices(model);
  const DType dtype = model.parameters()[model.output_weight()].value.dtype();
  ModelDirectoryContents contents;
  contents.tensors = tensor_specs(model, dtype);
  sort_for_writing(contents.tensors);
  contents.write_tensor = [&](const TensorSpec& spec, const PieceWriter& write) {
    write(file_bytes(stream, slices.at(spec.name)));
  };
  contents.tokenizer_source = output.tokenizer_source;
  contents.extra_files = output.extra_files;
  base::Json config = original;
  config[config.contains("dtype") ? "dtype" : "torch_dtype"] = dtype == DType::kF32 ? "float32" : "bfloat16";
  require_disk_space(target, required_bytes(config, contents));
  write_model_directory(target, config, contents, true);

  const ModelDirectory written = ModelDirectory::open(target);
  for (const auto& [name, location] : slices) {
    const std::vector<std::byte> expected = file_bytes(stream, location);
    const auto found = written.bytes(name);
    base::require(expected.size() == found.size() && std::memcmp(expected.data(), found.data(), found.size()) == 0,
                  "{}: tensor {} reads back differently from what was written: do not trust this disk", target.string(),
                  name);
  }
}

}  // namespace flyover::checkpoint
