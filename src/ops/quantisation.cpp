#include "ops/quantisation.h"

#include <utility>

namespace flyover::ops {
namespace {

using autograd::BackwardPass;
using autograd::Tape;
using autograd::Tensor;
using autograd::Variable;

/// Straight-through: rounding is taken for the identity (Bengio, Leonard and Courville, 2013).
class RoundToFp4Operation final : public autograd::Operation {
 public:
  std::string_view name() const override { return "round_to_fp4"; }
  void backward_inputs(BackwardPass& pass) override {
    if (pass.needs(0)) {
      pass.pass_input_gradient(0, pass.output_gradient());
    }
  }
};

void transform(tensor::Stream& stream, const Tensor& x, const Tensor& y, std::int64_t width) {
  const kernels::Dims shape{x.elements() / width, width};
  stream.launch(kernels::Hadamard{x.reshape(shape).view(), y.reshape(shape).view()});
}

class HadamardOperation final : public autograd::Operation {
 public:
  explicit HadamardOperation(std::int64_t width) : width_(width) {}
  std::string_view name() const override { return "hadamard"; }
  void backward_inputs(BackwardPass& pass) override {
    if (pass.needs(0)) {
      pass.write_input_gradient(
          0, [&](const Tensor& gradient) { transform(pass.stream(), pass.output_gradient(), gradient, width_); });
    }
  }

 private:
  std::int64_t width_;
};

}  // namespace

Variable round_to_fp4(Tape& tape, const Variable& x) {
  Tensor y = tape.stream().empty(x.value.shape(), x.value.dtype());
  tape.stream().launch(kernels::RoundToFp4{x.value.view(), y.view()});
  return tape.record(std::make_unique<RoundToFp4Operation>(), std::move(y), {x});
}

Variable hadamard(Tape& tape, const Variable& x, std::int64_t width) {
  Tensor y = tape.stream().empty(x.value.shape(), x.value.dtype());
  transform(tape.stream(), x.value, y, width);
  return tape.record(std::make_unique<HadamardOperation>(width), std::move(y), {x});
}

}  // namespace flyover::ops
