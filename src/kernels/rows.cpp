#include "kernels/rows.h"

#include "kernels/checks.h"

namespace flyover::kernels {
namespace {

void check_rows(std::string_view kernel, const ConstView& table, const ConstView& rows, const ConstView& moved) {
  check_shape(kernel, "table", table, {-1, -1});
  check_last_axis_dense(kernel, "table", table);
  check_shape(kernel, "rows", rows, {-1});
  check_dtype(kernel, "rows", rows, {DType::kI32});
  check_dense(kernel, "rows", rows);
  check_shape(kernel, "the moved rows", moved, {rows.size(0), table.size(1)});
  check_last_axis_dense(kernel, "the moved rows", moved);
}

}  // namespace

void GatherRows::check() const {
  check_rows(kName, table, rows, y);
  check_dtype(kName, "y", y, {table.dtype});
}
Cost GatherRows::cost() const {
  return {0, static_cast<std::int64_t>(2 * y.bytes() + rows.bytes())};
}

void ScatterRows::check() const {
  check_rows(kName, table, rows, x);
  check_dtype(kName, "table", table, {x.dtype});
}
Cost ScatterRows::cost() const {
  return {0, static_cast<std::int64_t>(2 * x.bytes() + rows.bytes())};
}

void ScatterAddRows::check() const {
  check_rows(kName, table, rows, x);
  check_floating(kName, "x", x);
  check_dtype(kName, "table", table, {statistics_dtype(x.dtype)});
}
Cost ScatterAddRows::cost() const {
  const auto touched = x.elements() * static_cast<std::int64_t>(size_of(table.dtype));
  return {x.elements(), static_cast<std::int64_t>(x.bytes()) + 2 * touched};
}

}  // namespace flyover::kernels
