#include "checkpoint/weight_matching.h"

#include <algorithm>
#include <cstring>

#include <fmt/core.h>

#include "base/error.h"
#include "checkpoint/json_events.h"
#include "checkpoint/tensor_consumer.h"

namespace flyover::checkpoint {
namespace {

using autograd::CheckpointSlice;
using autograd::Parameter;

constexpr std::string_view kOutputName = "lm_head.weight";
constexpr std::string_view kEmbeddingName = "model.embed_tokens.weight";

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

bool same_elements(const ModelTensor& a, const ModelTensor& b) {
  const std::span<const std::byte> first = bytes_of(a), second = bytes_of(b);
  const bool same = a.entry->dtype == b.entry->dtype && first.size() == second.size() &&
                    std::memcmp(first.data(), second.data(), first.size()) == 0;
  release(a);
  release(b);
  return same;
}

bool repeats_embedding(const ModelDirectory& directory) {
  const ModelTensor* output = directory.find(kOutputName);
  const ModelTensor* embedding = directory.find(kEmbeddingName);
  return output != nullptr && embedding != nullptr && same_elements(*output, *embedding);
}

/// The tensor that the one of this name should repeat, or null.
const ModelTensor* find_original(const ModelDirectory& directory, const models::LanguageModel& model,
                                 std::string_view name) {
  const std::string original = copied_name(model, name);
  return original.empty() ? nullptr : directory.find(original);
}

}  // namespace

std::vector<std::int64_t> shape_of(const autograd::CheckpointSlice& slice) {
  const auto sizes = slice.shape.values();
  return {sizes.begin(), sizes.end()};
}

std::vector<MatchedSlice> match_tensors(const ModelDirectory& directory, const models::LanguageModel& model,
                                        std::int64_t stored_vocabulary) {
  TensorConsumer consumer(directory);
  std::vector<MatchedSlice> matched;
  for (const Parameter& parameter : model.parameters().all()) {
    for (const CheckpointSlice& slice : parameter.spec.slices) {
      const auto shape = stored_shape(parameter, slice, stored_vocabulary);
      const auto contents = parameter.spec.storage == autograd::ParameterStorage::kIndices ? WeightContents::kIndices
                                                                                           : WeightContents::kNumbers;
      if (const auto weight = consumer.consume(slice.name, shape, contents)) {
        matched.push_back({&parameter, &slice, *weight});
      }
    }
  }
  consumer.finish([&](std::string_view name) {
    return name.ends_with("rotary_emb.inv_freq") || (name == kOutputName && repeats_embedding(directory)) ||
           find_original(directory, model, name) != nullptr;
  });
  return matched;
}

void check_contents(const ModelDirectory& directory, const models::LanguageModel& model,
                    std::span<const MatchedSlice> matched) {
  for (const ModelTensor& tensor : directory.tensors()) {
    const ModelTensor* const original = find_original(directory, model, tensor.entry->name);
    base::require(
        original == nullptr || same_elements(tensor, *original),
        "{}: the tensor \"{}\" must repeat \"{}\", but its bytes differ: a prediction block with an embedding or "
        "output layer of its own is not supported",
        directory.path().string(), tensor.entry->name, original == nullptr ? "" : original->entry->name);
  }
  for (const MatchedSlice& match : matched) {
    check_scales(match.weight);
    if (match.parameter->spec.storage == autograd::ParameterStorage::kIndices) {
      read_indices(match);
    }
  }
}

std::vector<MatchedSlice> match_weights(const ModelDirectory& directory, const models::LanguageModel& model,
                                        std::int64_t stored_vocabulary) {
  std::vector<MatchedSlice> matched = match_tensors(directory, model, stored_vocabulary);
  check_contents(directory, model, matched);
  return matched;
}

namespace {

/// Whether a row of a table names an index twice.
bool has_repetition(std::span<const std::int32_t> row) {
  std::vector<std::int32_t> sorted(row.begin(), row.end());
  std::sort(sorted.begin(), sorted.end());
  return std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end();
}

}  // namespace

std::vector<std::int32_t> read_indices(const MatchedSlice& match) {
  const CheckpointSlice& slice = *match.slice;
  const ModelTensor& tensor = *match.weight.elements;
  const std::span<const std::byte> bytes = bytes_of(tensor);
  const TensorType type = tensor.entry->dtype;
  const bool wide = type == TensorType::kI64;
  base::check(wide || type == TensorType::kI32, "{}: indices of type {}", slice.name, name_of(type));
  const std::int64_t limit = match.parameter->spec.index_limit;
  const auto width = static_cast<std::size_t>(slice.shape[1]);
  const std::size_t stored = bytes.size() / size_of(type);
  base::check(stored > 0 && stored <= static_cast<std::size_t>(slice.shape.elements()), "{}: {} stored indices",
              slice.name, stored);
  std::vector<std::int32_t> result(static_cast<std::size_t>(slice.shape.elements()));
  const auto fail = [&](const std::string& found) {
    base::fail(
        "{}: the tensor {}: {}; whoever wrote this file did not fill or keep the table, take it from the original "
        "checkpoint",
        tensor.file->path().string(), quote(slice.name), found);
  };
  for (std::size_t i = 0; i < stored; ++i) {
    std::int64_t value = 0;
    if (wide) {
      std::memcpy(&value, bytes.data() + i * sizeof(value), sizeof(value));
    } else {
      std::int32_t narrow = 0;
      std::memcpy(&narrow, bytes.data() + i * sizeof(narrow), sizeof(narrow));
      value = narrow;
    }
    if (value < 0 || value >= limit) {
      fail(fmt::format("the row of token {} names the expert {}, expected 0 to {}", i / width, value, limit - 1));
    }
    result[i] = static_cast<std::int32_t>(value);
  }
  // Single rows may name an expert twice: nothing says that published tables have no such row, for tokens that no text
  // has. In a table that was never filled every row does.
  bool filled = false;
  for (std::size_t row = 0; row < stored && !filled; row += width) {
    filled = !has_repetition(std::span(result).subspan(row, std::min(width, stored - row)));
  }
  if (!filled) {
    fail(fmt::format("every row names an expert twice, expected {} different ones", width));
  }
  for (std::size_t i = stored; i < result.size(); ++i) {
    result[i] = result[i - stored];
  }
  return result;
}

std::string copied_name(const models::LanguageModel& model, std::string_view name) {
  constexpr std::string_view kPrefix = "model.";
  name.remove_prefix(name.starts_with(kPrefix) ? kPrefix.size() : 0);
  const std::string block = fmt::format("layers.{}.", model.summary().layers);
  const bool embedding = name == "mtp.0.emb.tok_emb.weight" || name == block + "embed_tokens.weight";
  if (!embedding && name != "mtp.0.head.weight" && name != block + "shared_head.head.weight") {
    return {};
  }
  const auto role = embedding ? autograd::ParameterRole::kEmbedding : autograd::ParameterRole::kOutput;
  for (const Parameter& parameter : model.parameters().all()) {
    if (parameter.spec.role == role && parameter.spec.storage == autograd::ParameterStorage::kCompute) {
      return parameter.spec.slices.front().name;
    }
  }
  return {};
}

}  // namespace flyover::checkpoint
