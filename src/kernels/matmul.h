// Matrix products. The contract of design section 4 is stated here and tested in
// tests/devices/matmul_contract_test.cpp.
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

/// c[i, j] = (accumulate ? c[i, j] : 0) + sum over k of a[i, k] * b[j, k].
///
/// Contract: the order in which k is consumed is fixed by (depth, dtype, kernel) alone. A row of c has the same bits
/// whatever the other rows are, however many there are, and however many threads work. The sum is kept in fp32 (f64 for
/// f64); `accumulate` adds the finished sum to the old value of c and rounds once.
struct MatMul {
  static constexpr std::string_view kName = "matmul";
  ConstView a;              ///< [rows, depth] bf16 | f32; one of the two strides is 1
  ConstView b;              ///< [columns, depth] as a; one of the two strides is 1
  View c;                   ///< [rows, columns] bf16 | f32; last axis dense
  bool accumulate = false;  ///< add to c instead of overwriting it
  static constexpr auto fields = [](auto&& visit) {
    visit(in("a", &MatMul::a), in("b", &MatMul::b), in_out("c", &MatMul::c), scalar("accumulate", &MatMul::accumulate));
  };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
