// Gated activations of feed-forward blocks (Shazeer, "GLU Variants Improve Transformer", 2020).
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

/// y = silu(gate) * up, with silu(g) = g / (1 + exp(-g)), in fp32.
struct SwiGluForward {
  static constexpr std::string_view kName = "swiglu_forward";
  ConstView gate_up;  ///< [rows, 2 * width] bf16 | f32: gate in the first half, up in the second
  View y;             ///< [rows, width] as gate_up
  static constexpr auto fields = std::tuple(in("gate_up", &SwiGluForward::gate_up), out("y", &SwiGluForward::y));
  void check() const;
  Cost cost() const;
};

/// With s = 1 / (1 + exp(-gate)): dgate = dy * up * s * (1 + gate * (1 - s)), dup = dy * gate * s.
struct SwiGluBackward {
  static constexpr std::string_view kName = "swiglu_backward";
  ConstView gate_up;  ///< [rows, 2 * width] bf16 | f32
  ConstView dy;       ///< [rows, width] as gate_up
  View dgate_up;      ///< [rows, 2 * width] as gate_up
  static constexpr auto fields = std::tuple(in("gate_up", &SwiGluBackward::gate_up), in("dy", &SwiGluBackward::dy),
                                            out("dgate_up", &SwiGluBackward::dgate_up));
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
