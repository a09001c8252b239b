// Cases of the kernels of kernels/experts.h.
#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "devices/support/kernel_cases.h"

namespace flyover::tests {

using kernels::DType;
using kernels::View;
using Magnitudes = std::vector<Magnitude>;

namespace {

/// Groups of rows of any size, many of them empty; at times one has all rows, at times some rows belong to none.
View make_offsets(OperandMaker& make, std::int64_t groups, std::int64_t rows) {
  const std::int64_t used = make.coin() ? rows : make.below(rows + 1);
  const bool one_has_all = make.below(5) == 0;
  std::vector<std::int64_t> cuts = {0, used};
  for (std::int64_t i = 1; i < groups; ++i) {
    cuts.push_back(one_has_all ? make.one_of<std::int64_t>({0, used}) : make.below(used + 1));
  }
  std::sort(cuts.begin(), cuts.end());
  const View offsets = make.blank(DType::kI32, {groups + 1});
  for (std::int64_t i = 0; i <= groups; ++i) {
    set_element(offsets, i, static_cast<double>(cuts[static_cast<std::size_t>(i)]));
  }
  return offsets;
}

/// Now and then more than fit in one block of a product's depth or of a sort.
bool is_large(const OperandMaker& make) {
  return make.number() % 16 == 7;
}

/// Now and then as many columns as need several blocks of a product.
bool is_wide(const OperandMaker& make) {
  return make.number() % 16 == 11;
}

/// [groups, columns, depth], either of the last two axes dense.
View make_matrices(OperandMaker& make, DType dtype, std::int64_t groups, std::int64_t columns, std::int64_t depth) {
  if (make.coin()) {
    return make.random(dtype, {groups, columns, depth}, Layout::kGaps);
  }
  View view = make.random(dtype, {groups, depth, columns}, Layout::kGaps);
  std::swap(view.shape[1], view.shape[2]);
  std::swap(view.strides[1], view.strides[2]);
  return view;
}

/// A matrix of which a kernel takes `rows` rows, and which ones: all in order, or any of a table, some of them often.
struct ChosenRows {
  View table;
  std::optional<kernels::ConstView> rows;
};

ChosenRows make_rows(OperandMaker& make, DType dtype, std::int64_t rows, std::int64_t width) {
  if (make.coin()) {
    return {make.random(dtype, {rows, width}, Layout::kGaps), std::nullopt};
  }
  const std::int64_t table_rows = make.size(60);
  const View chosen = make.blank(DType::kI32, {rows});
  for (std::int64_t i = 0; i < rows; ++i) {
    set_element(chosen, i, static_cast<double>(make.below(table_rows)));
  }
  return {make.random(dtype, {table_rows, width}, Layout::kGaps), chosen};
}

}  // namespace

Magnitudes make_case(OperandMaker& make, DType, kernels::ExpertSort& kernel) {
  const std::int64_t tokens = is_large(make) ? 3000 + make.below(100) : make.count(70), choices = make.size(6);
  const std::int64_t experts = make.size(90), pairs = tokens * choices;
  const View chosen = make.blank(DType::kI32, {tokens, choices});
  const std::int64_t popular = 1 + make.below(experts);
  for (std::int64_t i = 0; i < pairs; ++i) {
    set_element(chosen, i, static_cast<double>(make.below(make.coin() ? popular : experts)));
  }
  kernel.experts = chosen;
  kernel.offsets = make.blank(DType::kI32, {experts + 1});
  kernel.pair_of_row = make.blank(DType::kI32, {pairs});
  kernel.token_of_row = make.blank(DType::kI32, {pairs});
  kernel.row_of_pair = make.blank(DType::kI32, {tokens, choices});
  if (make.coin()) {
    const View load = make.blank(DType::kF32, {experts});
    for (std::int64_t i = 0; i < experts; ++i) {
      set_element(load, i, static_cast<double>(make.below(1000)));
    }
    kernel.load = load;
  }
  return {};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::GatherSum& kernel) {
  const std::int64_t table_rows = make.size(60), count = make.count(80), width = make.size(200);
  const std::int64_t terms = make.number() == 2 ? 0 : make.size(9);
  const View rows = make.blank(DType::kI32, {count, terms});
  for (std::int64_t i = 0; i < rows.elements(); ++i) {
    set_element(rows, i, static_cast<double>(make.below(table_rows)));
  }
  kernel.x = make.random(dtype, {table_rows, width}, Layout::kGaps);
  kernel.rows = rows;
  kernel.accumulate = make.coin();
  kernel.y = kernel.accumulate ? make.random(dtype, {count, width}, Layout::kGaps)
                               : make.blank(dtype, {count, width}, Layout::kGaps);
  return {{"y", std::sqrt(static_cast<double>(terms + 1))}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::GroupedMatMul& kernel) {
  const std::int64_t rows = make.count(make.coin() ? 40 : 150);
  const std::int64_t columns = is_wide(make) ? 1000 + make.below(50) : make.size(70);
  const std::int64_t groups = make.size(is_wide(make) ? 3 : 12);
  const std::int64_t depth = make.number() == 2 ? 0 : is_large(make) ? 1600 + make.below(20) : make.size(90);
  const DType result = dtype == DType::kF64 ? dtype : make.one_of({dtype, dtype, DType::kF32, DType::kBf16});
  const ChosenRows a = make_rows(make, dtype, rows, depth);
  kernel.a = a.table;
  kernel.a_rows = a.rows;
  kernel.b = make_matrices(make, dtype, groups, columns, depth);
  kernel.offsets = make_offsets(make, groups, rows);
  kernel.accumulate = make.number() > 2 && make.coin();
  // What lies behind the last offset must stay what it is.
  kernel.c = kernel.accumulate ? make.random(result, {rows, columns}, Layout::kGaps)
                               : make.blank(result, {rows, columns}, Layout::kGaps);
  return {{"c", std::sqrt(static_cast<double>(depth))}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::GroupedWeightGradient& kernel) {
  const std::int64_t rows = is_large(make) ? 1600 + make.below(200) : make.count(make.coin() ? 40 : 300);
  const std::int64_t out = is_wide(make) ? 600 + make.below(50) : make.size(70), in = make.size(70);
  const std::int64_t groups = make.size(is_wide(make) ? 3 : 12);
  const ChosenRows a = make_rows(make, dtype, rows, out), b = make_rows(make, dtype, rows, in);
  kernel.a = a.table;
  kernel.a_rows = a.rows;
  kernel.b = b.table;
  kernel.b_rows = b.rows;
  kernel.offsets = make_offsets(make, groups, rows);
  kernel.c = make.random(kernels::statistics_dtype(dtype), {groups, out, in}, Layout::kGaps);
  return {{"c", std::sqrt(static_cast<double>(rows)) + 1.0}};
}

}  // namespace flyover::tests
