// Rows moved by index: embedding look-up and its gradient, gathers of hidden states, writes into caches.
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

/// y[i] = table[rows[i]]. Indices outside the table are a bug above; host devices check them.
struct GatherRows {
  static constexpr std::string_view kName = "gather_rows";
  ConstView table;  ///< [table_rows, width] any type; last axis dense
  ConstView rows;   ///< [count] i32
  View y;           ///< [count, width] as table
  static constexpr auto fields = [](auto&& visit) {
    visit(in("table", &GatherRows::table), in("rows", &GatherRows::rows), out("y", &GatherRows::y));
  };
  void check() const;
  Cost cost() const;
};

/// table[rows[i]] = x[i]; the rows are distinct.
struct ScatterRows {
  static constexpr std::string_view kName = "scatter_rows";
  ConstView x;     ///< [count, width] any type
  ConstView rows;  ///< [count] i32
  View table;      ///< [table_rows, width] as x
  static constexpr auto fields = [](auto&& visit) {
    visit(in("x", &ScatterRows::x), in("rows", &ScatterRows::rows), in_out("table", &ScatterRows::table));
  };
  void check() const;
  Cost cost() const;
};

/// table[rows[i]] += x[i], in increasing i for each row of the table: the gradient of GatherRows.
struct ScatterAddRows {
  static constexpr std::string_view kName = "scatter_add_rows";
  ConstView x;     ///< [count, width] bf16 | f32
  ConstView rows;  ///< [count] i32; repeated rows add up
  View table;      ///< [table_rows, width] f32
  static constexpr auto fields = [](auto&& visit) {
    visit(in("x", &ScatterAddRows::x), in("rows", &ScatterAddRows::rows), in_out("table", &ScatterAddRows::table));
  };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
