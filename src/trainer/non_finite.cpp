#include "trainer/non_finite.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <numeric>
#include <string_view>
#include <utility>

#include <fmt/core.h>

namespace flyover::trainer {
namespace {

using autograd::Tape;
using tensor::DType;
using tensor::Stream;
using tensor::Tensor;

constexpr std::size_t kMostRowsNamed = 20;

/// A tensor and what messages call it.
struct NamedTensor {
  std::string name;
  Tensor tensor;
};

/// "NAME (element N)" of the first that is not finite.
std::optional<std::string> first_non_finite(Stream& stream, const std::vector<NamedTensor>& tensors) {
  const auto count = static_cast<std::int64_t>(tensors.size());
  const Tensor elements = stream.empty({count}, DType::kI64);
  for (std::int64_t i = 0; i < count; ++i) {
    const Tensor& tensor = tensors[static_cast<std::size_t>(i)].tensor;
    stream.launch(kernels::FindNonFinite{tensor.reshape({tensor.elements()}).view(), elements.rows(i, 1).view()});
  }
  const auto found = stream.read_back(elements, tensor::ReadBackPurpose::kNonFinite).values<std::int64_t>();
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i] >= 0) {
      return fmt::format("{} (element {})", tensors[i].name, found[i]);
    }
  }
  return std::nullopt;
}

/// Documents `begin` to `end` - 1 of a micro-batch.
nn::PackedTokens documents_of(const nn::PackedTokens& packed, std::size_t begin, std::size_t end) {
  const auto part = [](const auto& of, auto first, auto last) {
    const auto offset = [&](auto index) { return of.begin() + static_cast<std::ptrdiff_t>(index); };
    return std::vector(offset(first), offset(last));
  };
  nn::PackedTokens result;
  result.document_lengths = part(packed.document_lengths, begin, end);
  const auto lengths = packed.document_lengths.begin();
  const auto first = std::accumulate(lengths, lengths + static_cast<std::ptrdiff_t>(begin), std::int64_t{0});
  const auto last = std::accumulate(result.document_lengths.begin(), result.document_lengths.end(), first);
  result.tokens = part(packed.tokens, first, last);
  result.targets = part(packed.targets, first, last);
  result.weights = part(packed.weights, first, last);
  return result;
}

using IsFinite = std::function<bool(const nn::PackedTokens&)>;

/// Appends the documents of begin to end - 1, which are not finite together, that are not finite alone, by halving.
void narrow(const nn::PackedTokens& packed, std::size_t begin, std::size_t end, const IsFinite& is_finite,
            std::vector<std::size_t>& alone) {
  if (end - begin == 1) {
    alone.push_back(begin);
    return;
  }
  const std::size_t middle = begin + (end - begin) / 2;
  for (const auto& [first, last] : {std::pair(begin, middle), std::pair(middle, end)}) {
    if (!is_finite(documents_of(packed, first, last))) {
      narrow(packed, first, last, is_finite, alone);
    }
  }
}

/// The first output of a block, or of all of them, that is not finite. `further`: with the prediction of the token
/// after the next, which comes last in a step.
std::optional<std::string> find_non_finite_output(models::LanguageModel& model, Stream& stream,
                                                  const nn::PackedTokens& packed, bool further) {
  std::optional<std::string> found;
  const auto look = [&](std::string name, const Tensor& output) {
    if (!found) {
      found = first_non_finite(stream, {{std::move(name), output}});
    }
  };
  autograd::BlockHooks hooks;
  hooks.forward_output = [&](std::string_view block, const Tensor& output) {
    std::string name(block);
    std::replace(name.begin(), name.end(), '.', ' ');
    look("the output of " + name, output);
  };
  nn::TokenBatch batch = nn::upload(stream, packed);
  if (further) {
    batch.auxiliary.further = nn::further_targets(stream, packed, 1.0f);
  }
  Tape tape(stream, model.parameters(), {false, autograd::RecomputePolicy::kNone, &hooks});
  const models::TrainingStates states = model.training_states(tape, batch);
  look("the hidden states after the last norm", states.hidden.value);
  if (states.further.value.defined()) {
    look("the hidden states that predict the token after the next", states.further.value);
  }
  return found;
}

/// The first tensor of a pass over documents that give what is not finite.
std::optional<std::string> find_tensor(models::LanguageModel& model, Stream& stream, const nn::PackedTokens& packed,
                                       const StepOptions& options, NonFinitePass pass) {
  if (auto output = find_non_finite_output(model, stream, packed, false)) {
    return output;
  }
  if (!std::isfinite(evaluate_loss(model, stream, {packed}, options))) {
    return "the loss (the hidden states that it is computed from are finite)";
  }
  if (pass == NonFinitePass::kValidation) {
    return std::nullopt;
  }
  if (options.auxiliary.further_weight > 0) {
    if (auto output = find_non_finite_output(model, stream, packed, true)) {
      return output;
    }
  }
  compute_gradients(model, stream, {packed}, options);
  return find_non_finite_gradient(model, stream);
}

}  // namespace

std::optional<std::string> find_non_finite_weight(const models::LanguageModel& model, Stream& stream) {
  std::vector<NamedTensor> weights;
  for (const autograd::Parameter& parameter : model.parameters().all()) {
    if (parameter.spec.storage == autograd::ParameterStorage::kIndices) {
      continue;
    }
    for (const Tensor& tensor : {parameter.value, parameter.master}) {
      if (tensor.defined()) {
        weights.push_back({"parameter " + parameter.spec.name, tensor});
      }
    }
  }
  return first_non_finite(stream, weights);
}

std::optional<std::string> find_non_finite_gradient(const models::LanguageModel& model, Stream& stream) {
  std::vector<NamedTensor> gradients;
  for (const autograd::Parameter& parameter : model.parameters().all()) {
    if (parameter.gradient.defined()) {
      gradients.push_back({"the gradient of " + parameter.spec.name, parameter.gradient});
    }
  }
  std::reverse(gradients.begin(), gradients.end());  // parameters are in the order of the forward pass
  return first_non_finite(stream, gradients);
}

NonFiniteCause find_non_finite_cause(models::LanguageModel& model, Stream& stream,
                                     const std::vector<nn::PackedTokens>& micro_batches, const StepOptions& options,
                                     NonFinitePass pass) {
  const IsFinite is_loss_finite = [&](const nn::PackedTokens& packed) {
    return std::isfinite(evaluate_loss(model, stream, {packed}, options));
  };
  const IsFinite are_gradients_finite = [&](const nn::PackedTokens& packed) {
    return compute_gradients(model, stream, {packed}, options).finite();
  };
  if (auto weight = find_non_finite_weight(model, stream)) {
    std::size_t documents = 0;
    for (const nn::PackedTokens& packed : micro_batches) {
      documents += packed.document_lengths.size();
    }
    NonFiniteCause cause{std::move(*weight), std::vector<std::size_t>(documents), DocumentShare::kNone};
    std::iota(cause.documents.begin(), cause.documents.end(), std::size_t{0});
    return cause;
  }
  std::vector<std::size_t> alone, together, all;
  std::optional<nn::PackedTokens> single, whole;  // what the tensor is looked for in
  for (const nn::PackedTokens& packed : micro_batches) {
    const std::size_t first = all.size(), count = packed.document_lengths.size();
    std::vector<std::size_t> members(count);
    std::iota(members.begin(), members.end(), first);
    all.insert(all.end(), members.begin(), members.end());
    // A loss is all that most cases need, and much cheaper than gradients.
    const bool by_loss = pass == NonFinitePass::kValidation || !is_loss_finite(packed);
    const IsFinite& is_finite = by_loss ? is_loss_finite : are_gradients_finite;
    if (is_finite(packed)) {
      continue;
    }
    std::vector<std::size_t> found;
    narrow(packed, 0, count, is_finite, found);
    if (found.empty()) {
      together.insert(together.end(), members.begin(), members.end());
      whole = whole ? whole : packed;
      continue;
    }
    single = single ? single : documents_of(packed, found.front(), found.front() + 1);
    std::transform(found.begin(), found.end(), std::back_inserter(alone),
                   [&](std::size_t document) { return first + document; });
  }
  NonFiniteCause cause;
  cause.share = alone.empty() ? DocumentShare::kTogether : DocumentShare::kAlone;
  cause.documents = !alone.empty() ? alone : !together.empty() ? together : all;
  const std::optional<nn::PackedTokens>& packed = single ? single : whole;
  const auto tensor = packed ? find_tensor(model, stream, *packed, options, pass) : std::nullopt;
  cause.tensor = tensor.value_or("only the sum of the losses or norms");
  return cause;
}

std::string describe_rows(const NonFiniteCause& cause, const data::Dataset& dataset,
                          std::span<const std::uint32_t> sequences) {
  std::string text;
  switch (cause.share) {
    case DocumentShare::kAlone:
      text = fmt::format("rows that give it alone ({} of {}): ", cause.documents.size(), sequences.size());
      break;
    case DocumentShare::kTogether:
      text = "no row gives it alone, but these together: ";
      break;
    case DocumentShare::kNone:
      text = "its rows are not the cause: ";
      break;
  }
  for (std::size_t i = 0; i < std::min(cause.documents.size(), kMostRowsNamed); ++i) {
    const data::Sequence& sequence = dataset.sequences[sequences[cause.documents[i]]];
    text += fmt::format("{}{}:{}", i == 0 ? "" : ", ", dataset.source_names[static_cast<std::size_t>(sequence.source)],
                        sequence.row);
  }
  if (cause.documents.size() > kMostRowsNamed) {
    text += fmt::format(" and {} more", cause.documents.size() - kMostRowsNamed);
  }
  return text;
}

}  // namespace flyover::trainer
