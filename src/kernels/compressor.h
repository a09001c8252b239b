// Pooling of windows of tokens into compressed entries (DeepSeek-V4 report, section 2.3).
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

/// Pools slots of tokens into entries by a softmax over the slots, separately per channel:
///   y[e, d] = sum over s of a_s values[rows[e, s], role(s) * width + d],
///   a = softmax over s of (gates[rows[e, s], role(s) * width + d] + position_bias[s mod window, role(s) * width + d]),
/// with role(s) = s / window. A slot whose row is negative takes no part. With one role the slots are the tokens of the
/// entry's window; with two (overlap) the slots of role 0 are those of the window before it, those of role 1 its own.
struct CompressForward {
  static constexpr std::string_view kName = "compress_forward";
  ConstView values;         ///< [tokens, roles * width] f32 (f64); last axis dense
  ConstView gates;          ///< [tokens, roles * width] as values; last axis dense
  ConstView position_bias;  ///< [window, roles * width] as values; dense
  ConstView rows;           ///< [entries, roles * window] i32; dense; in each row at least one that is not negative
  View y;                   ///< [entries, width] bf16 | f32 (f64); last axis dense
  static constexpr auto fields = [](auto&& visit) {
    visit(in("values", &CompressForward::values), in("gates", &CompressForward::gates),
          in("position_bias", &CompressForward::position_bias), in("rows", &CompressForward::rows),
          out("y", &CompressForward::y));
  };
  void check() const;
  Cost cost() const;
};

/// With u the pooled value in fp32: dvalue_s = a_s * dy, dgate_s = a_s * (value_s - u) * dy. Each (token, role) belongs
/// to at most one slot; those that belong to none get 0.
struct CompressBackward {
  static constexpr std::string_view kName = "compress_backward";
  ConstView values;         ///< [tokens, roles * width] f32 (f64); last axis dense
  ConstView gates;          ///< [tokens, roles * width] as values; last axis dense
  ConstView position_bias;  ///< [window, roles * width] as values; dense
  ConstView rows;           ///< [entries, roles * window] i32; dense
  ConstView dy;             ///< [entries, width] bf16 | f32 (f64); last axis dense
  View dvalues;             ///< [tokens, roles * width] as values, overwritten; last axis dense
  View dgates;              ///< [tokens, roles * width] as values, overwritten; last axis dense
  static constexpr auto fields = [](auto&& visit) {
    visit(in("values", &CompressBackward::values), in("gates", &CompressBackward::gates),
          in("position_bias", &CompressBackward::position_bias), in("rows", &CompressBackward::rows),
          in("dy", &CompressBackward::dy), out("dvalues", &CompressBackward::dvalues),
          out("dgates", &CompressBackward::dgates));
  };
  void check() const;
  Cost cost() const;
};

/// dposition_bias[i, c] += sum over the entries, in an order fixed by their number, of dgates[rows[e, s], c] with s the
/// slot of c's role and window position i.
struct CompressPositionGradient {
  static constexpr std::string_view kName = "compress_position_gradient";
  ConstView dgates;     ///< [tokens, roles * width] f32 (f64); last axis dense
  ConstView rows;       ///< [entries, roles * window] i32; dense
  View dposition_bias;  ///< [window, roles * width] as dgates; dense
  static constexpr auto fields = [](auto&& visit) {
    visit(in("dgates", &CompressPositionGradient::dgates), in("rows", &CompressPositionGradient::rows),
          in_out("dposition_bias", &CompressPositionGradient::dposition_bias));
  };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
