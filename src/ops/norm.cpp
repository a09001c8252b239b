#include "ops/norm.h"

#include <utility>

namespace flyover::ops {
namespace {

using autograd::BackwardPass;
using autograd::ParameterId;
using autograd::Saved;
using autograd::Tape;
using autograd::Tensor;
using autograd::Variable;

class RmsNorm final : public autograd::Operation {
 public:
  RmsNorm(Saved x, Tensor rstd, ParameterId weight, float epsilon)
      : x_(std::move(x)), rstd_(std::move(rstd)), weight_(weight), epsilon_(epsilon) {}
  std::string_view name() const override { return "rms_norm"; }
  bool is_cheap() const override { return true; }

  Tensor recompute(BackwardPass& pass) override {
    const Tensor x = pass.get(x_);
    Tensor y = pass.stream().empty(x.shape(), x.dtype());
    pass.stream().launch(kernels::RmsNormForward{x.view(), pass.parameter(weight_).value.const_view(), y.view(),
                                                 rstd_.view(), epsilon_});
    return y;
  }

  void backward_inputs(BackwardPass& pass) override {
    if (pass.needs(0)) {
      const Tensor x = pass.get(x_);
      const auto dx = pass.input_gradient(0);
      pass.stream().launch(kernels::RmsNormBackward{x.view(), pass.parameter(weight_).value.const_view(), rstd_.view(),
                                                    pass.output_gradient().view(), dx.view, dx.accumulate});
    }
  }

  void backward_weights(BackwardPass& pass) override {
    if (const Tensor& gradient = pass.parameter(weight_).gradient; gradient.defined()) {
      const Tensor x = pass.get(x_);
      pass.stream().launch(
          kernels::RmsNormWeightGradient{x.view(), rstd_.view(), pass.output_gradient().view(), gradient.view()});
    }
  }

 private:
  Saved x_;
  Tensor rstd_;
  ParameterId weight_;
  float epsilon_;
};

}  // namespace

Variable rms_norm(Tape& tape, const Variable& x, ParameterId weight, float epsilon) {
  Tensor y = tape.stream().empty(x.value.shape(), x.value.dtype());
  Tensor rstd = tape.stream().empty({x.value.size(0)}, kernels::statistics_dtype(x.value.dtype()));
  tape.stream().launch(
      kernels::RmsNormForward{x.value.view(), tape.value_of(weight).const_view(), y.view(), rstd.view(), epsilon});
  return tape.record(std::make_unique<RmsNorm>(tape.save(x), std::move(rstd), weight, epsilon), std::move(y), {x});
}

}  // namespace flyover::ops
