#include "ops/columns.h"

namespace flyover::ops {
namespace {

using autograd::BackwardPass;
using autograd::Tape;
using autograd::Tensor;
using autograd::Variable;

class Columns final : public autograd::Operation {
 public:
  explicit Columns(std::int64_t first) : first_(first) {}
  std::string_view name() const override { return "columns"; }
  void backward_inputs(BackwardPass& pass) override {
    if (!pass.needs(0)) {
      return;
    }
    const Tensor& dy = pass.output_gradient();
    const auto dx = pass.input_gradient(0);
    const std::int64_t end = first_ + dy.size(1);
    const kernels::View own = kernels::slice_last(dx.view, first_, dy.size(1));
    if (dx.accumulate) {
      pass.stream().launch(kernels::Add{own, dy.view(), own});
      return;
    }
    pass.stream().launch(kernels::Fill{kernels::slice_last(dx.view, 0, first_), 0.0});
    pass.stream().launch(kernels::Copy{dy.view(), own});
    pass.stream().launch(kernels::Fill{kernels::slice_last(dx.view, end, dx.view.size(1) - end), 0.0});
  }

 private:
  std::int64_t first_;
};

class JoinColumns final : public autograd::Operation {
 public:
  explicit JoinColumns(std::int64_t width) : width_(width) {}
  std::string_view name() const override { return "join_columns"; }
  void backward_inputs(BackwardPass& pass) override {
    const Tensor& dy = pass.output_gradient();
    const auto part = [&](int input, std::int64_t first, std::int64_t count) {
      if (pass.needs(input)) {
        pass.pass_input_gradient(input, pass.stream().convert(dy.columns(first, count), dy.dtype()));
      }
    };
    part(0, 0, width_);
    part(1, width_, dy.size(1) - width_);
  }

 private:
  std::int64_t width_;  ///< of the first input
};

}  // namespace

Variable columns(Tape& tape, const Variable& x, std::int64_t first, std::int64_t count) {
  Tensor y = tape.stream().convert(x.value.columns(first, count), x.value.dtype());
  return tape.record(std::make_unique<Columns>(first), std::move(y), {x});
}

Variable join_columns(Tape& tape, const Variable& a, const Variable& b) {
  const std::int64_t rows = a.value.size(0), width = a.value.size(1), other = b.value.size(1);
  Tensor y = tape.stream().empty({rows, width + other}, a.value.dtype());
  tape.stream().launch(kernels::Copy{a.value.view(), y.columns(0, width).view()});
  tape.stream().launch(kernels::Copy{b.value.view(), y.columns(width, other).view()});
  return tape.record(std::make_unique<JoinColumns>(width), std::move(y), {a, b});
}

}  // namespace flyover::ops
