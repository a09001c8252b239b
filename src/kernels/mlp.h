// Gated activations of feed-forward blocks (Shazeer, "GLU Variants Improve Transformer", 2020).
#pragma once

#include <limits>

#include "kernels/cost.h"

namespace flyover::kernels {

/// y = row_weight * silu(gate) * up, with silu(g) = g / (1 + exp(-g)), in fp32. With a limit the gate is at most the
/// limit and up between -limit and limit (DeepSeek-V4 report, section 4.2).
struct SwiGluForward {
  static constexpr std::string_view kName = "swiglu_forward";
  ConstView gate_up;  ///< [rows, 2 * width] bf16 | f32: gate in the first half, up in the second
  View y;             ///< [rows, width] as gate_up
  std::optional<ConstView> row_weights = std::nullopt;  ///< [rows] f32 (f64); absent = 1
  float limit = std::numeric_limits<float>::infinity();
  static constexpr auto fields = [](auto&& visit) {
    visit(in("gate_up", &SwiGluForward::gate_up), out("y", &SwiGluForward::y),
          in("row_weights", &SwiGluForward::row_weights), scalar("limit", &SwiGluForward::limit));
  };
  void check() const;
  Cost cost() const;
};

/// With gate and up after the limit, s = 1 / (1 + exp(-gate)) and g = dy * row_weight: dgate = g * up * s * (1 + gate *
/// (1 - s)), dup = g * gate * s, each 0 where the limit cut (gate > limit; |up| > limit); drow_weight = sum over the
/// row of dy * silu(gate) * up, in an order fixed by the width.
struct SwiGluBackward {
  static constexpr std::string_view kName = "swiglu_backward";
  ConstView gate_up;                                    ///< [rows, 2 * width] bf16 | f32
  ConstView dy;                                         ///< [rows, width] as gate_up
  View dgate_up;                                        ///< [rows, 2 * width] as gate_up
  std::optional<ConstView> row_weights = std::nullopt;  ///< [rows] f32 (f64)
  std::optional<View> drow_weights = std::nullopt;      ///< [rows] as row_weights; present with them
  float limit = std::numeric_limits<float>::infinity();
  static constexpr auto fields = [](auto&& visit) {
    visit(in("gate_up", &SwiGluBackward::gate_up), in("dy", &SwiGluBackward::dy),
          out("dgate_up", &SwiGluBackward::dgate_up), in("row_weights", &SwiGluBackward::row_weights),
          out("drow_weights", &SwiGluBackward::drow_weights), scalar("limit", &SwiGluBackward::limit));
  };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
