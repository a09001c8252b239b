#include "optim/optimizer.h"

#include <cmath>
#include <utility>

#include "base/error.h"

namespace flyover::optim {

using autograd::Parameter;
using tensor::Tensor;

namespace {

/// A step takes at most 1 - beta2 of a second moment away; less than half the distance of neighbours in bf16, 2^-8 of
/// it, is rounded back.
constexpr double kLargestBf16Beta2 = 0.995;

Tensor flat(const Tensor& tensor) {
  return tensor.reshape({tensor.elements()});
}

}  // namespace

tensor::DType state_dtype(StateStorage storage, const Parameter& parameter) {
  return storage == StateStorage::kBf16 ? tensor::DType::kBf16 : parameter.master.dtype();
}

AdamWOptimizer::AdamWOptimizer(tensor::Stream& stream, autograd::ParameterSet& parameters,
                               std::vector<ParameterSettings> settings, const Options& options,
                               const Selection& selected)
    : stream_(stream), parameters_(parameters), settings_(std::move(settings)), options_(options) {
  base::check(settings_.size() == parameters_.all().size(), "{} settings for {} parameters", settings_.size(),
              parameters_.all().size());
  base::require(
      options_.state != StateStorage::kBf16 || options_.beta2 <= kLargestBf16Beta2,
      "AdamW: beta2 is {}, but second moments kept in bf16 cannot fall with a beta2 above {}: choose a smaller "
      "beta2 or keep the optimizer's state in f32",
      options_.beta2, kLargestBf16Beta2);
  for (std::size_t i = 0; i < settings_.size(); ++i) {
    const Parameter& parameter = parameters_.all()[i];
    Moments moments;
    if (parameter.gradient.defined() && (!selected || selected(parameter, settings_[i]))) {
      const auto dtype = state_dtype(options_.state, parameter);
      moments.first = stream_.zeros(parameter.spec.shape, dtype, tensor::MemoryKind::kOptimizer);
      moments.second = stream_.zeros(parameter.spec.shape, dtype, tensor::MemoryKind::kOptimizer);
    }
    moments_.push_back(std::move(moments));
  }
}

void AdamWOptimizer::step(std::int64_t step, double factor, const Tensor& gradient_scale) {
  const tensor::PartScope scope(stream_, tensor::Part::kOptimizer);
  const auto correction1 = static_cast<float>(1.0 - std::pow(options_.beta1, static_cast<double>(step)));
  const auto correction2 = static_cast<float>(1.0 - std::pow(options_.beta2, static_cast<double>(step)));
  for (std::size_t i = 0; i < moments_.size(); ++i) {
    const Parameter& parameter = parameters_.all()[i];
    if (!moments_[i].first.defined()) {
      continue;
    }
    kernels::AdamW update;
    update.gradient = flat(parameter.gradient).view();
    update.gradient_scale = gradient_scale.view();
    update.weight = flat(parameter.master).view();
    update.first_moment = flat(moments_[i].first).view();
    update.second_moment = flat(moments_[i].second).view();
    if (parameter.value.dtype() != parameter.master.dtype() && !parameter.rounds_to_fp4) {
      update.parameter = flat(parameter.value).view();
    }
    update.learning_rate = static_cast<float>(settings_[i].learning_rate * factor);
    update.beta1 = static_cast<float>(options_.beta1);
    update.beta2 = static_cast<float>(options_.beta2);
    update.epsilon = static_cast<float>(options_.epsilon);
    update.weight_decay = static_cast<float>(settings_[i].weight_decay);
    update.correction1 = correction1;
    update.correction2 = correction2;
    stream_.launch(update);
    autograd::round_value(stream_, parameter);
  }
}

std::vector<StateTensor> AdamWOptimizer::state() const {
  std::vector<StateTensor> result;
  for (std::size_t i = 0; i < moments_.size(); ++i) {
    if (moments_[i].first.defined()) {
      const std::string& name = parameters_.all()[i].spec.name;
      result.push_back({"first_moment/" + name, moments_[i].first});
      result.push_back({"second_moment/" + name, moments_[i].second});
    }
  }
  return result;
}

ClippedNorm clip_gradients(tensor::Stream& stream, const autograd::ParameterSet& parameters, double max_norm) {
  std::vector<const Parameter*> trained;
  for (const Parameter& parameter : parameters.all()) {
    if (parameter.gradient.defined()) {
      trained.push_back(&parameter);
    }
  }
  base::check(!trained.empty(), "every parameter is frozen");
  const auto dtype = trained.front()->gradient.dtype();
  const Tensor sums = stream.empty({static_cast<std::int64_t>(trained.size())}, dtype);
  for (std::size_t i = 0; i < trained.size(); ++i) {
    stream.launch(
        kernels::SumOfSquares{flat(trained[i]->gradient).view(), sums.rows(static_cast<std::int64_t>(i), 1).view()});
  }
  ClippedNorm result{stream.empty({1}, dtype), stream.empty({1}, dtype)};
  stream.launch(kernels::ClipCoefficient{sums.view(), result.norm.view(), result.coefficient.view(),
                                         static_cast<float>(max_norm)});
  return result;
}

}  // namespace flyover::optim
