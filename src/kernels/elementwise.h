// Filling, copying with conversion, and adding.
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

/// y = value everywhere.
struct Fill {
  static constexpr std::string_view kName = "fill";
  View y;  ///< up to rank 2, any type; last axis dense
  double value = 0.0;
  static constexpr auto fields = [](auto&& visit) { visit(out("y", &Fill::y), scalar("value", &Fill::value)); };
  void check() const;
  Cost cost() const;
};

/// y = x, converted to the type of y (to nearest, ties to even).
struct Copy {
  static constexpr std::string_view kName = "copy";
  ConstView x;  ///< [rows, width] bf16 | f32 | f64, or any type equal to that of y; last axis dense
  View y;       ///< [rows, width]; last axis dense
  static constexpr auto fields = [](auto&& visit) { visit(in("x", &Copy::x), out("y", &Copy::y)); };
  void check() const;
  Cost cost() const;
};

/// y = a + b, added in fp32 and rounded once. y may be a or b.
struct Add {
  static constexpr std::string_view kName = "add";
  ConstView a;  ///< [rows, width] bf16 | f32; last axis dense
  ConstView b;  ///< [rows, width] as a
  View y;       ///< [rows, width] as a
  static constexpr auto fields = [](auto&& visit) { visit(in("a", &Add::a), in("b", &Add::b), out("y", &Add::y)); };
  void check() const;
  Cost cost() const;
};

/// y = factor * x, rounded once. y may be x.
struct Scale {
  static constexpr std::string_view kName = "scale";
  ConstView x;  ///< [rows, width] bf16 | f32; last axis dense
  View y;       ///< [rows, width] as x
  float factor = 1.0f;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("x", &Scale::x), out("y", &Scale::y), scalar("factor", &Scale::factor));
  };
  void check() const;
  Cost cost() const;
};

/// y = x + bias on every row.
struct AddBias {
  static constexpr std::string_view kName = "add_bias";
  ConstView bias;  ///< [width] as y
  View y;          ///< [rows, width] bf16 | f32; last axis dense
  static constexpr auto fields = [](auto&& visit) { visit(in("bias", &AddBias::bias), in_out("y", &AddBias::y)); };
  void check() const;
  Cost cost() const;
};

/// sum += sum over the rows of x, in an order fixed by their number: the gradient of AddBias.
struct SumRows {
  static constexpr std::string_view kName = "sum_rows";
  ConstView x;  ///< [rows, width] bf16 | f32; last axis dense
  View sum;     ///< [width] f32
  static constexpr auto fields = [](auto&& visit) { visit(in("x", &SumRows::x), in_out("sum", &SumRows::sum)); };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
