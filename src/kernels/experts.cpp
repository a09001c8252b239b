#include "kernels/experts.h"

#include <cstdint>
#include <limits>

#include "kernels/checks.h"

namespace flyover::kernels {
namespace {

void check_indices(std::string_view kernel, std::string_view field, const ConstView& view,
                   std::initializer_list<std::int64_t> shape) {
  check_shape(kernel, field, view, shape);
  check_dtype(kernel, field, view, {DType::kI32});
  check_dense(kernel, field, view);
}

void check_matrix(std::string_view kernel, std::string_view field, const ConstView& view) {
  check_shape(kernel, field, view, {-1, -1});
  check_floating(kernel, field, view);
  check_last_axis_dense(kernel, field, view);
}

void check_rows(std::string_view kernel, std::string_view field, const std::optional<ConstView>& rows,
                std::int64_t count) {
  if (rows.has_value()) {
    check_indices(kernel, field, *rows, {count});
  }
}

/// Bytes that are read of an operand of which so many rows are used, and of the indices that say which.
std::int64_t row_bytes(const ConstView& view, const std::optional<ConstView>& rows, std::int64_t count) {
  const auto indices = rows.has_value() ? static_cast<std::int64_t>(rows->bytes()) : 0;
  return count * view.size(1) * static_cast<std::int64_t>(size_of(view.dtype)) + indices;
}

bool has_unit_stride(const ConstView& b) {
  return b.stride(2) == 1 || b.stride(1) == 1 || b.size(1) <= 1 || b.size(2) <= 1;
}

}  // namespace

void ExpertSort::check() const {
  const std::int64_t pairs = experts.elements();
  check_indices(kName, "experts", experts, {-1, -1});
  check_indices(kName, "offsets", offsets, {-1});
  check_view(offsets.size(0) >= 2, kName, "offsets must be those of at least one expert", offsets);
  check_view(pairs <= std::numeric_limits<std::int32_t>::max(), kName, "too many pairs for 32 bits", experts);
  check_indices(kName, "pair_of_row", pair_of_row, {pairs});
  check_indices(kName, "token_of_row", token_of_row, {pairs});
  check_indices(kName, "row_of_pair", row_of_pair, {experts.size(0), experts.size(1)});
  if (load.has_value()) {
    check_shape(kName, "load", *load, {offsets.size(0) - 1});
    check_dtype(kName, "load", *load, {DType::kF32});
    check_dense(kName, "load", *load);
  }
}
Cost ExpertSort::cost() const {
  return {0, operand_bytes(*this)};
}

void GatherSum::check() const {
  check_matrix(kName, "x", x);
  check_indices(kName, "rows", rows, {-1, -1});
  check_shape(kName, "y", y, {rows.size(0), x.size(1)});
  check_dtype(kName, "y", y, {x.dtype});
  check_last_axis_dense(kName, "y", y);
}
Cost GatherSum::cost() const {
  const std::int64_t terms = rows.elements() * x.size(1);
  return {terms, terms * static_cast<std::int64_t>(size_of(x.dtype)) +
                     static_cast<std::int64_t>(rows.bytes() + y.bytes() * (accumulate ? 2 : 1))};
}

void GroupedMatMul::check() const {
  check_matrix(kName, "a", a);
  check_shape(kName, "b", b, {-1, -1, a.size(1)});
  check_dtype(kName, "b", b, {a.dtype});
  check_view(has_unit_stride(b), kName, "b needs a stride of 1 on one of its last two axes", b);
  check_indices(kName, "offsets", offsets, {b.size(0) + 1});
  check_matrix(kName, "c", c);
  check_shape(kName, "c", c, {a_rows.has_value() ? c.size(0) : a.size(0), b.size(1)});
  check_rows(kName, "a_rows", a_rows, c.size(0));
}
Cost GroupedMatMul::cost() const {
  return {2 * c.size(0) * a.size(1) * b.size(1),
          row_bytes(a, a_rows, c.size(0)) +
              static_cast<std::int64_t>(b.bytes() + offsets.bytes() + c.bytes() * (accumulate ? 2 : 1))};
}

void GroupedWeightGradient::check() const {
  check_matrix(kName, "a", a);
  check_matrix(kName, "b", b);
  check_shape(kName, "b", b, {b_rows.has_value() ? b.size(0) : rows(), -1});
  check_dtype(kName, "b", b, {a.dtype});
  check_rows(kName, "a_rows", a_rows, rows());
  check_rows(kName, "b_rows", b_rows, rows());
  check_shape(kName, "c", c, {-1, a.size(1), b.size(1)});
  check_dtype(kName, "c", c, {statistics_dtype(a.dtype)});
  check_last_axis_dense(kName, "c", c);
  check_indices(kName, "offsets", offsets, {c.size(0) + 1});
}
Cost GroupedWeightGradient::cost() const {
  return {2 * rows() * a.size(1) * b.size(1), row_bytes(a, a_rows, rows()) + row_bytes(b, b_rows, rows()) +
                                                  static_cast<std::int64_t>(offsets.bytes() + 2 * c.bytes())};
}

}  // namespace flyover::kernels
