#include <algorithm>

#include "devices/reference/element.h"
#include "devices/reference/families.h"

namespace flyover::devices::reference {
namespace {

/// Bytes of the dense last axis.
std::size_t row_bytes(const kernels::ConstView& view) {
  return static_cast<std::size_t>(view.size(1)) * kernels::size_of(view.dtype);
}

void gather_rows(const kernels::GatherRows& kernel, const LaunchContext&) {
  for (std::int64_t i = 0; i < kernel.rows.size(0); ++i) {
    const std::int64_t row = row_at(kernel.kName, kernel.rows, i, kernel.table);
    std::copy_n(address_of(kernel.table, row), row_bytes(kernel.table), address_of(kernel.y, i));
  }
}

void scatter_rows(const kernels::ScatterRows& kernel, const LaunchContext&) {
  for (std::int64_t i = 0; i < kernel.rows.size(0); ++i) {
    const std::int64_t row = row_at(kernel.kName, kernel.rows, i, kernel.table);
    std::copy_n(address_of(kernel.x, i), row_bytes(kernel.x), address_of(kernel.table, row));
  }
}

void scatter_add_rows(const kernels::ScatterAddRows& kernel, const LaunchContext&) {
  const Input x(kernel.x);
  const Output table(kernel.table);
  for (std::int64_t i = 0; i < kernel.rows.size(0); ++i) {
    const std::int64_t row = row_at(kernel.kName, kernel.rows, i, kernel.table);
    for (std::int64_t j = 0; j < kernel.x.size(1); ++j) {
      table(row, j) += x(i, j);
    }
  }
}

}  // namespace

void add_rows_kernels(KernelTable& table) {
  table.set<kernels::GatherRows>(gather_rows);
  table.set<kernels::ScatterRows>(scatter_rows);
  table.set<kernels::ScatterAddRows>(scatter_add_rows);
}

}  // namespace flyover::devices::reference
