// Tokens sorted by expert, and products with each expert's own matrix. No expert has a capacity: every row counts.
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

/// Pairs (token, choice), numbered token * choices + choice, sorted by expert; pairs of one expert keep their order.
/// Row r of the sorted list belongs to expert e where offsets[e] <= r < offsets[e + 1].
struct ExpertSort {
  static constexpr std::string_view kName = "expert_sort";
  ConstView experts;         ///< [tokens, choices] i32
  View offsets;              ///< [experts + 1] i32, from 0 to tokens * choices
  View pair_of_row;          ///< [tokens * choices] i32
  View token_of_row;         ///< [tokens * choices] i32
  View row_of_pair;          ///< [tokens, choices] i32
  std::optional<View> load;  ///< [experts] f32: grows by the number of each expert's pairs
  static constexpr auto fields = [](auto&& visit) {
    visit(in("experts", &ExpertSort::experts), out("offsets", &ExpertSort::offsets),
          out("pair_of_row", &ExpertSort::pair_of_row), out("token_of_row", &ExpertSort::token_of_row),
          out("row_of_pair", &ExpertSort::row_of_pair), in_out("load", &ExpertSort::load));
  };
  void check() const;
  Cost cost() const;
};

/// y[i] (+)= sum over j of x[rows[i, j]], summed in fp32 in the order of j and rounded once.
struct GatherSum {
  static constexpr std::string_view kName = "gather_sum";
  ConstView x;     ///< [table_rows, width] bf16 | f32; last axis dense
  ConstView rows;  ///< [count, terms] i32
  View y;          ///< [count, width] as x
  bool accumulate = false;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("x", &GatherSum::x), in("rows", &GatherSum::rows), in_out("y", &GatherSum::y),
          scalar("accumulate", &GatherSum::accumulate));
  };
  void check() const;
  Cost cost() const;
};

/// c[i, j] (+)= sum over k of a[i, k] * b[g, j, k] for the rows offsets[g] <= i < offsets[g + 1] of each group g. Rows
/// behind the last offset are left untouched. With a_rows, row a_rows[i] of a stands for row i. Contract: row i has the
/// bits that MatMul gives it with b[g], whatever the sizes of the groups.
struct GroupedMatMul {
  static constexpr std::string_view kName = "grouped_matmul";
  ConstView a;        ///< [rows, depth] bf16 | f32; last axis dense; with a_rows [any, depth]
  ConstView b;        ///< [groups, columns, depth] as a; the stride of one of the last two axes is 1
  ConstView offsets;  ///< [groups + 1] i32, rising from 0; at most rows
  View c;             ///< [rows, columns] bf16 | f32; last axis dense
  bool accumulate = false;
  std::optional<ConstView> a_rows = std::nullopt;  ///< [rows] i32
  static constexpr auto fields = [](auto&& visit) {
    visit(in("a", &GroupedMatMul::a), in("b", &GroupedMatMul::b), in("offsets", &GroupedMatMul::offsets),
          in_out("c", &GroupedMatMul::c), scalar("accumulate", &GroupedMatMul::accumulate),
          in("a_rows", &GroupedMatMul::a_rows));
  };
  void check() const;
  Cost cost() const;
  /// Rows of the result, those of no group included.
  std::int64_t rows() const { return c.size(0); }
};

/// c[g, i, j] += sum over the rows r of group g of a[r, i] * b[r, j]: the weight gradient of GroupedMatMul with a its
/// output's gradient and b its input. With a_rows, row a_rows[r] of a stands for row r, and b_rows is the same for b.
/// The rows of a group are consumed in an order fixed by their number. A group without rows leaves its matrix as it is.
struct GroupedWeightGradient {
  static constexpr std::string_view kName = "grouped_weight_gradient";
  ConstView a;                                     ///< [rows, out] bf16 | f32; last axis dense; with a_rows [any, out]
  ConstView b;                                     ///< [rows, in] as a; last axis dense; with b_rows [any, in]
  ConstView offsets;                               ///< [groups + 1] i32
  View c;                                          ///< [groups, out, in] f32
  std::optional<ConstView> a_rows = std::nullopt;  ///< [rows] i32
  std::optional<ConstView> b_rows = std::nullopt;  ///< [rows] i32
  static constexpr auto fields = [](auto&& visit) {
    visit(in("a", &GroupedWeightGradient::a), in("b", &GroupedWeightGradient::b),
          in("offsets", &GroupedWeightGradient::offsets), in_out("c", &GroupedWeightGradient::c),
          in("a_rows", &GroupedWeightGradient::a_rows), in("b_rows", &GroupedWeightGradient::b_rows));
  };
  void check() const;
  Cost cost() const;
  /// Rows that are summed over, and those that belong to no group.
  std::int64_t rows() const { return a_rows.has_value() ? a_rows->size(0) : a.size(0); }
};

}  // namespace flyover::kernels
