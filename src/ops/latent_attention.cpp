#include "ops/latent_attention.h"

#include <utility>

#include "base/error.h"

namespace flyover::ops {
namespace {

using autograd::BackwardPass;
using autograd::Saved;
using autograd::Tape;
using autograd::Tensor;
using autograd::Variable;

/// Columns [first, first + count) of every head of a tensor whose heads are `width` wide: [tokens, heads, count].
kernels::View part_of_heads(const Tensor& tensor, std::int64_t heads, std::int64_t width, std::int64_t first,
                            std::int64_t count) {
  return kernels::slice_last(tensor.split_last(heads, width).view(), first, count);
}
kernels::View queries(const Tensor& tensor, const LatentLayout& layout) {
  return part_of_heads(tensor, layout.heads, layout.head_dim(), 0, layout.head_dim());
}
kernels::View outputs(const Tensor& tensor, const LatentLayout& layout) {
  return part_of_heads(tensor, layout.heads, layout.value_dim, 0, layout.value_dim);
}
kernels::View own_keys(const Tensor& expanded, const LatentLayout& layout) {
  return part_of_heads(expanded, layout.heads, layout.own_dim + layout.value_dim, 0, layout.own_dim);
}
kernels::View values(const Tensor& expanded, const LatentLayout& layout) {
  return part_of_heads(expanded, layout.heads, layout.own_dim + layout.value_dim, layout.own_dim, layout.value_dim);
}

/// [tokens, heads * head_dim].
Tensor join_keys(tensor::Stream& stream, const Tensor& expanded, const Tensor& shared, const LatentLayout& layout) {
  Tensor keys = stream.empty({expanded.size(0), layout.heads * layout.head_dim()}, expanded.dtype());
  stream.launch(kernels::JoinHeads{own_keys(expanded, layout), shared.view(), queries(keys, layout)});
  return keys;
}

class LatentAttention final : public autograd::Operation {
 public:
  LatentAttention(Saved q, Saved expanded, Saved shared, Tensor y, Tensor log_sum_exp, const LatentLayout& layout,
                  float scale, AttentionSpan span)
      : q_(std::move(q)),
        expanded_(std::move(expanded)),
        shared_(std::move(shared)),
        y_(std::move(y)),
        log_sum_exp_(std::move(log_sum_exp)),
        layout_(layout),
        scale_(scale),
        span_(std::move(span)) {}
  std::string_view name() const override { return "latent_attention"; }
  void backward_inputs(BackwardPass& pass) override {
    tensor::Stream& stream = pass.stream();
    const Tensor q = pass.get(q_), expanded = pass.get(expanded_), shared = pass.get(shared_);
    const Tensor keys = join_keys(stream, expanded, shared, layout_);
    const auto like = [&](const Tensor& tensor) { return stream.empty(tensor.shape(), tensor.dtype()); };
    const Tensor dq = like(q), dexpanded = like(expanded), dshared = like(shared), dkeys = like(keys);
    stream.launch(kernels::AttentionBackward{
        queries(q, layout_), queries(keys, layout_), values(expanded, layout_), outputs(y_, layout_),
        log_sum_exp_.view(), outputs(pass.output_gradient(), layout_), span_.sequences.view(), queries(dq, layout_),
        queries(dkeys, layout_), values(dexpanded, layout_), scale_, span_.visible_pairs});
    stream.launch(kernels::JoinHeadsBackward{queries(dkeys, layout_), own_keys(dexpanded, layout_), dshared.view()});
    int input = 0;
    for (const Tensor& gradient : {dq, dexpanded, dshared}) {
      if (pass.needs(input)) {
        pass.pass_input_gradient(input, gradient);
      }
      ++input;
    }
  }

 private:
  Saved q_, expanded_, shared_;
  Tensor y_;
  Tensor log_sum_exp_;
  LatentLayout layout_;
  float scale_;
  AttentionSpan span_;
};

}  // namespace

Variable latent_attention(Tape& tape, const Variable& q, const Variable& expanded, const Variable& shared,
                          const LatentLayout& layout, float scale, const AttentionSpan& span, const LayerCache* cache) {
  tensor::Stream& stream = tape.stream();
  const std::int64_t tokens = q.value.size(0), value_width = layout.heads * layout.value_dim;
  const tensor::DType dtype = q.value.dtype();
  const Tensor keys = join_keys(stream, expanded.value, shared.value, layout);
  Tensor y = stream.empty({tokens, value_width}, dtype);
  Tensor log_sum_exp = stream.empty({tokens, layout.heads}, kernels::statistics_dtype(dtype));
  kernels::AttentionForward forward{queries(q.value, layout),
                                    queries(keys, layout),
                                    values(expanded.value, layout),
                                    span.sequences.view(),
                                    outputs(y, layout),
                                    log_sum_exp.view(),
                                    scale,
                                    span.visible_pairs};
  if (cache != nullptr) {
    base::check(!tape.recording(), "attention over a cache has no backward pass");
    const Tensor rows = expanded.value.reshape({tokens * layout.heads, layout.own_dim + layout.value_dim});
    const Tensor dense = stream.convert(rows.columns(layout.own_dim, layout.value_dim), dtype);
    stream.launch(kernels::ScatterRows{keys.view(), cache->rows.view(), cache->keys.view()});
    stream.launch(
        kernels::ScatterRows{dense.reshape({tokens, value_width}).view(), cache->rows.view(), cache->values.view()});
    forward.k = queries(cache->keys, layout);
    forward.v = outputs(cache->values, layout);
  }
  stream.launch(forward);
  auto operation = std::make_unique<LatentAttention>(tape.save(q), tape.save(expanded), tape.save(shared), y,
                                                     std::move(log_sum_exp), layout, scale, span);
  return tape.record(std::move(operation), std::move(y), {q, expanded, shared});
}

}  // namespace flyover::ops
