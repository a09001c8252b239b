#include "ops/hyper_connection.h"

#include <utility>

namespace flyover::ops {
namespace {

using autograd::BackwardPass;
using autograd::Saved;
using autograd::Tape;
using autograd::Tensor;
using autograd::Variable;

class Coefficients final : public autograd::Operation {
 public:
  Coefficients(Saved streams, Tensor product, const HyperConnectionSite& site,
               std::shared_ptr<StreamGradients> gradients)
      : streams_(std::move(streams)), product_(std::move(product)), site_(site), gradients_(std::move(gradients)) {}
  std::string_view name() const override { return "stream_coefficients"; }

  void backward_inputs(BackwardPass& pass) override {
    tensor::Stream& stream = pass.stream();
    const Tensor streams = pass.get(streams_);
    const Tensor& upstream = pass.output_gradient();
    dpreactivation_ = stream.empty(upstream.shape(), upstream.dtype());
    dproduct_ = stream.empty(upstream.shape(), upstream.dtype());
    kernels::HyperConnectionCoefficientsBackward backward;
    backward.streams = streams.view();
    backward.fn = pass.parameter(site_.fn).value.const_view();
    backward.base = pass.parameter(site_.base).value.const_view();
    backward.scale = pass.parameter(site_.scale).value.const_view();
    backward.product = product_.view();
    backward.dcoefficients = upstream.view();
    backward.dpreactivation = dpreactivation_.view();
    backward.dproduct = dproduct_.view();
    backward.stream_count = site_.streams;
    backward.iterations = site_.iterations;
    backward.epsilon = site_.epsilon;
    backward.head = site_.head;
    if (gradients_->input.defined()) {
      backward.dy = gradients_->input.view();
    }
    if (gradients_->written.defined()) {
      backward.dexpanded = gradients_->written.view();
    }
    // In the place of what it is computed from, if nothing else refers to that. Streams that want no gradient (a leaf
    // cut off) still need a place for the kernel to write to.
    Tensor own;
    if (gradients_->written.defined() && gradients_->written.is_only_owner()) {
      own = std::move(gradients_->written);
    } else if (!pass.needs(0)) {
      own = stream.empty(streams.shape(), streams.dtype());
    }
    if (own.defined()) {
      backward.dstreams = own.view();
    } else {
      const auto dstreams = pass.input_gradient(0);
      backward.dstreams = dstreams.view;
      backward.accumulate = dstreams.accumulate;
    }
    stream.launch(backward);
    *gradients_ = {};
    if (own.defined() && pass.needs(0)) {
      pass.pass_input_gradient(0, std::move(own));
    }
  }

  void backward_weights(BackwardPass& pass) override {
    const Tensor& fn = pass.parameter(site_.fn).gradient;
    const Tensor& base = pass.parameter(site_.base).gradient;
    const Tensor& scale = pass.parameter(site_.scale).gradient;
    if (!fn.defined() && !base.defined() && !scale.defined()) {
      return;
    }
    // The three come from one kernel; a frozen one's goes to a scratch tensor.
    const auto target = [&](const Tensor& gradient, autograd::ParameterId id) {
      return gradient.defined() ? gradient : pass.stream().zeros(pass.parameter(id).spec.shape, product_.dtype());
    };
    const Tensor dfn = target(fn, site_.fn), dbase = target(base, site_.base), dscale = target(scale, site_.scale);
    const Tensor streams = pass.get(streams_);
    pass.stream().launch(kernels::HyperConnectionWeightGradient{streams.view(), product_.view(), dpreactivation_.view(),
                                                                dproduct_.view(), dfn.view(), dbase.view(),
                                                                dscale.view(), site_.streams});
  }

 private:
  Saved streams_;
  Tensor product_;
  HyperConnectionSite site_;
  std::shared_ptr<StreamGradients> gradients_;
  Tensor dpreactivation_;
  Tensor dproduct_;
};

class Read final : public autograd::Operation {
 public:
  Read(Saved streams, Tensor coefficients, std::int64_t count, std::shared_ptr<StreamGradients> gradients)
      : streams_(std::move(streams)),
        coefficients_(std::move(coefficients)),
        count_(count),
        gradients_(std::move(gradients)) {}
  std::string_view name() const override { return "read_streams"; }
  bool is_cheap() const override { return true; }

  Tensor recompute(BackwardPass& pass) override {
    const Tensor streams = pass.get(streams_);
    Tensor y = pass.stream().empty({streams.size(0), streams.size(1) / count_}, streams.dtype());
    pass.stream().launch(kernels::StreamCollapse{streams.view(), coefficients_.view(), y.view()});
    return y;
  }

  void backward_inputs(BackwardPass& pass) override {
    gradients_->input = pass.output_gradient();
    if (!gradients_->written.defined()) {  // otherwise the coefficients have a gradient already
      pass.pass_input_gradient(0, pass.stream().zeros(coefficients_.shape(), coefficients_.dtype()));
    }
  }

 private:
  Saved streams_;
  Tensor coefficients_;
  std::int64_t count_;
  std::shared_ptr<StreamGradients> gradients_;
};

class Write final : public autograd::Operation {
 public:
  Write(Saved streams, Saved f, Tensor coefficients, std::shared_ptr<StreamGradients> gradients)
      : streams_(std::move(streams)),
        f_(std::move(f)),
        coefficients_(std::move(coefficients)),
        gradients_(std::move(gradients)) {}
  std::string_view name() const override { return "write_streams"; }

  void backward_inputs(BackwardPass& pass) override {
    const Tensor streams = pass.get(streams_), f = pass.get(f_);
    const auto df = pass.input_gradient(0), dcoefficients = pass.input_gradient(1);
    kernels::StreamExpandBackward backward;
    backward.streams = streams.view();
    backward.f = f.view();
    backward.coefficients = coefficients_.view();
    backward.dy = pass.output_gradient().view();
    backward.df = df.view;
    backward.dcoefficients = dcoefficients.view;
    backward.accumulate_f = df.accumulate;
    backward.accumulate_coefficients = dcoefficients.accumulate;
    pass.stream().launch(backward);
    gradients_->written = pass.output_gradient();
  }

 private:
  Saved streams_;
  Saved f_;
  Tensor coefficients_;
  std::shared_ptr<StreamGradients> gradients_;
};

class Copies final : public autograd::Operation {
 public:
  explicit Copies(std::int64_t count) : count_(count) {}
  std::string_view name() const override { return "stream_copies"; }
  void backward_inputs(BackwardPass& pass) override {
    if (!pass.needs(0)) {
      return;
    }
    const Tensor& dy = pass.output_gradient();
    const std::int64_t width = dy.size(1) / count_;
    const auto dx = pass.input_gradient(0);
    for (std::int64_t i = 0; i < count_; ++i) {
      const kernels::View part = dy.columns(i * width, width).view();
      if (i == 0 && !dx.accumulate) {
        pass.stream().launch(kernels::Copy{part, dx.view});
      } else {
        pass.stream().launch(kernels::Add{dx.view, part, dx.view});
      }
    }
  }

 private:
  std::int64_t count_;
};

}  // namespace

StreamReading read_streams(Tape& tape, const Variable& streams, const HyperConnectionSite& site) {
  const tensor::PartScope scope(tape.stream(), tensor::Part::kHyperConnections);
  const Tensor& fn = tape.value_of(site.fn);
  const std::int64_t tokens = streams.value.size(0), rows = fn.size(0);
  Tensor coefficients = tape.stream().empty({tokens, rows}, fn.dtype());
  Tensor product = tape.stream().empty({tokens, rows + 1}, fn.dtype());
  Tensor input = tape.stream().empty({tokens, streams.value.size(1) / site.streams}, streams.value.dtype());
  kernels::HyperConnectionCoefficients forward;
  forward.streams = streams.value.view();
  forward.fn = fn.view();
  forward.base = tape.value_of(site.base).view();
  forward.scale = tape.value_of(site.scale).view();
  forward.coefficients = coefficients.view();
  forward.product = product.view();
  forward.y = input.view();
  forward.stream_count = site.streams;
  forward.iterations = site.iterations;
  forward.norm_epsilon = site.norm_epsilon;
  forward.epsilon = site.epsilon;
  forward.head = site.head;
  tape.stream().launch(forward);
  StreamReading reading;
  reading.streams = streams;
  reading.gradients = std::make_shared<StreamGradients>();
  reading.coefficients =
      tape.record(std::make_unique<Coefficients>(tape.save(streams), std::move(product), site, reading.gradients),
                  coefficients, {streams});
  reading.input =
      tape.record(std::make_unique<Read>(tape.save(streams), std::move(coefficients), site.streams, reading.gradients),
                  std::move(input), {reading.coefficients});
  return reading;
}

Variable write_streams(Tape& tape, const StreamReading& reading, const Variable& f) {
  const tensor::PartScope scope(tape.stream(), tensor::Part::kHyperConnections);
  const Variable& streams = reading.streams;
  const Tensor& coefficients = reading.coefficients.value;
  Tensor y = tape.stream().empty(streams.value.shape(), streams.value.dtype());
  tape.stream().launch(kernels::StreamExpand{streams.value.view(), f.value.view(), coefficients.view(), y.view()});
  return tape.record(std::make_unique<Write>(tape.save(streams), tape.save(f), coefficients, reading.gradients),
                     std::move(y), {f, reading.coefficients});
}

Variable stream_copies(Tape& tape, const Variable& x, std::int64_t count) {
  const tensor::PartScope scope(tape.stream(), tensor::Part::kHyperConnections);
  const std::int64_t width = x.value.size(1);
  Tensor y = tape.stream().empty({x.value.size(0), count * width}, x.value.dtype());
  for (std::int64_t i = 0; i < count; ++i) {
    tape.stream().launch(kernels::Copy{x.value.view(), y.columns(i * width, width).view()});
  }
  return tape.record(std::make_unique<Copies>(count), std::move(y), {x});
}

}  // namespace flyover::ops
