#include "ops/linear.h"

#include <utility>

namespace flyover::ops {
namespace {

using autograd::BackwardPass;
using autograd::Saved;

class Linear final : public autograd::Operation {
 public:
  Linear(Saved x, ParameterId weight, std::optional<ParameterId> bias)
      : x_(std::move(x)), weight_(weight), bias_(bias) {}
  std::string_view name() const override { return "linear"; }

  // dx = dy W
  void backward_inputs(BackwardPass& pass) override {
    if (pass.needs(0)) {
      const auto dx = pass.input_gradient(0);
      pass.stream().launch(kernels::MatMul{pass.output_gradient().view(),
                                           kernels::transpose(pass.parameter(weight_).value.const_view()), dx.view,
                                           dx.accumulate});
    }
  }

  // dW += dy' x
  void backward_weights(BackwardPass& pass) override {
    const Tensor& dy = pass.output_gradient();
    if (const Tensor& gradient = pass.parameter(weight_).gradient; gradient.defined()) {
      const Tensor x = pass.get(x_);
      pass.stream().launch(kernels::MatMul{kernels::transpose(dy.const_view()), kernels::transpose(x.const_view()),
                                           gradient.view(), true});
    }
    if (bias_.has_value() && pass.parameter(*bias_).gradient.defined()) {
      pass.stream().launch(kernels::SumRows{dy.view(), pass.parameter(*bias_).gradient.view()});
    }
  }

 private:
  Saved x_;
  ParameterId weight_;
  std::optional<ParameterId> bias_;
};

class ExactLinear final : public autograd::Operation {
 public:
  ExactLinear(Saved x, ParameterId weight) : x_(std::move(x)), weight_(weight) {}
  std::string_view name() const override { return "exact_linear"; }

  void backward_inputs(BackwardPass& pass) override {
    const Tensor& weight = pass.parameter(weight_).value;
    rounded_ = pass.output_gradient();
    if (rounded_.dtype() != weight.dtype()) {
      rounded_ = pass.stream().convert(rounded_, weight.dtype());
    }
    if (pass.needs(0)) {
      const auto dx = pass.input_gradient(0);
      pass.stream().launch(
          kernels::MatMul{rounded_.view(), kernels::transpose(weight.const_view()), dx.view, dx.accumulate});
    }
  }

  void backward_weights(BackwardPass& pass) override {
    if (const Tensor& gradient = pass.parameter(weight_).gradient; gradient.defined()) {
      const Tensor x = pass.get(x_);
      pass.stream().launch(kernels::MatMul{kernels::transpose(rounded_.const_view()),
                                           kernels::transpose(x.const_view()), gradient.view(), true});
    }
  }

 private:
  Saved x_;
  ParameterId weight_;
  Tensor rounded_;  ///< the output's gradient in the compute type
};

class BlockLinear final : public autograd::Operation {
 public:
  BlockLinear(Saved x, ParameterId weight, std::int64_t groups) : x_(std::move(x)), weight_(weight), groups_(groups) {}
  std::string_view name() const override { return "block_linear"; }

  void backward_inputs(BackwardPass& pass) override {
    if (!pass.needs(0)) {
      return;
    }
    const Tensor& weight = pass.parameter(weight_).value;
    const Tensor& dy = pass.output_gradient();
    const auto dx = pass.input_gradient(0);
    const std::int64_t out = weight.size(0) / groups_, in = weight.size(1);
    for (std::int64_t group = 0; group < groups_; ++group) {
      pass.stream().launch(kernels::MatMul{dy.columns(group * out, out).view(),
                                           kernels::transpose(weight.rows(group * out, out).const_view()),
                                           kernels::slice_last(dx.view, group * in, in), dx.accumulate});
    }
  }

  void backward_weights(BackwardPass& pass) override {
    if (const Tensor& gradient = pass.parameter(weight_).gradient; gradient.defined()) {
      const Tensor x = pass.get(x_);
      const Tensor& dy = pass.output_gradient();
      const std::int64_t out = gradient.size(0) / groups_, in = gradient.size(1);
      for (std::int64_t group = 0; group < groups_; ++group) {
        pass.stream().launch(kernels::MatMul{kernels::transpose(dy.columns(group * out, out).const_view()),
                                             kernels::transpose(x.columns(group * in, in).const_view()),
                                             gradient.rows(group * out, out).view(), true});
      }
    }
  }

 private:
  Saved x_;
  ParameterId weight_;
  std::int64_t groups_;
};

class Embedding final : public autograd::Operation {
 public:
  Embedding(Tensor tokens, ParameterId table) : tokens_(std::move(tokens)), table_(table) {}
  std::string_view name() const override { return "embedding"; }
  void backward_inputs(BackwardPass&) override {}
  void backward_weights(BackwardPass& pass) override {
    if (const Tensor& gradient = pass.parameter(table_).gradient; gradient.defined()) {
      pass.stream().launch(kernels::ScatterAddRows{pass.output_gradient().view(), tokens_.view(), gradient.view()});
    }
  }

 private:
  Tensor tokens_;
  ParameterId table_;
};

}  // namespace

Variable linear(Tape& tape, const Variable& x, ParameterId weight, std::optional<ParameterId> bias) {
  const Tensor& w = tape.value_of(weight);
  Tensor y = tape.stream().empty({x.value.size(0), w.size(0)}, x.value.dtype());
  tape.stream().launch(kernels::MatMul{x.value.view(), w.view(), y.view()});
  if (bias.has_value()) {
    tape.stream().launch(kernels::AddBias{tape.value_of(*bias).view(), y.view()});
  }
  return tape.record(std::make_unique<Linear>(tape.save(x), weight, bias), std::move(y), {x});
}

Variable exact_linear(Tape& tape, const Variable& x, ParameterId weight) {
  const Tensor& w = tape.value_of(weight);
  Tensor y = tape.stream().empty({x.value.size(0), w.size(0)}, kernels::statistics_dtype(x.value.dtype()));
  tape.stream().launch(kernels::MatMul{x.value.view(), w.view(), y.view()});
  return tape.record(std::make_unique<ExactLinear>(tape.save(x), weight), std::move(y), {x});
}

Variable block_linear(Tape& tape, const Variable& x, ParameterId weight, std::int64_t groups) {
  const Tensor& w = tape.value_of(weight);
  const std::int64_t out = w.size(0) / groups, in = w.size(1);
  Tensor y = tape.stream().empty({x.value.size(0), w.size(0)}, x.value.dtype());
  for (std::int64_t group = 0; group < groups; ++group) {
    tape.stream().launch(kernels::MatMul{x.value.columns(group * in, in).view(), w.rows(group * out, out).view(),
                                         y.columns(group * out, out).view()});
  }
  return tape.record(std::make_unique<BlockLinear>(tape.save(x), weight, groups), std::move(y), {x});
}

Variable embedding(Tape& tape, const Tensor& tokens, ParameterId table) {
  const tensor::PartScope scope(tape.stream(), tensor::Part::kEmbedding);
  const Tensor& rows = tape.value_of(table);
  Tensor y = tape.stream().empty({tokens.size(0), rows.size(1)}, rows.dtype());
  tape.stream().launch(kernels::GatherRows{rows.view(), tokens.view(), y.view()});
  return tape.record(std::make_unique<Embedding>(tokens, table), std::move(y), {});
}

}  // namespace flyover::ops
