#include "ops/elementwise.h"

#include <utility>

namespace flyover::ops {
namespace {

using autograd::BackwardPass;
using autograd::Saved;
using autograd::Tape;
using autograd::Tensor;
using autograd::Variable;

class AddOperation final : public autograd::Operation {
 public:
  std::string_view name() const override { return "add"; }
  void backward_inputs(BackwardPass& pass) override {
    for (const int input : {0, 1}) {
      if (pass.needs(input)) {
        pass.pass_input_gradient(input, pass.output_gradient());
      }
    }
  }
};

class ReshapeOperation final : public autograd::Operation {
 public:
  explicit ReshapeOperation(const kernels::Dims& shape) : shape_(shape) {}
  std::string_view name() const override { return "reshape"; }
  void backward_inputs(BackwardPass& pass) override {
    if (pass.needs(0)) {
      pass.pass_input_gradient(0, pass.output_gradient().reshape(shape_));
    }
  }

 private:
  kernels::Dims shape_;  ///< of the input
};

class ScaleOperation final : public autograd::Operation {
 public:
  explicit ScaleOperation(float factor) : factor_(factor) {}
  std::string_view name() const override { return "scale"; }
  void backward_inputs(BackwardPass& pass) override {
    if (pass.needs(0)) {
      pass.write_input_gradient(0, [&](const Tensor& gradient) {
        pass.stream().launch(kernels::Scale{pass.output_gradient().view(), gradient.view(), factor_});
      });
    }
  }

 private:
  float factor_;
};

Tensor launch_swiglu(tensor::Stream& stream, const Tensor& gate_up, const Tensor& row_weights, float limit) {
  Tensor y = stream.empty({gate_up.size(0), gate_up.size(1) / 2}, gate_up.dtype());
  kernels::SwiGluForward forward;
  forward.gate_up = gate_up.view();
  forward.y = y.view();
  if (row_weights.defined()) {
    forward.row_weights = row_weights.const_view();
  }
  forward.limit = limit;
  stream.launch(forward);
  return y;
}

/// Input 0 is gate_up, input 1 (where there is one) the rows' weights.
class SwiGlu final : public autograd::Operation {
 public:
  SwiGlu(Saved gate_up, Tensor row_weights, float limit)
      : gate_up_(std::move(gate_up)), row_weights_(std::move(row_weights)), limit_(limit) {}
  std::string_view name() const override { return "swiglu"; }
  bool is_cheap() const override { return true; }

  Tensor recompute(BackwardPass& pass) override {
    return launch_swiglu(pass.stream(), pass.get(gate_up_), row_weights_, limit_);
  }

  void backward_inputs(BackwardPass& pass) override {
    const bool weighted = row_weights_.defined() && pass.needs(1);
    if (!pass.needs(0) && !weighted) {
      return;
    }
    tensor::Stream& stream = pass.stream();
    const Tensor gate_up = pass.get(gate_up_);
    const Tensor dgate_up = stream.empty(gate_up.shape(), gate_up.dtype());
    Tensor drow_weights;
    kernels::SwiGluBackward backward;
    backward.gate_up = gate_up.view();
    backward.dy = pass.output_gradient().view();
    backward.dgate_up = dgate_up.view();
    backward.limit = limit_;
    if (row_weights_.defined()) {
      drow_weights = stream.empty(row_weights_.shape(), row_weights_.dtype());
      backward.row_weights = row_weights_.const_view();
      backward.drow_weights = drow_weights.view();
    }
    stream.launch(backward);
    if (pass.needs(0)) {
      pass.pass_input_gradient(0, dgate_up);
    }
    if (weighted) {
      pass.pass_input_gradient(1, drow_weights);
    }
  }

 private:
  Saved gate_up_;
  Tensor row_weights_;
  float limit_;
};

}  // namespace

Variable add(Tape& tape, const Variable& a, const Variable& b) {
  Tensor y = tape.stream().empty(a.value.shape(), a.value.dtype());
  tape.stream().launch(kernels::Add{a.value.view(), b.value.view(), y.view()});
  return tape.record(std::make_unique<AddOperation>(), std::move(y), {a, b});
}

Variable reshape(Tape& tape, const Variable& x, const kernels::Dims& shape) {
  return tape.record(std::make_unique<ReshapeOperation>(x.value.shape()), x.value.reshape(shape), {x});
}

Variable scale(Tape& tape, const Variable& x, float factor) {
  Tensor y = tape.stream().empty(x.value.shape(), x.value.dtype());
  tape.stream().launch(kernels::Scale{x.value.view(), y.view(), factor});
  return tape.record(std::make_unique<ScaleOperation>(factor), std::move(y), {x});
}

Variable swiglu(Tape& tape, const Variable& gate_up, const GatedActivation& activation) {
  const Tensor row_weights = activation.row_weights ? activation.row_weights->value : Tensor();
  Tensor y = launch_swiglu(tape.stream(), gate_up.value, row_weights, activation.limit);
  auto operation = std::make_unique<SwiGlu>(tape.save(gate_up), row_weights, activation.limit);
  if (activation.row_weights) {
    return tape.record(std::move(operation), std::move(y), {gate_up, *activation.row_weights});
  }
  return tape.record(std::move(operation), std::move(y), {gate_up});
}

}  // namespace flyover::ops
