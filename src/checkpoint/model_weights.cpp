#include "checkpoint/model_weights.h"

#include "base/error.h"
#include "base/random.h"
#include "checkpoint/weight_matching.h"

namespace flyover::checkpoint {
namespace {

using autograd::CheckpointSlice;
using autograd::Parameter;
using tensor::DType;
using tensor::Tensor;

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

/// The elements of one weight of the directory into the parameter's value and master.
void load_slice(tensor::Stream& stream, const MatchedSlice& match) {
  const Parameter& parameter = *match.parameter;
  const CheckpointSlice& slice = *match.slice;
  const StoredWeight& source = match.weight;
  if (parameter.spec.storage == autograd::ParameterStorage::kIndices) {
    const std::vector<std::int32_t> indices = read_indices(match);
    write_rows(stream, parameter.value, slice, std::as_bytes(std::span(indices)));
    return;
  }
  const std::int64_t stored_rows = source.elements->entry->shape.front();
  const std::int64_t row_elements = slice.shape.elements() / slice.shape[0];
  const bool narrow = parameter.value.dtype() == DType::kBf16;
  const bool direct = narrow && stored_rows == slice.shape[0] && source.format == WeightFormat::kPlain;
  if (direct) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(slice.shape.elements()) * sizeof(kernels::Bf16));
    read_elements(*source.elements, DType::kBf16, bytes);
    write_rows(stream, parameter.value, slice, bytes);
    if (!parameter.master.defined()) {
      return;
    }
  }
  std::vector<float> values(static_cast<std::size_t>(stored_rows * row_elements));
  read_rows(source, 0, matrix_shape(source.shape()).rows, values);
  append_mean_rows(values, row_elements, slice.shape[0] - stored_rows);
  if (parameter.master.defined()) {
    write_rows(stream, parameter.master, slice, std::as_bytes(std::span(values)));
  }
  if (!narrow) {
    write_rows(stream, parameter.value, slice, std::as_bytes(std::span(values)));
  } else if (!direct) {
    const std::vector<kernels::Bf16> rounded_values = rounded(values);
    write_rows(stream, parameter.value, slice, std::as_bytes(std::span(rounded_values)));
  }
}

}  // namespace

models::StoredNames stored_names(const ModelDirectory& directory) {
  return [&directory](std::string_view name) { return directory.find(name) != nullptr; };
}

void check_weights(const ModelDirectory& directory, const models::LanguageModel& model,
                   std::int64_t stored_vocabulary) {
  for (const MatchedSlice& match : match_weights(directory, model, stored_vocabulary)) {
    if (match.parameter->spec.storage != autograd::ParameterStorage::kIndices) {
      check_values(match.weight);
    }
  }
}

void load_weights(const ModelDirectory& directory, models::LanguageModel& model, tensor::Stream& stream, DType compute,
                  autograd::ParameterUse use, std::int64_t stored_vocabulary) {
  // All but the values is checked before memory is taken.
  const std::vector<MatchedSlice> matched = match_weights(directory, model, stored_vocabulary);
  model.parameters().allocate(stream, compute, use);
  for (const MatchedSlice& match : matched) {
    load_slice(stream, match);
  }
  model.parameters().round_values(stream);
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
  model.parameters().round_values(stream);
}

}  // namespace flyover::checkpoint
