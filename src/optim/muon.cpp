#include "optim/muon.h"

#include <cmath>
#include <utility>

namespace flyover::optim {

using autograd::Parameter;
using autograd::ParameterRole;
using kernels::View;
using tensor::MemoryKind;
using tensor::Tensor;

namespace {

bool is_matrix(const Parameter& parameter, const ParameterSettings& settings) {
  return settings.as_matrix.value_or(parameter.spec.role == ParameterRole::kMatrix);
}

/// A stack [matrices, rows, columns] as [matrices, rows * columns].
View as_rows(const Tensor& stack) {
  View view = stack.view();
  const std::int64_t elements = view.size(1) * view.size(2);
  view.shape = {view.size(0), elements};
  view.strides = {view.stride(0), 1};
  return view;
}

/// Matrices of a batch, which are stored lying, as the parameter has them.
View standing(const Tensor& lying, const MatrixStack& stack) {
  View view = lying.view();
  if (stack.is_tall()) {
    std::swap(view.shape[1], view.shape[2]);
    std::swap(view.strides[1], view.strides[2]);
  }
  return view;
}

}  // namespace

MuonOptimizer::MuonOptimizer(tensor::Stream& stream, autograd::ParameterSet& parameters,
                             std::vector<ParameterSettings> settings, const Options& options)
    : stream_(stream),
      parameters_(parameters),
      settings_(std::move(settings)),
      options_(options),
      adamw_(stream, parameters, settings_, options_.adamw,
             [](const Parameter& one, const ParameterSettings& its) { return !is_matrix(one, its); }) {
  std::vector<TypedStack> stacks;
  for (std::size_t i = 0; i < parameters_.all().size(); ++i) {
    const Parameter& parameter = parameters_.all()[i];
    Tensor momentum;
    if (is_matrix(parameter, settings_[i]) && parameter.gradient.defined()) {
      momentum = stream_.zeros(parameter.spec.shape, state_dtype(options_.state, parameter), MemoryKind::kOptimizer);
      for (const MatrixStack& stack : matrix_stacks(parameter.spec, i)) {
        stacks.push_back({stack, parameter.value.dtype()});
      }
    }
    momenta_.push_back(std::move(momentum));
  }
  batches_ = batch_matrices(stacks, options_.temporary_bytes);
  for (const MatrixBatch& batch : batches_) {
    Tensor& offsets = offsets_[batch.rows];
    if (!offsets.defined() || offsets.size(0) <= batch.matrices) {
      offsets = matrix_offsets(stream_, batch.matrices, batch.rows);
    }
  }
}

void MuonOptimizer::step(std::int64_t step, double factor, const Tensor& gradient_scale) {
  const tensor::PartScope scope(stream_, tensor::Part::kOptimizer);
  for (const MatrixBatch& batch : batches_) {
    step_batch(batch, factor, gradient_scale);
  }
  for (std::size_t i = 0; i < momenta_.size(); ++i) {  // a parameter's matrices may be in several batches
    if (momenta_[i].defined()) {
      autograd::round_value(stream_, parameters_.all()[i]);
    }
  }
  adamw_.step(step, factor, gradient_scale);
}

void MuonOptimizer::step_batch(const MatrixBatch& batch, double factor, const Tensor& gradient_scale) {
  const tensor::Dims shape{batch.matrices, batch.rows, batch.columns};
  MatrixPair pair{stream_.empty(shape, batch.dtype, MemoryKind::kWorkspace),
                  stream_.empty(shape, batch.dtype, MemoryKind::kWorkspace)};
  std::int64_t done = 0;
  for (const auto& [stack, first, count] : batch.ranges) {
    const Parameter& parameter = parameters_.all()[stack.parameter];
    const Tensor direction = pair.spare.rows(done, count).reshape({count, stack.rows, stack.columns});
    stream_.launch(kernels::MuonMomentum{as_rows(stack.of(parameter.gradient, first, count)), gradient_scale.view(),
                                         as_rows(stack.of(momenta_[stack.parameter], first, count)), as_rows(direction),
                                         static_cast<float>(options_.momentum)});
    stream_.launch(kernels::NormaliseMatrices{direction.view(), standing(pair.value.rows(done, count), stack)});
    done += count;
  }
  pair = newton_schulz(stream_, std::move(pair), offsets_.at(batch.rows), options_.newton_schulz);
  done = 0;
  for (const auto& [stack, first, count] : batch.ranges) {
    const Parameter& parameter = parameters_.all()[stack.parameter];
    kernels::MuonUpdate update;
    update.direction = standing(pair.value.rows(done, count), stack);
    update.weight = stack.of(parameter.master, first, count).view();
    if (parameter.value.dtype() != parameter.master.dtype() && !parameter.rounds_to_fp4) {
      update.parameter = stack.of(parameter.value, first, count).view();
    }
    update.learning_rate = static_cast<float>(settings_[stack.parameter].learning_rate * factor);
    update.weight_decay = static_cast<float>(settings_[stack.parameter].weight_decay);
    update.scale = static_cast<float>(std::sqrt(static_cast<double>(batch.columns)) * options_.update_rms);
    stream_.launch(update);
    done += count;
  }
}

std::vector<StateTensor> MuonOptimizer::state() const {
  std::vector<StateTensor> result;
  for (std::size_t i = 0; i < momenta_.size(); ++i) {
    if (momenta_[i].defined()) {
      result.push_back({"momentum/" + parameters_.all()[i].spec.name, momenta_[i]});
    }
  }
  for (StateTensor& moment : adamw_.state()) {
    result.push_back(std::move(moment));
  }
  return result;
}

}  // namespace flyover::optim
