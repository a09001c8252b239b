#include "ops/compressor.h"

#include <utility>

namespace flyover::ops {
namespace {

using autograd::BackwardPass;
using autograd::ParameterId;
using autograd::Saved;
using autograd::Tape;
using autograd::Tensor;
using autograd::Variable;

class Compress final : public autograd::Operation {
 public:
  Compress(Saved values, Saved gates, ParameterId position_bias, Tensor rows)
      : values_(std::move(values)), gates_(std::move(gates)), position_bias_(position_bias), rows_(std::move(rows)) {}
  std::string_view name() const override { return "compress"; }

  void backward_inputs(BackwardPass& pass) override {
    const Tensor values = pass.get(values_), gates = pass.get(gates_);
    const Tensor dvalues = pass.stream().empty(values.shape(), values.dtype());
    dgates_ = pass.stream().empty(gates.shape(), gates.dtype());
    pass.stream().launch(kernels::CompressBackward{values.view(), gates.view(),
                                                   pass.parameter(position_bias_).value.const_view(), rows_.view(),
                                                   pass.output_gradient().view(), dvalues.view(), dgates_.view()});
    if (pass.needs(0)) {
      pass.pass_input_gradient(0, dvalues);
    }
    if (pass.needs(1)) {
      pass.pass_input_gradient(1, dgates_);
    }
  }

  void backward_weights(BackwardPass& pass) override {
    if (const Tensor& gradient = pass.parameter(position_bias_).gradient; gradient.defined()) {
      pass.stream().launch(kernels::CompressPositionGradient{dgates_.view(), rows_.view(), gradient.view()});
    }
  }

 private:
  Saved values_;
  Saved gates_;
  ParameterId position_bias_;
  Tensor rows_;
  Tensor dgates_;
};

}  // namespace

Variable compress(Tape& tape, const Variable& values, const Variable& gates, ParameterId position_bias,
                  const Tensor& rows, tensor::DType result) {
  const Tensor& bias = tape.value_of(position_bias);
  const std::int64_t roles = rows.size(1) / bias.size(0);
  Tensor y = tape.stream().empty({rows.size(0), bias.size(1) / roles}, result);
  tape.stream().launch(
      kernels::CompressForward{values.value.view(), gates.value.view(), bias.view(), rows.view(), y.view()});
  auto operation = std::make_unique<Compress>(tape.save(values), tape.save(gates), position_bias, rows);
  return tape.record(std::move(operation), std::move(y), {values, gates});
}

}  // namespace flyover::ops
