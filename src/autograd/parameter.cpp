#include "autograd/parameter.h"

#include <utility>

#include "base/error.h"

namespace flyover::autograd {

using tensor::MemoryKind;

void round_value(tensor::Stream& stream, const Parameter& parameter) {
  if (!parameter.rounds_to_fp4) {
    return;
  }
  const auto rows = [](const Tensor& tensor) {
    const std::int64_t width = tensor.size(tensor.shape().rank() - 1);
    return tensor.reshape({width == 0 ? 0 : tensor.elements() / width, width});
  };
  const Tensor& source = parameter.master.defined() ? parameter.master : parameter.value;
  stream.launch(kernels::RoundToFp4{rows(source).view(), rows(parameter.value).view()});
}

ParameterId ParameterSet::add(ParameterSpec spec) {
  std::int64_t elements = 0;
  for (const CheckpointSlice& slice : spec.slices) {
    base::check(slice.first_element == elements, "parameter {}: slice {} starts at element {}, expected {}", spec.name,
                slice.name, slice.first_element, elements);
    elements += slice.shape.elements();
  }
  base::check(elements == spec.shape.elements(), "parameter {}: its slices have {} elements of {}", spec.name, elements,
              spec.shape.elements());
  base::check(names_.insert(spec.name).second, "two parameters are called {}", spec.name);
  const bool trainable = spec.has_gradient();
  parameters_.push_back({std::move(spec), {}, {}, {}, trainable, false});
  return static_cast<ParameterId>(parameters_.size() - 1);
}

std::int64_t ParameterSet::elements() const {
  std::int64_t total = 0;
  for (const Parameter& parameter : parameters_) {
    total += parameter.spec.storage == ParameterStorage::kIndices ? 0 : parameter.spec.shape.elements();
  }
  return total;
}

void ParameterSet::allocate(tensor::Stream& stream, DType compute, ParameterUse use) {
  const DType exact = kernels::statistics_dtype(compute);
  for (Parameter& parameter : parameters_) {
    const ParameterStorage storage = parameter.spec.storage;
    const bool balance = parameter.spec.role == ParameterRole::kBalance;
    const DType type = storage == ParameterStorage::kIndices ? DType::kI32
                       : balance                             ? DType::kF32
                       : storage == ParameterStorage::kExact ? exact
                                                             : compute;
    parameter.value = stream.empty(parameter.spec.shape, type, MemoryKind::kWeights);
    if (use == ParameterUse::kInference || !parameter.trainable) {
      continue;
    }
    parameter.master = type == exact && !parameter.rounds_to_fp4
                           ? parameter.value
                           : stream.empty(parameter.spec.shape, exact, MemoryKind::kWeights);
    parameter.gradient = stream.zeros(parameter.spec.shape, exact, MemoryKind::kGradients);
  }
}

void ParameterSet::round_values(tensor::Stream& stream) const {
  for (const Parameter& parameter : parameters_) {
    round_value(stream, parameter);
  }
}

void ParameterSet::zero_gradients(tensor::Stream& stream) {
  for (Parameter& parameter : parameters_) {
    if (parameter.gradient.defined()) {
      stream.launch(kernels::Fill{parameter.gradient.reshape({parameter.gradient.elements()}).view(), 0.0});
    }
  }
}

}  // namespace flyover::autograd
