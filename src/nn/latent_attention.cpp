#include "nn/latent_attention.h"

#include "ops/columns.h"

namespace flyover::nn {

Variable LatentAttention::operator()(Tape& tape, const Variable& x, const ops::RopeAngles& angles,
                                     const ops::AttentionSpan& span, const ops::LayerCache* cache) const {
  const tensor::PartScope scope(tape.stream(), tensor::Part::kAttention);
  const Variable query_source = query_down ? (*query_norm)(tape, (*query_down)(tape, x)) : x;
  const Variable q =
      ops::rotate(tape, query_up(tape, query_source), angles, {layout.head_dim(), layout.own_dim, pairing, false});
  const Variable latent_and_key = key_value_down(tape, x);
  const Variable latent = key_value_norm(tape, ops::columns(tape, latent_and_key, 0, rank));
  const Variable shared_key = ops::rotate(tape, ops::columns(tape, latent_and_key, rank, layout.shared_dim), angles,
                                          {layout.shared_dim, 0, pairing, false});
  const Variable attended =
      ops::latent_attention(tape, q, key_value_up(tape, latent), shared_key, layout, scale, span, cache);
  return output(tape, attended);
}

}  // namespace flyover::nn
