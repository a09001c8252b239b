#include "ops/loss.h"

#include <algorithm>
#include <utility>

namespace flyover::ops {
namespace {

using autograd::BackwardPass;
using autograd::ParameterId;
using autograd::Tape;
using autograd::Tensor;
using autograd::Variable;
using kernels::statistics_dtype;
using tensor::DType;

class CrossEntropyLoss final : public autograd::Operation {
 public:
  explicit CrossEntropyLoss(Tensor hidden_gradient) : hidden_gradient_(std::move(hidden_gradient)) {}
  std::string_view name() const override { return "linear_cross_entropy"; }
  bool has_own_seed() const override { return true; }
  void backward_inputs(BackwardPass& pass) override {
    if (pass.needs(0)) {
      pass.pass_input_gradient(0, std::exchange(hidden_gradient_, {}));
    }
  }

 private:
  Tensor hidden_gradient_;
};

/// The rows of `hidden` that have targets.
Tensor select(tensor::Stream& stream, const Tensor& hidden, const LossTargets& targets) {
  if (!targets.rows.defined()) {
    return hidden;
  }
  Tensor selected = stream.empty({targets.rows.size(0), hidden.size(1)}, hidden.dtype());
  stream.launch(kernels::GatherRows{hidden.view(), targets.rows.view(), selected.view()});
  return selected;
}

}  // namespace

LinearCrossEntropy linear_cross_entropy(Tape& tape, const Variable& hidden, ParameterId weight,
                                        const LossTargets& targets, const Tensor& total, std::int64_t chunk_rows) {
  const tensor::PartScope scope(tape.stream(), tensor::Part::kOutput);
  tensor::Stream& stream = tape.stream();
  const autograd::Parameter& parameter = tape.parameters()[weight];
  const Tensor& w = parameter.value;
  const DType compute = hidden.value.dtype();
  const DType exact = statistics_dtype(compute);
  const Tensor selected = select(stream, hidden.value, targets);
  const std::int64_t count = selected.size(0);
  const bool differentiate = tape.recording();

  LinearCrossEntropy result;
  result.log_probabilities = stream.empty({count}, exact);
  Tensor selected_gradient = differentiate ? stream.empty(selected.shape(), compute) : Tensor();
  for (std::int64_t begin = 0; begin < count; begin += chunk_rows) {
    const std::int64_t rows = std::min(chunk_rows, count - begin);
    const Tensor chunk = selected.rows(begin, rows);
    const Tensor chunk_logits = stream.empty({rows, w.size(0)}, exact);
    stream.launch(kernels::MatMul{chunk.view(), w.view(), chunk_logits.view()});
    const Tensor tokens = targets.tokens.rows(begin, rows);
    const Tensor log_probability = result.log_probabilities.rows(begin, rows);
    if (!differentiate) {
      stream.launch(kernels::LogProbability{chunk_logits.view(), tokens.view(), log_probability.view()});
      continue;
    }
    const Tensor dlogits = compute == exact ? chunk_logits : stream.empty(chunk_logits.shape(), compute);
    stream.launch(kernels::CrossEntropy{chunk_logits.view(), tokens.view(), targets.weights.rows(begin, rows).view(),
                                        log_probability.view(), dlogits.view()});
    stream.launch(kernels::MatMul{dlogits.view(), kernels::transpose(w.const_view()),
                                  selected_gradient.rows(begin, rows).view()});
    if (parameter.gradient.defined()) {
      stream.launch(kernels::MatMul{kernels::transpose(dlogits.const_view()), kernels::transpose(chunk.const_view()),
                                    parameter.gradient.view(), true});
    }
  }
  stream.launch(kernels::WeightedSum{result.log_probabilities.view(), targets.weights.view(), total.view(), -1.0f});

  Tensor gradient = selected_gradient;
  if (differentiate && targets.rows.defined()) {
    gradient = stream.zeros(hidden.value.shape(), compute);
    stream.launch(kernels::ScatterRows{selected_gradient.view(), targets.rows.view(), gradient.view()});
  }
  result.loss = tape.record(std::make_unique<CrossEntropyLoss>(std::move(gradient)), total, {hidden});
  return result;
}

Tensor log_probabilities(Tape& tape, const Tensor& hidden, ParameterId weight, const LossTargets& targets,
                         float temperature, std::int64_t chunk_rows) {
  const tensor::PartScope scope(tape.stream(), tensor::Part::kOutput);
  tensor::Stream& stream = tape.stream();
  const Tensor selected = select(stream, hidden, targets);
  const std::int64_t count = selected.size(0);
  Tensor result = stream.empty({count}, statistics_dtype(hidden.dtype()));
  for (std::int64_t begin = 0; begin < count; begin += chunk_rows) {
    const std::int64_t rows = std::min(chunk_rows, count - begin);
    const Tensor chunk = logits(tape, selected.rows(begin, rows), weight);
    stream.launch(kernels::LogProbability{chunk.view(), targets.tokens.rows(begin, rows).view(),
                                          result.rows(begin, rows).view(), temperature});
  }
  return result;
}

Tensor logits(Tape& tape, const Tensor& hidden, ParameterId weight) {
  const tensor::PartScope scope(tape.stream(), tensor::Part::kOutput);
  const Tensor& w = tape.value_of(weight);
  Tensor result = tape.stream().empty({hidden.size(0), w.size(0)}, statistics_dtype(hidden.dtype()));
  tape.stream().launch(kernels::MatMul{hidden.view(), w.view(), result.view()});
  return result;
}

}  // namespace flyover::ops
