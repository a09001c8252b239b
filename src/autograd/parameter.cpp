#include "autograd/parameter.h"

#include <utility>

#include "base/error.h"

namespace flyover::autograd {

using tensor::MemoryKind;

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
  parameters_.push_back({std::move(spec), {}, {}, {}, trainable});
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
    parameter.master =
        type == exact ? parameter.value : stream.empty(parameter.spec.shape, exact, MemoryKind::kWeights);
    parameter.gradient = stream.zeros(parameter.spec.shape, exact, MemoryKind::kGradients);
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
