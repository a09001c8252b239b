// Root-mean-square normalisation (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019).
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

/// y = x * rstd * weight with rstd = 1 / sqrt(mean(x^2) + epsilon), per row. Statistics and products in fp32.
struct RmsNormForward {
  static constexpr std::string_view kName = "rms_norm_forward";
  ConstView x;                      ///< [rows, width] bf16 | f32
  std::optional<ConstView> weight;  ///< [width] as x; absent = unweighted
  View y;                           ///< [rows, width] as x
  View rstd;                        ///< [rows] f32
  float epsilon = 0.0f;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("x", &RmsNormForward::x), in("weight", &RmsNormForward::weight), out("y", &RmsNormForward::y),
          out("rstd", &RmsNormForward::rstd), scalar("epsilon", &RmsNormForward::epsilon));
  };
  void check() const;
  Cost cost() const;
};

/// Input gradient: with g = dy * weight, dx (+)= rstd * (g - x * rstd^2 * mean(g * x)).
struct RmsNormBackward {
  static constexpr std::string_view kName = "rms_norm_backward";
  ConstView x;                      ///< [rows, width] bf16 | f32
  std::optional<ConstView> weight;  ///< [width] as x
  ConstView rstd;                   ///< [rows] f32, from the forward pass
  ConstView dy;                     ///< [rows, width] as x
  View dx;                          ///< [rows, width] as x
  bool accumulate = false;          ///< add to dx instead of overwriting it
  static constexpr auto fields = [](auto&& visit) {
    visit(in("x", &RmsNormBackward::x), in("weight", &RmsNormBackward::weight), in("rstd", &RmsNormBackward::rstd),
          in("dy", &RmsNormBackward::dy), in_out("dx", &RmsNormBackward::dx),
          scalar("accumulate", &RmsNormBackward::accumulate));
  };
  void check() const;
  Cost cost() const;
};

/// Weight gradient: dweight += sum over rows of dy * x * rstd, rows summed in an order fixed by their number.
struct RmsNormWeightGradient {
  static constexpr std::string_view kName = "rms_norm_weight_gradient";
  ConstView x;     ///< [rows, width] bf16 | f32
  ConstView rstd;  ///< [rows] f32
  ConstView dy;    ///< [rows, width] as x
  View dweight;    ///< [width] f32
  static constexpr auto fields = [](auto&& visit) {
    visit(in("x", &RmsNormWeightGradient::x), in("rstd", &RmsNormWeightGradient::rstd),
          in("dy", &RmsNormWeightGradient::dy), in_out("dweight", &RmsNormWeightGradient::dweight));
  };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
