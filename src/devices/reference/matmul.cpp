#include "devices/reference/element.h"
#include "devices/reference/families.h"

namespace flyover::devices::reference {
namespace {

void matmul(const kernels::MatMul& kernel, const LaunchContext&) {
  const std::int64_t rows = kernel.a.size(0), depth = kernel.a.size(1), columns = kernel.b.size(0);
  const std::vector<double> a = to_doubles(kernel.a);  // [rows, depth]
  const std::vector<double> b = to_doubles(kernel.b);  // [columns, depth]
  const Output c(kernel.c);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      double sum = 0;
      for (std::int64_t k = 0; k < depth; ++k) {
        sum += a[static_cast<std::size_t>(i * depth + k)] * b[static_cast<std::size_t>(j * depth + k)];
      }
      c(i, j) = (kernel.accumulate ? c(i, j) : 0.0) + sum;
    }
  }
}

}  // namespace

void add_matmul_kernels(KernelTable& table) {
  table.set<kernels::MatMul>(matmul);
}

}  // namespace flyover::devices::reference
