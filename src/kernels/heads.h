// Heads that have a part of their own and a part that all of them share (multi-head latent attention: DeepSeek-AI,
// "DeepSeek-V2", 2024, section 2.1).
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

/// y[t, h] = (own[t, h], shared[t]), one behind the other.
struct JoinHeads {
  static constexpr std::string_view kName = "join_heads";
  ConstView own;     ///< [tokens, heads, own_width] bf16 | f32; last axis dense
  ConstView shared;  ///< [tokens, shared_width] as own; last axis dense
  View y;            ///< [tokens, heads, own_width + shared_width] as own; last axis dense
  static constexpr auto fields = [](auto&& visit) {
    visit(in("own", &JoinHeads::own), in("shared", &JoinHeads::shared), out("y", &JoinHeads::y));
  };
  void check() const;
  Cost cost() const;
};

/// Gradients of JoinHeads: down[t, h] = the first part of dy[t, h]; dshared[t] = sum over h of the second, summed in
/// fp32 in the order of the heads and rounded once.
struct JoinHeadsBackward {
  static constexpr std::string_view kName = "join_heads_backward";
  ConstView dy;  ///< [tokens, heads, own_width + shared_width] bf16 | f32; last axis dense
  View down;     ///< [tokens, heads, own_width] as dy; last axis dense
  View dshared;  ///< [tokens, shared_width] as dy; last axis dense
  static constexpr auto fields = [](auto&& visit) {
    visit(in("dy", &JoinHeadsBackward::dy), out("down", &JoinHeadsBackward::down),
          out("dshared", &JoinHeadsBackward::dshared));
  };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
