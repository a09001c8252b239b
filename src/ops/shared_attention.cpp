#include "ops/shared_attention.h"

#include <array>
#include <utility>

namespace flyover::ops {
namespace {

using autograd::BackwardPass;
using autograd::ParameterId;
using autograd::Saved;
using autograd::Tape;
using autograd::Tensor;
using autograd::Variable;

kernels::View by_head(const Tensor& tensor, std::int64_t heads) {
  return tensor.split_last(heads, tensor.size(1) / heads).view();
}

std::optional<kernels::ConstView> optional_view(const Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor.const_view()) : std::nullopt;
}

/// Inputs: q, keys and, where there are entries, these.
class SharedKeyAttention final : public autograd::Operation {
 public:
  SharedKeyAttention(std::array<Saved, 3> inputs, Tensor selected, Tensor y, Tensor log_sum_exp, ParameterId sink,
                     std::int64_t heads, SharedSpan span, float scale)
      : inputs_(std::move(inputs)),
        selected_(std::move(selected)),
        y_(std::move(y)),
        log_sum_exp_(std::move(log_sum_exp)),
        sink_(sink),
        heads_(heads),
        span_(std::move(span)),
        scale_(scale) {}
  std::string_view name() const override { return "shared_attention"; }

  void backward_inputs(BackwardPass& pass) override {
    tensor::Stream& stream = pass.stream();
    const bool has_entries = span_.visibility.ratio > 0;
    const Tensor q = pass.get(inputs_[0]), keys = pass.get(inputs_[1]);
    const Tensor entries = has_entries ? pass.get(inputs_[2]) : Tensor();
    const Tensor dq = stream.empty(q.shape(), q.dtype()), dkeys = stream.empty(keys.shape(), keys.dtype());
    const Tensor dentries = has_entries ? stream.empty(entries.shape(), entries.dtype()) : Tensor();
    const Tensor& sink = pass.parameter(sink_).value;
    dsink_ = stream.zeros(sink.shape(), sink.dtype());
    kernels::SharedAttentionBackward backward;
    backward.q = by_head(q, heads_);
    backward.keys = keys.view();
    backward.entries = optional_view(entries);
    backward.selected = optional_view(selected_);
    backward.sink = sink.const_view();
    backward.y = by_head(y_, heads_);
    backward.log_sum_exp = log_sum_exp_.view();
    backward.dy = by_head(pass.output_gradient(), heads_);
    backward.sequences = span_.sequences.view();
    backward.dq = by_head(dq, heads_);
    backward.dkeys = dkeys.view();
    if (has_entries) {
      backward.dentries = dentries.view();
    }
    backward.dsink = dsink_.view();
    backward.visibility = span_.visibility;
    backward.scale = scale_;
    backward.visible_pairs = span_.window_pairs + span_.entry_pairs;
    stream.launch(backward);
    const std::array gradients = {dq, dkeys, dentries};
    for (int i = 0; i < (has_entries ? 3 : 2); ++i) {
      if (pass.needs(i)) {
        pass.pass_input_gradient(i, gradients[static_cast<std::size_t>(i)]);
      }
    }
  }

  void backward_weights(BackwardPass& pass) override {
    if (const Tensor& gradient = pass.parameter(sink_).gradient; gradient.defined()) {
      const auto row = [](const Tensor& tensor) { return tensor.reshape({1, tensor.elements()}).view(); };
      pass.stream().launch(kernels::Add{row(gradient), row(dsink_), row(gradient)});
    }
  }

 private:
  std::array<Saved, 3> inputs_;
  Tensor selected_;
  Tensor y_;
  Tensor log_sum_exp_;
  ParameterId sink_;
  std::int64_t heads_;
  SharedSpan span_;
  float scale_;
  Tensor dsink_;
};

/// The indexer's gradients, formed in the forward pass.
class IndexerLossOperation final : public autograd::Operation {
 public:
  explicit IndexerLossOperation(std::array<Tensor, 3> gradients) : gradients_(std::move(gradients)) {}
  std::string_view name() const override { return "indexer_loss"; }
  bool has_own_seed() const override { return true; }
  void backward_inputs(BackwardPass& pass) override {
    for (int i = 0; i < 3; ++i) {
      if (pass.needs(i)) {
        pass.pass_input_gradient(i, std::exchange(gradients_[static_cast<std::size_t>(i)], {}));
      }
    }
  }

 private:
  std::array<Tensor, 3> gradients_;
};

}  // namespace

SharedAttention shared_attention(Tape& tape, const Variable& q, const SharedKeys& keys, ParameterId sink,
                                 std::int64_t heads, const SharedSpan& span, float scale) {
  tensor::Stream& stream = tape.stream();
  Tensor y = stream.empty(q.value.shape(), q.value.dtype());
  const Tensor log_sum_exp = stream.empty({q.value.size(0), heads}, kernels::statistics_dtype(q.value.dtype()));
  const Variable entries = keys.entries.value_or(Variable{});
  kernels::SharedAttentionForward forward;
  forward.q = by_head(q.value, heads);
  forward.keys = keys.keys.value.view();
  forward.entries = optional_view(entries.value);
  forward.selected = optional_view(keys.selected);
  forward.sink = tape.value_of(sink).const_view();
  forward.sequences = span.sequences.view();
  forward.y = by_head(y, heads);
  forward.log_sum_exp = log_sum_exp.view();
  forward.visibility = span.visibility;
  forward.scale = scale;
  forward.visible_pairs = span.window_pairs + span.entry_pairs;
  stream.launch(forward);
  auto operation =
      std::make_unique<SharedKeyAttention>(std::array{tape.save(q), tape.save(keys.keys), tape.save(entries)},
                                           keys.selected, y, log_sum_exp, sink, heads, span, scale);
  if (keys.entries.has_value()) {
    return {tape.record(std::move(operation), std::move(y), {q, keys.keys, entries}), log_sum_exp};
  }
  return {tape.record(std::move(operation), std::move(y), {q, keys.keys}), log_sum_exp};
}

Selection select_entries(Tape& tape, const IndexerInputs& inputs, const SharedSpan& span, std::int64_t limit) {
  tensor::Stream& stream = tape.stream();
  const std::int64_t tokens = inputs.q.value.size(0);
  Selection selection{stream.empty({tokens, limit}, tensor::DType::kI32),
                      stream.empty({tokens, limit}, inputs.weights.value.dtype())};
  kernels::IndexerSelect select;
  select.q = by_head(inputs.q.value, inputs.heads);
  select.k = inputs.k.value.view();
  select.weights = inputs.weights.value.view();
  select.sequences = span.sequences.view();
  select.selected = selection.selected.view();
  select.scores = selection.scores.view();
  select.ratio = span.visibility.ratio;
  select.visible_pairs = span.entry_pairs;
  stream.launch(select);
  return selection;
}

void indexer_loss(Tape& tape, const IndexerInputs& inputs, const Selection& selection, const Tensor& attention_q,
                  const Tensor& entries, const Tensor& log_sum_exp, std::int64_t heads, const SharedSpan& span,
                  float scale, const IndexerLossOptions& options) {
  if (!tape.recording() || options.coefficient <= 0.0f) {
    return;
  }
  tensor::Stream& stream = tape.stream();
  const Tensor target = stream.empty(selection.scores.shape(), selection.scores.dtype());
  stream.launch(kernels::IndexerTarget{by_head(attention_q, heads), entries.view(), log_sum_exp.view(),
                                       selection.selected.view(), span.sequences.view(), target.view(), scale,
                                       span.visibility.ratio});
  const auto like = [&](const Variable& variable) {
    return stream.empty(variable.value.shape(), variable.value.dtype());
  };
  const Tensor dq = like(inputs.q), dk = like(inputs.k), dweights = like(inputs.weights);
  kernels::IndexerLoss loss;
  loss.q = by_head(inputs.q.value, inputs.heads);
  loss.k = inputs.k.value.view();
  loss.weights = inputs.weights.value.view();
  loss.selected = selection.selected.view();
  loss.scores = selection.scores.view();
  loss.target = target.view();
  loss.token_weights = options.token_weights.view();
  loss.sequences = span.sequences.view();
  loss.loss = options.total.view();
  loss.dq = by_head(dq, inputs.heads);
  loss.dk = dk.view();
  loss.dweights = dweights.view();
  loss.coefficient = options.coefficient;
  loss.ratio = span.visibility.ratio;
  stream.launch(loss);
  tape.record(std::make_unique<IndexerLossOperation>(std::array{dq, dk, dweights}), options.total,
              {inputs.q, inputs.k, inputs.weights});
}

}  // namespace flyover::ops
