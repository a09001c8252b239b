// Optimizer steps and the global gradient norm.
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

/// AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019) on one dense parameter, fused:
/// g = gradient * gradient_scale; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
/// weight -= learning_rate * (m / correction1 / (sqrt(v / correction2) + epsilon) + weight_decay * weight);
/// then `parameter`, where present, gets the weight in its own type. The step is computed from the moments before they
/// are rounded.
struct AdamW {
  static constexpr std::string_view kName = "adamw";
  ConstView gradient;             ///< [count] f32
  ConstView gradient_scale;       ///< [1] f32: the clipping coefficient
  View weight;                    ///< [count] f32 master weights
  View first_moment;              ///< [count] f32 | bf16
  View second_moment;             ///< [count] as first_moment
  std::optional<View> parameter;  ///< [count] bf16: the copy that the model computes with
  float learning_rate = 0.0f;
  float beta1 = 0.9f;
  float beta2 = 0.999f;
  float epsilon = 1e-8f;
  float weight_decay = 0.0f;
  float correction1 = 1.0f;  ///< 1 - beta1^step
  float correction2 = 1.0f;  ///< 1 - beta2^step
  static constexpr auto fields = [](auto&& visit) {
    visit(in("gradient", &AdamW::gradient), in("gradient_scale", &AdamW::gradient_scale),
          in_out("weight", &AdamW::weight), in_out("first_moment", &AdamW::first_moment),
          in_out("second_moment", &AdamW::second_moment), out("parameter", &AdamW::parameter),
          scalar("learning_rate", &AdamW::learning_rate), scalar("beta1", &AdamW::beta1),
          scalar("beta2", &AdamW::beta2), scalar("epsilon", &AdamW::epsilon),
          scalar("weight_decay", &AdamW::weight_decay), scalar("correction1", &AdamW::correction1),
          scalar("correction2", &AdamW::correction2));
  };
  void check() const;
  Cost cost() const;
};

/// sum = sum of x^2, blocks of fixed size summed in order.
struct SumOfSquares {
  static constexpr std::string_view kName = "sum_of_squares";
  ConstView x;  ///< [count] bf16 | f32, dense
  View sum;     ///< [1] f32
  static constexpr auto fields = [](auto&& visit) { visit(in("x", &SumOfSquares::x), out("sum", &SumOfSquares::sum)); };
  void check() const;
  Cost cost() const;
};

/// norm = sqrt(sum of the partial sums, in order); coefficient = min(1, max_norm / norm), or 1 where max_norm <= 0
/// (no clipping).
struct ClipCoefficient {
  static constexpr std::string_view kName = "clip_coefficient";
  ConstView sums_of_squares;  ///< [parameters] f32
  View norm;                  ///< [1] f32
  View coefficient;           ///< [1] f32
  float max_norm = 0.0f;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("sums_of_squares", &ClipCoefficient::sums_of_squares), out("norm", &ClipCoefficient::norm),
          out("coefficient", &ClipCoefficient::coefficient), scalar("max_norm", &ClipCoefficient::max_norm));
  };
  void check() const;
  Cost cost() const;
};

/// index = the first i with x[i] infinite or NaN, or -1. For naming the culprit after a non-finite step.
struct FindNonFinite {
  static constexpr std::string_view kName = "find_non_finite";
  ConstView x;  ///< [count] bf16 | f32, dense
  View index;   ///< [1] i64
  static constexpr auto fields = [](auto&& visit) {
    visit(in("x", &FindNonFinite::x), out("index", &FindNonFinite::index));
  };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
