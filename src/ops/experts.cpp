#include "ops/experts.h"

#include <optional>
#include <utility>

namespace flyover::ops {
namespace {

using autograd::BackwardPass;
using autograd::ParameterId;
using autograd::Saved;
using autograd::Tape;
using autograd::Tensor;
using autograd::Variable;
using tensor::DType;

class Route final : public autograd::Operation {
 public:
  Route(Saved logits, Tensor experts, const kernels::RouterRule& rule, BalanceLoss balance)
      : logits_(std::move(logits)), experts_(std::move(experts)), rule_(rule), balance_(std::move(balance)) {}
  std::string_view name() const override { return "route"; }

  void backward_inputs(BackwardPass& pass) override {
    if (!pass.needs(0)) {
      return;
    }
    const Tensor logits = pass.get(logits_);
    pass.write_input_gradient(0, [&](const Tensor& dlogits) {
      pass.stream().launch(kernels::RouterBackward{logits.view(), experts_.view(), pass.output_gradient().view(),
                                                   dlogits.view(), rule_});
      if (balance_.coefficient > 0.0f) {
        pass.stream().launch(kernels::RouterBalance{logits.view(), experts_.view(), balance_.sequences.view(),
                                                    balance_.document_weights.view(), balance_.total.view(),
                                                    dlogits.view(), rule_.score, balance_.coefficient});
      }
    });
  }

 private:
  Saved logits_;
  Tensor experts_;
  kernels::RouterRule rule_;
  BalanceLoss balance_;
};

class DispatchWeights final : public autograd::Operation {
 public:
  explicit DispatchWeights(ExpertOrder order) : order_(std::move(order)) {}
  std::string_view name() const override { return "dispatch_weights"; }
  void backward_inputs(BackwardPass& pass) override {
    if (pass.needs(0)) {
      const std::int64_t rows = order_.pair_of_row.size(0);
      pass.write_input_gradient(0, [&](const Tensor& gradient) {
        pass.stream().launch(kernels::ScatterRows{pass.output_gradient().reshape({rows, 1}).view(),
                                                  order_.pair_of_row.view(), gradient.reshape({rows, 1}).view()});
      });
    }
  }

 private:
  ExpertOrder order_;
};

/// A product of each pair with its expert's matrix. The rows of tokens are read by number: those of the input where
/// pairs begin, those of the output's gradient where their results are added up.
class ExpertLinear : public autograd::Operation {
 public:
  ExpertLinear(Saved x, ParameterId weight, ExpertOrder order)
      : x_(std::move(x)), weight_(weight), order_(std::move(order)) {}

 protected:
  const ExpertOrder& order() const { return order_; }

  /// The matrices of the experts, each transposed: [experts, in, out].
  kernels::ConstView transposed_weight(BackwardPass& pass) const {
    kernels::ConstView view = pass.parameter(weight_).value.const_view();
    std::swap(view.shape[1], view.shape[2]);
    std::swap(view.strides[1], view.strides[2]);
    return view;
  }

  // dW += dy' x
  void add_weight_gradient(BackwardPass& pass, std::optional<kernels::ConstView> dy_rows,
                           std::optional<kernels::ConstView> x_rows) {
    if (const Tensor& gradient = pass.parameter(weight_).gradient; gradient.defined()) {
      const Tensor x = pass.get(x_);
      pass.stream().launch(kernels::GroupedWeightGradient{pass.output_gradient().view(), x.view(),
                                                          order_.offsets.view(), gradient.view(), dy_rows, x_rows});
    }
  }

 private:
  Saved x_;
  ParameterId weight_;
  ExpertOrder order_;
};

class DispatchLinear final : public ExpertLinear {
 public:
  using ExpertLinear::ExpertLinear;
  std::string_view name() const override { return "dispatch_linear"; }

  // dx = the sum of dy W over a token's pairs
  void backward_inputs(BackwardPass& pass) override {
    if (pass.needs(0)) {
      const Tensor& dy = pass.output_gradient();
      const kernels::ConstView weight = transposed_weight(pass);
      const Tensor rows = pass.stream().empty({dy.size(0), weight.size(1)}, dy.dtype());
      pass.stream().launch(kernels::GroupedMatMul{dy.view(), weight, order().offsets.view(), rows.view()});
      const auto dx = pass.input_gradient(0);
      const tensor::PartScope scope(pass.stream(), tensor::Part::kRouting);
      pass.stream().launch(kernels::GatherSum{rows.view(), order().row_of_pair.view(), dx.view, dx.accumulate});
    }
  }

  void backward_weights(BackwardPass& pass) override {
    add_weight_gradient(pass, std::nullopt, order().token_of_row.const_view());
  }
};

class CombineLinear final : public ExpertLinear {
 public:
  using ExpertLinear::ExpertLinear;
  std::string_view name() const override { return "combine_linear"; }

  // dx = dy W, dy that of the pair's token
  void backward_inputs(BackwardPass& pass) override {
    if (pass.needs(0)) {
      const auto dx = pass.input_gradient(0);
      pass.stream().launch(kernels::GroupedMatMul{pass.output_gradient().view(), transposed_weight(pass),
                                                  order().offsets.view(), dx.view, dx.accumulate,
                                                  order().token_of_row.const_view()});
    }
  }

  void backward_weights(BackwardPass& pass) override {
    add_weight_gradient(pass, order().token_of_row.const_view(), std::nullopt);
  }
};

}  // namespace

Routing route(Tape& tape, const Variable& logits, std::int64_t choices, const kernels::RouterRule& rule,
              std::optional<ParameterId> bias, const Tensor& fixed_experts, const BalanceLoss& balance) {
  tensor::Stream& stream = tape.stream();
  const std::int64_t tokens = logits.value.size(0);
  const Tensor experts = stream.empty({tokens, choices}, DType::kI32);
  Tensor weights = stream.empty({tokens, choices}, logits.value.dtype());
  kernels::RouterForward forward;
  forward.logits = logits.value.view();
  if (bias.has_value()) {
    forward.bias = tape.value_of(*bias).const_view();
  }
  if (fixed_experts.defined()) {
    forward.fixed_experts = fixed_experts.const_view();
  }
  forward.experts = experts.view();
  forward.weights = weights.view();
  forward.rule = rule;
  stream.launch(forward);
  auto operation = std::make_unique<Route>(tape.save(logits), experts, rule, balance);
  return {tape.record(std::move(operation), std::move(weights), {logits}), experts};
}

ExpertOrder sort_by_expert(Tape& tape, const Tensor& experts, std::int64_t expert_count, const Tensor& load) {
  tensor::Stream& stream = tape.stream();
  const std::int64_t rows = experts.elements();
  ExpertOrder order{stream.empty({expert_count + 1}, DType::kI32), stream.empty({rows}, DType::kI32),
                    stream.empty({rows}, DType::kI32), stream.empty(experts.shape(), DType::kI32)};
  kernels::ExpertSort sort;
  sort.experts = experts.view();
  sort.offsets = order.offsets.view();
  sort.pair_of_row = order.pair_of_row.view();
  sort.token_of_row = order.token_of_row.view();
  sort.row_of_pair = order.row_of_pair.view();
  if (load.defined()) {
    sort.load = load.view();
  }
  stream.launch(sort);
  return order;
}

Variable dispatch_weights(Tape& tape, const Variable& weights, const ExpertOrder& order) {
  const std::int64_t rows = order.pair_of_row.size(0);
  Tensor y = tape.stream().empty({rows}, weights.value.dtype());
  tape.stream().launch(kernels::GatherRows{weights.value.reshape({rows, 1}).view(), order.pair_of_row.view(),
                                           y.reshape({rows, 1}).view()});
  return tape.record(std::make_unique<DispatchWeights>(order), std::move(y), {weights});
}

Variable dispatch_linear(Tape& tape, const Variable& x, ParameterId weight, const ExpertOrder& order) {
  const Tensor& w = tape.value_of(weight);
  Tensor y = tape.stream().empty({order.token_of_row.size(0), w.size(1)}, x.value.dtype());
  tape.stream().launch(kernels::GroupedMatMul{x.value.view(), w.view(), order.offsets.view(), y.view(), false,
                                              order.token_of_row.const_view()});
  return tape.record(std::make_unique<DispatchLinear>(tape.save(x), weight, order), std::move(y), {x});
}

Variable combine_linear(Tape& tape, const Variable& x, ParameterId weight, const ExpertOrder& order) {
  const Tensor& w = tape.value_of(weight);
  const Tensor rows = tape.stream().empty({x.value.size(0), w.size(1)}, x.value.dtype());
  tape.stream().launch(kernels::GroupedMatMul{x.value.view(), w.view(), order.offsets.view(), rows.view()});
  Tensor y = tape.stream().empty({order.row_of_pair.size(0), w.size(1)}, x.value.dtype());
  {
    const tensor::PartScope scope(tape.stream(), tensor::Part::kRouting);
    tape.stream().launch(kernels::GatherSum{rows.view(), order.row_of_pair.view(), y.view()});
  }
  return tape.record(std::make_unique<CombineLinear>(tape.save(x), weight, order), std::move(y), {x});
}

}  // namespace flyover::ops
