// The parts of Muon beside matrix products (Jordan et al., "Muon: An optimizer for hidden layers in neural networks",
// 2024): momentum, the norms of a stack of matrices, polynomials of matrices, and the update of the weights.
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

/// Momentum and Nesterov's look-ahead, fused: g = gradient * gradient_scale; momentum = mu * momentum + g;
/// direction = mu * momentum + g with the momentum before it is rounded.
struct MuonMomentum {
  static constexpr std::string_view kName = "muon_momentum";
  ConstView gradient;        ///< [matrices, elements] f32; last axis dense
  ConstView gradient_scale;  ///< [1] f32: the clipping coefficient
  View momentum;             ///< [matrices, elements] f32 | bf16; last axis dense
  View direction;            ///< [matrices, elements] f32 | bf16; last axis dense
  float mu = 0.95f;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("gradient", &MuonMomentum::gradient), in("gradient_scale", &MuonMomentum::gradient_scale),
          in_out("momentum", &MuonMomentum::momentum), out("direction", &MuonMomentum::direction),
          scalar("mu", &MuonMomentum::mu));
  };
  void check() const;
  Cost cost() const;
};

/// y = x / ||x||_F for each matrix; zeros where the sum of squares is 0 in fp32. Squares are summed in an order fixed
/// by the shape of a matrix: it gets the same bits in every stack.
struct NormaliseMatrices {
  static constexpr std::string_view kName = "normalise_matrices";
  ConstView x;  ///< [matrices, rows, columns] bf16 | f32; last axis dense
  View y;       ///< [matrices, rows, columns] as x; the stride of one of the last two axes is 1
  static constexpr auto fields = [](auto&& visit) {
    visit(in("x", &NormaliseMatrices::x), out("y", &NormaliseMatrices::y));
  };
  void check() const;
  Cost cost() const;
};

/// c = a a' for each matrix. Contract: c is symmetric to the bit, and has the bits that MatMul gives to the product of
/// the matrix with itself: the half that is computed and the half that is copied are the same sums.
struct GramMatrices {
  static constexpr std::string_view kName = "gram_matrices";
  ConstView a;  ///< [matrices, rows, depth] bf16 | f32; last axis dense
  View c;       ///< [matrices, rows, rows] as a; last axis dense
  static constexpr auto fields = [](auto&& visit) { visit(in("a", &GramMatrices::a), out("c", &GramMatrices::c)); };
  void check() const;
  /// Operations of the half on and below the diagonal.
  Cost cost() const;
};

/// y = alpha * x + beta * z in fp32, rounded once. y may be x or z.
struct LinearCombination {
  static constexpr std::string_view kName = "linear_combination";
  ConstView x;  ///< [rows, width] bf16 | f32; last axis dense
  ConstView z;  ///< [rows, width] as x; last axis dense
  View y;       ///< [rows, width] as x; last axis dense
  float alpha = 1.0f;
  float beta = 1.0f;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("x", &LinearCombination::x), in("z", &LinearCombination::z), out("y", &LinearCombination::y),
          scalar("alpha", &LinearCombination::alpha), scalar("beta", &LinearCombination::beta));
  };
  void check() const;
  Cost cost() const;
};

/// weight -= learning_rate * (scale * direction + weight_decay * weight); then `parameter`, where present, gets the
/// weight in its own type.
struct MuonUpdate {
  static constexpr std::string_view kName = "muon_update";
  ConstView direction;            ///< [matrices, rows, columns] bf16 | f32; the stride of one of the last two axes is 1
  View weight;                    ///< [matrices, rows, columns] f32 master weights; last axis dense
  std::optional<View> parameter;  ///< [matrices, rows, columns] bf16; last axis dense
  float learning_rate = 0.0f;
  float weight_decay = 0.0f;
  float scale = 1.0f;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("direction", &MuonUpdate::direction), in_out("weight", &MuonUpdate::weight),
          out("parameter", &MuonUpdate::parameter), scalar("learning_rate", &MuonUpdate::learning_rate),
          scalar("weight_decay", &MuonUpdate::weight_decay), scalar("scale", &MuonUpdate::scale));
  };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
