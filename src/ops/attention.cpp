#include "ops/attention.h"

#include <array>
#include <cmath>
#include <utility>

#include "base/error.h"

namespace flyover::ops {
namespace {

using autograd::BackwardPass;
using autograd::Saved;
using autograd::Tape;
using autograd::Tensor;
using autograd::Variable;

/// The heads [first, first + count) of a fused tensor as [tokens, count, head_dim].
kernels::View heads(const Tensor& fused, const HeadLayout& layout, std::int64_t first, std::int64_t count) {
  return fused.columns(first * layout.head_dim, count * layout.head_dim).split_last(count, layout.head_dim).view();
}
kernels::View queries(const Tensor& qkv, const HeadLayout& layout) {
  return heads(qkv, layout, 0, layout.heads);
}
kernels::View keys(const Tensor& qkv, const HeadLayout& layout) {
  return heads(qkv, layout, layout.heads, layout.kv_heads);
}
kernels::View values(const Tensor& qkv, const HeadLayout& layout) {
  return heads(qkv, layout, layout.heads + layout.kv_heads, layout.kv_heads);
}

float softmax_scale(const HeadLayout& layout) {
  return 1.0f / std::sqrt(static_cast<float>(layout.head_dim));
}

kernels::RopeApply rotation_kernel(const Tensor& x, const RopeAngles& angles, const Rotation& rotation, bool inverse) {
  const std::int64_t count = x.size(1) / rotation.head_dim;
  return {x.split_last(count, rotation.head_dim).view(),
          angles.cosine.view(),
          angles.sine.view(),
          rotation.pairing,
          inverse,
          rotation.first_dimension};
}

class Rope final : public autograd::Operation {
 public:
  Rope(const HeadLayout& layout, RopeAngles angles, kernels::RopePairing pairing)
      : layout_(layout), angles_(std::move(angles)), pairing_(pairing) {}
  std::string_view name() const override { return "rope"; }
  void backward_inputs(BackwardPass& pass) override {
    if (pass.needs(0)) {
      const Tensor gradient = pass.own_output_gradient();
      pass.stream().launch(kernels::RopeApply{heads(gradient, layout_, 0, layout_.heads + layout_.kv_heads),
                                              angles_.cosine.view(), angles_.sine.view(), pairing_, true});
      pass.pass_input_gradient(0, gradient);
    }
  }

 private:
  HeadLayout layout_;
  RopeAngles angles_;
  kernels::RopePairing pairing_;
};

class Attention final : public autograd::Operation {
 public:
  Attention(Saved qkv, Tensor y, Tensor log_sum_exp, const HeadLayout& layout, AttentionSpan span)
      : qkv_(std::move(qkv)),
        y_(std::move(y)),
        log_sum_exp_(std::move(log_sum_exp)),
        layout_(layout),
        span_(std::move(span)) {}
  std::string_view name() const override { return "attention"; }
  void backward_inputs(BackwardPass& pass) override {
    if (!pass.needs(0)) {
      return;
    }
    const Tensor qkv = pass.get(qkv_);
    pass.write_input_gradient(0, [&](const Tensor& gradient) {
      pass.stream().launch(kernels::AttentionBackward{
          queries(qkv, layout_), keys(qkv, layout_), values(qkv, layout_), heads(y_, layout_, 0, layout_.heads),
          log_sum_exp_.view(), heads(pass.output_gradient(), layout_, 0, layout_.heads), span_.sequences.view(),
          queries(gradient, layout_), keys(gradient, layout_), values(gradient, layout_), softmax_scale(layout_),
          span_.visible_pairs});
    });
  }

 private:
  Saved qkv_;
  Tensor y_;
  Tensor log_sum_exp_;
  HeadLayout layout_;
  AttentionSpan span_;
};

class Rotate final : public autograd::Operation {
 public:
  Rotate(RopeAngles angles, const Rotation& rotation) : angles_(std::move(angles)), rotation_(rotation) {}
  std::string_view name() const override { return "rotate"; }
  void backward_inputs(BackwardPass& pass) override {
    if (pass.needs(0)) {
      const Tensor gradient = pass.own_output_gradient();
      pass.stream().launch(rotation_kernel(gradient, angles_, rotation_, !rotation_.inverse));
      pass.pass_input_gradient(0, gradient);
    }
  }

 private:
  RopeAngles angles_;
  Rotation rotation_;
};

/// Attention whose queries, keys and values are tensors of their own.
class SeparateAttention final : public autograd::Operation {
 public:
  SeparateAttention(std::array<Saved, 3> inputs, Tensor y, Tensor log_sum_exp, const HeadLayout& layout, float scale,
                    AttentionSpan span)
      : inputs_(std::move(inputs)),
        y_(std::move(y)),
        log_sum_exp_(std::move(log_sum_exp)),
        layout_(layout),
        scale_(scale),
        span_(std::move(span)) {}
  std::string_view name() const override { return "attention"; }
  void backward_inputs(BackwardPass& pass) override {
    std::array<Tensor, 3> inputs, gradients;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      inputs[i] = pass.get(inputs_[i]);
      gradients[i] = pass.stream().empty(inputs[i].shape(), inputs[i].dtype());
    }
    const auto head_view = [&](const Tensor& tensor, std::int64_t count) { return heads(tensor, layout_, 0, count); };
    pass.stream().launch(kernels::AttentionBackward{
        head_view(inputs[0], layout_.heads), head_view(inputs[1], layout_.kv_heads),
        head_view(inputs[2], layout_.kv_heads), head_view(y_, layout_.heads), log_sum_exp_.view(),
        head_view(pass.output_gradient(), layout_.heads), span_.sequences.view(),
        head_view(gradients[0], layout_.heads), head_view(gradients[1], layout_.kv_heads),
        head_view(gradients[2], layout_.kv_heads), scale_, span_.visible_pairs});
    for (int i = 0; i < 3; ++i) {
      if (pass.needs(i)) {
        pass.pass_input_gradient(i, gradients[static_cast<std::size_t>(i)]);
      }
    }
  }

 private:
  std::array<Saved, 3> inputs_;
  Tensor y_;
  Tensor log_sum_exp_;
  HeadLayout layout_;
  float scale_;
  AttentionSpan span_;
};

/// Writes the batch's keys and values to the cache and makes the attention read them there.
void enter_cache(Tape& tape, const Tensor& k, const Tensor& v, const HeadLayout& layout, const LayerCache& cache,
                 kernels::AttentionForward& forward) {
  base::check(!tape.recording(), "attention over a cache has no backward pass");
  tape.stream().launch(kernels::ScatterRows{k.view(), cache.rows.view(), cache.keys.view()});
  tape.stream().launch(kernels::ScatterRows{v.view(), cache.rows.view(), cache.values.view()});
  forward.k = heads(cache.keys, layout, 0, layout.kv_heads);
  forward.v = heads(cache.values, layout, 0, layout.kv_heads);
}

}  // namespace

Variable rotate(Tape& tape, const Variable& x, const RopeAngles& angles, const Rotation& rotation) {
  tape.stream().launch(rotation_kernel(x.value, angles, rotation, rotation.inverse));
  return tape.record(std::make_unique<Rotate>(angles, rotation), x.value, {x});
}

Variable rotate_copy(Tape& tape, const Variable& x, const RopeAngles& angles, const Rotation& rotation) {
  const Tensor copy = tape.stream().convert(x.value, x.value.dtype());
  tape.stream().launch(rotation_kernel(copy, angles, rotation, rotation.inverse));
  return tape.record(std::make_unique<Rotate>(angles, rotation), copy, {x});
}

Variable attention(Tape& tape, const Variable& q, const Variable& k, const Variable& v, const HeadLayout& layout,
                   float scale, const AttentionSpan& span, const LayerCache* cache) {
  tensor::Stream& stream = tape.stream();
  Tensor y = stream.empty(q.value.shape(), q.value.dtype());
  Tensor log_sum_exp = stream.empty({q.value.size(0), layout.heads}, kernels::statistics_dtype(q.value.dtype()));
  kernels::AttentionForward forward{heads(q.value, layout, 0, layout.heads),
                                    heads(k.value, layout, 0, layout.kv_heads),
                                    heads(v.value, layout, 0, layout.kv_heads),
                                    span.sequences.view(),
                                    heads(y, layout, 0, layout.heads),
                                    log_sum_exp.view(),
                                    scale,
                                    span.visible_pairs};
  if (cache != nullptr) {
    enter_cache(tape, k.value, v.value, layout, *cache, forward);
  }
  stream.launch(forward);
  auto operation = std::make_unique<SeparateAttention>(std::array{tape.save(q), tape.save(k), tape.save(v)}, y,
                                                       std::move(log_sum_exp), layout, scale, span);
  return tape.record(std::move(operation), std::move(y), {q, k, v});
}

Variable rope(Tape& tape, const Variable& qkv, const HeadLayout& layout, const RopeAngles& angles,
              kernels::RopePairing pairing) {
  tape.stream().launch(kernels::RopeApply{heads(qkv.value, layout, 0, layout.heads + layout.kv_heads),
                                          angles.cosine.view(), angles.sine.view(), pairing, false});
  return tape.record(std::make_unique<Rope>(layout, angles, pairing), qkv.value, {qkv});
}

Variable attention(Tape& tape, const Variable& qkv, const HeadLayout& layout, const AttentionSpan& span,
                   const LayerCache* cache) {
  tensor::Stream& stream = tape.stream();
  const Tensor& fused = qkv.value;
  Tensor y = stream.empty({fused.size(0), layout.heads * layout.head_dim}, fused.dtype());
  Tensor log_sum_exp = stream.empty({fused.size(0), layout.heads}, kernels::statistics_dtype(fused.dtype()));
  kernels::AttentionForward forward{queries(fused, layout),
                                    keys(fused, layout),
                                    values(fused, layout),
                                    span.sequences.view(),
                                    heads(y, layout, 0, layout.heads),
                                    log_sum_exp.view(),
                                    softmax_scale(layout),
                                    span.visible_pairs};
  if (cache != nullptr) {
    const std::int64_t width = layout.kv_heads * layout.head_dim;
    const std::int64_t first = layout.heads * layout.head_dim;
    enter_cache(tape, fused.columns(first, width), fused.columns(first + width, width), layout, *cache, forward);
  }
  stream.launch(forward);
  auto operation = std::make_unique<Attention>(tape.save(qkv), y, std::move(log_sum_exp), layout, span);
  return tape.record(std::move(operation), std::move(y), {qkv});
}

}  // namespace flyover::ops
