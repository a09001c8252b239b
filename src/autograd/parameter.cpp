#include "autograd/parameter.h"

#include <utility>

#include "base/error.h"

namespace flyover::autograd {

using tensor::MemoryKind;

ParameterId ParameterSet::add(ParameterSpec spec) {
  std::int64_t rows = 0;
  for (const CheckpointSlice& slice : spec.slices) {
    base::check(slice.first_row == rows, "parameter {}: slice {} starts at row {}, expected {}", spec.name, slice.name,
                slice.first_row, rows);
    base::check(slice.shape.rank() == spec.shape.rank(), "parameter {}: slice {} has shape {}", spec.name, slice.name,
                kernels::to_string(slice.shape));
    rows += slice.shape[0];
  }
  base::check(rows == spec.shape[0], "parameter {}: its slices have {} rows of {}", spec.name, rows, spec.shape[0]);
  base::check(names_.insert(spec.name).second, "two parameters are called {}", spec.name);
  parameters_.push_back({std::move(spec), {}, {}, {}, true});
  return static_cast<ParameterId>(parameters_.size() - 1);
}

std::int64_t ParameterSet::elements() const {
  std::int64_t total = 0;
  for (const Parameter& parameter : parameters_) {
    total += parameter.spec.shape.elements();
  }
  return total;
}

void ParameterSet::allocate(tensor::Stream& stream, DType compute, ParameterUse use) {
  const DType exact = kernels::statistics_dtype(compute);
  for (Parameter& parameter : parameters_) {
    parameter.value = stream.empty(parameter.spec.shape, compute, MemoryKind::kWeights);
    if (use == ParameterUse::kInference || !parameter.trainable) {
      continue;
    }
    parameter.master =
        compute == exact ? parameter.value : stream.empty(parameter.spec.shape, exact, MemoryKind::kWeights);
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
