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

/// Each part of `width` columns is a row of its own.
Tensor parts_of(const Tensor& tensor, std::int64_t width) {
  return tensor.reshape({tensor.elements() / width, width});
}

kernels::View parts_of(const kernels::View& dense, std::int64_t width) {
  const kernels::Dims shape{dense.elements() / width, width};
  return {dense.data, dense.dtype, shape, kernels::dense_strides(shape)};
}

class RmsNorm final : public autograd::Operation {
 public:
  RmsNorm(Saved x, Tensor rstd, std::int64_t width, std::optional<ParameterId> weight, float epsilon)
      : x_(std::move(x)), rstd_(std::move(rstd)), width_(width), weight_(weight), epsilon_(epsilon) {}
  std::string_view name() const override { return "rms_norm"; }
  bool is_cheap() const override { return true; }

  Tensor recompute(BackwardPass& pass) override {
    const Tensor x = pass.get(x_);
    Tensor y = pass.stream().empty(x.shape(), x.dtype());
    pass.stream().launch(kernels::RmsNormForward{parts_of(x, width_).view(), weight(pass), parts_of(y, width_).view(),
                                                 rstd_.view(), epsilon_});
    return y;
  }

  void backward_inputs(BackwardPass& pass) override {
    if (pass.needs(0)) {
      const Tensor x = parts_of(pass.get(x_), width_);
      const auto dx = pass.input_gradient(0);
      pass.stream().launch(kernels::RmsNormBackward{x.view(), weight(pass), rstd_.view(),
                                                    parts_of(pass.output_gradient(), width_).view(),
                                                    parts_of(dx.view, width_), dx.accumulate});
    }
  }

  void backward_weights(BackwardPass& pass) override {
    if (!weight_.has_value()) {
      return;
    }
    if (const Tensor& gradient = pass.parameter(*weight_).gradient; gradient.defined()) {
      const Tensor x = parts_of(pass.get(x_), width_);
      pass.stream().launch(kernels::RmsNormWeightGradient{
          x.view(), rstd_.view(), parts_of(pass.output_gradient(), width_).view(), gradient.view()});
    }
  }

 private:
  std::optional<kernels::ConstView> weight(const BackwardPass& pass) const {
    return weight_.has_value() ? std::optional(pass.parameter(*weight_).value.const_view()) : std::nullopt;
  }

  Saved x_;
  Tensor rstd_;
  std::int64_t width_;
  std::optional<ParameterId> weight_;
  float epsilon_;
};

}  // namespace

Variable rms_norm(Tape& tape, const Variable& x, ParameterId weight, float epsilon) {
  return head_norm(tape, x, x.value.size(1), weight, epsilon);
}

Variable head_norm(Tape& tape, const Variable& x, std::int64_t width, std::optional<ParameterId> weight,
                   float epsilon) {
  Tensor y = tape.stream().empty(x.value.shape(), x.value.dtype());
  const Tensor rows = parts_of(x.value, width);
  Tensor rstd = tape.stream().empty({rows.size(0)}, kernels::statistics_dtype(x.value.dtype()));
  kernels::RmsNormForward forward{rows.view(), {}, parts_of(y, width).view(), rstd.view(), epsilon};
  if (weight.has_value()) {
    forward.weight = tape.value_of(*weight).const_view();
  }
  tape.stream().launch(forward);
  auto operation = std::make_unique<RmsNorm>(tape.save(x), std::move(rstd), width, weight, epsilon);
  return tape.record(std::move(operation), std::move(y), {x});
}

}  // namespace flyover::ops
