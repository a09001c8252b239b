#include "nn/layers.h"

#include "ops/elementwise.h"
#include "ops/linear.h"
#include "ops/norm.h"

namespace flyover::nn {

Variable Linear::operator()(Tape& tape, const Variable& x) const {
  return ops::linear(tape, x, weight, bias);
}

Variable RmsNorm::operator()(Tape& tape, const Variable& x) const {
  return ops::rms_norm(tape, x, weight, epsilon);
}

Variable GroupedQueryAttention::operator()(Tape& tape, const Variable& x, const ops::RopeAngles& angles,
                                           const ops::AttentionSpan& span, const ops::LayerCache* cache) const {
  const tensor::PartScope scope(tape.stream(), tensor::Part::kAttention);
  const Variable fused = ops::rope(tape, qkv(tape, x), layout, angles, kernels::RopePairing::kHalves);
  return output(tape, ops::attention(tape, fused, layout, span, cache));
}

Variable GatedMlp::operator()(Tape& tape, const Variable& x) const {
  const tensor::PartScope scope(tape.stream(), tensor::Part::kMlp);
  return down(tape, ops::swiglu(tape, gate_up(tape, x), {limit, {}}));
}

}  // namespace flyover::nn
