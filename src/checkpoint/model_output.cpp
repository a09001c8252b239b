#include "checkpoint/model_output.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "checkpoint/hub_directory_writer.h"
#include "checkpoint/storage_config.h"
#include "checkpoint/weight_matching.h"
#include "checkpoint/weight_writer.h"

namespace flyover::checkpoint {
namespace {

using autograd::CheckpointSlice;
using autograd::Parameter;
using tensor::DType;
using tensor::Tensor;

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

/// A tensor of the directory to write.
struct OutputTensor {
  TensorSpec spec;
  const Parameter* parameter = nullptr;
  const CheckpointSlice* slice = nullptr;
  WeightStorage storage = {};
  WeightPart part = WeightPart::kElements;
  std::optional<StoredWeight> kept = {};  ///< the same weight where it came from, if it is quantised
};

/// Every tensor that the model is written as: as `like` has it, or all plain.
std::vector<OutputTensor> output_tensors(const models::LanguageModel& model, DType dtype, const ModelDirectory* like) {
  std::vector<OutputTensor> result;
  std::map<std::string, OutputTensor> originals;  // of copies
  for (const Parameter& parameter : model.parameters().all()) {
    for (const CheckpointSlice& slice : parameter.spec.slices) {
      const std::vector<std::int64_t> shape = shape_of(slice);
      OutputTensor output{{}, &parameter, &slice};
      output.storage.elements = file_type(parameter, dtype);
      const bool follows = like != nullptr && parameter.spec.storage == autograd::ParameterStorage::kCompute;
      auto stored = follows ? find_weight(*like, slice.name, shape) : std::nullopt;
      if (stored.has_value() && stored->format != WeightFormat::kPlain) {
        output.storage = storage_of(*stored);
        output.kept = stored;
        output.part = WeightPart::kScales;
        output.spec = part_spec(slice.name, shape, output.storage, output.part);
        result.push_back(output);
        output.part = WeightPart::kElements;
      }
      output.spec = part_spec(slice.name, shape, output.storage, output.part);
      const bool original = parameter.spec.role == autograd::ParameterRole::kEmbedding ||
                            parameter.spec.role == autograd::ParameterRole::kOutput;
      if (original && output.storage.format == WeightFormat::kPlain) {
        originals[slice.name] = output;
      }
      result.push_back(std::move(output));
    }
  }
  for (const ModelTensor& tensor : like == nullptr ? std::vector<ModelTensor>() : like->tensors()) {
    const auto original = originals.find(copied_name(model, tensor.entry->name));
    if (original != originals.end()) {
      result.push_back(original->second);
      result.back().spec.name = tensor.entry->name;
    }
  }
  return result;
}

std::vector<TensorSpec> specs_of(const std::vector<OutputTensor>& tensors) {
  std::vector<TensorSpec> specs;
  std::transform(tensors.begin(), tensors.end(), std::back_inserter(specs),
                 [](const OutputTensor& tensor) { return tensor.spec; });
  return specs;
}

/// A slice as f32: the master where there is one.
std::vector<float> read_values(tensor::Stream& stream, const OutputTensor& output) {
  const Parameter& parameter = *output.parameter;
  const Tensor& tensor = parameter.master.defined() ? parameter.master : parameter.value;
  auto ticket = stream.read_back(output.slice->of(tensor), tensor::ReadBackPurpose::kCheckpoint);
  if (tensor.dtype() == DType::kF32) {
    return ticket.values<float>();
  }
  std::vector<float> values(static_cast<std::size_t>(output.slice->shape.elements()));
  convert_elements(tensor_type_of(tensor.dtype()), ticket.bytes(), DType::kF32,
                   std::as_writable_bytes(std::span(values)));
  return values;
}

/// A tensor's bytes as they are in the files.
std::vector<std::byte> file_bytes(tensor::Stream& stream, const OutputTensor& output) {
  if (output.storage.format != WeightFormat::kPlain) {
    const std::vector<float> values = read_values(stream, output);
    WeightSource source{output.slice->name, shape_of(*output.slice), {}, output.kept};
    const std::int64_t columns = matrix_shape(source.shape).columns;
    source.rows = [&](std::int64_t first, std::int64_t count, std::span<float> rows) {
      std::copy_n(values.begin() + first * columns, count * columns, rows.begin());
    };
    std::vector<std::byte> bytes;
    write_part(source, output.storage, output.part,
               [&](std::span<const std::byte> piece) { bytes.insert(bytes.end(), piece.begin(), piece.end()); });
    return bytes;
  }
  auto ticket = stream.read_back(output.slice->of(output.parameter->value), tensor::ReadBackPurpose::kCheckpoint);
  if (output.parameter->spec.storage == autograd::ParameterStorage::kIndices) {
    const std::vector<std::int32_t> narrow = ticket.values<std::int32_t>();
    const std::vector<std::int64_t> wide(narrow.begin(), narrow.end());
    const auto bytes = std::as_bytes(std::span(wide));
    return {bytes.begin(), bytes.end()};
  }
  const auto bytes = ticket.bytes();
  return {bytes.begin(), bytes.end()};
}

/// Throws Error naming what of the directory is not as it was meant.
void compare(const ModelDirectory& written, const base::Json& config, const std::vector<OutputTensor>& tensors,
             tensor::Stream& stream) {
  base::require(written.config() == config, "config.json is not what was written");
  for (const OutputTensor& tensor : tensors) {
    const std::vector<std::byte> expected = file_bytes(stream, tensor);
    const auto found = written.bytes(tensor.spec.name);
    base::require(expected.size() == found.size() && std::memcmp(expected.data(), found.data(), found.size()) == 0,
                  "tensor {} is not what was written", tensor.spec.name);
  }
}

}  // namespace

std::uint64_t model_bytes(const models::LanguageModel& model, DType dtype, const ModelDirectory* like) {
  return safetensors_file_bytes(specs_of(output_tensors(model, dtype, like)), {});
}

void write_model(const std::filesystem::path& target, const base::Json& original, const models::LanguageModel& model,
                 tensor::Stream& stream, const ModelOutput& output) {
  const DType dtype = model.parameters()[model.output_weight()].value.dtype();
  const std::vector<OutputTensor> tensors = output_tensors(model, dtype, output.like);
  std::map<std::string_view, const OutputTensor*> by_name;
  for (const OutputTensor& tensor : tensors) {
    by_name[tensor.spec.name] = &tensor;
  }
  ModelDirectoryContents contents;
  contents.tensors = specs_of(tensors);
  sort_for_writing(contents.tensors);
  contents.write_tensor = [&](const TensorSpec& spec, const PieceWriter& write) {
    write(file_bytes(stream, *by_name.at(spec.name)));
  };
  contents.tokenizer_source = output.tokenizer_source;
  contents.extra_files = output.extra_files;
  base::Json config = original;
  set_storage(config, dtype == DType::kF32 ? TensorType::kF32 : TensorType::kBf16,
              output.like == nullptr ? base::Json::object() : output.like->config());
  contents.verify = [&](const std::filesystem::path& directory) {
    try {
      if (output.verify) {
        output.verify(directory);
      }
      compare(ModelDirectory::open(directory), config, tensors, stream);
    } catch (const base::Error& error) {
      base::fail(
          "{}: was not written, because it reads back differently: {}; do not trust this disk, or what else "
          "changes files on it",
          target.string(), error.what());
    }
  };
  require_disk_space(target, required_bytes(config, contents));
  write_model_directory(target, config, contents, true);
}

}  // namespace flyover::checkpoint
