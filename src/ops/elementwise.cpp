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

class SwiGlu final : public autograd::Operation {
 public:
  explicit SwiGlu(Saved gate_up) : gate_up_(std::move(gate_up)) {}
  std::string_view name() const override { return "swiglu"; }
  bool is_cheap() const override { return true; }

  Tensor recompute(BackwardPass& pass) override {
    const Tensor gate_up = pass.get(gate_up_);
    Tensor y = pass.stream().empty({gate_up.size(0), gate_up.size(1) / 2}, gate_up.dtype());
    pass.stream().launch(kernels::SwiGluForward{gate_up.view(), y.view()});
    return y;
  }

  void backward_inputs(BackwardPass& pass) override {
    if (pass.needs(0)) {
      const Tensor gate_up = pass.get(gate_up_);
      pass.write_input_gradient(0, [&](const Tensor& dgate_up) {
        pass.stream().launch(kernels::SwiGluBackward{gate_up.view(), pass.output_gradient().view(), dgate_up.view()});
      });
    }
  }

 private:
  Saved gate_up_;
};

}  // namespace

Variable add(Tape& tape, const Variable& a, const Variable& b) {
  Tensor y = tape.stream().empty(a.value.shape(), a.value.dtype());
  tape.stream().launch(kernels::Add{a.value.view(), b.value.view(), y.view()});
  return tape.record(std::make_unique<AddOperation>(), std::move(y), {a, b});
}

Variable swiglu(Tape& tape, const Variable& gate_up) {
  Tensor y = tape.stream().empty({gate_up.value.size(0), gate_up.value.size(1) / 2}, gate_up.value.dtype());
  tape.stream().launch(kernels::SwiGluForward{gate_up.value.view(), y.view()});
  return tape.record(std::make_unique<SwiGlu>(tape.save(gate_up)), std::move(y), {gate_up});
}

}  // namespace flyover::ops
