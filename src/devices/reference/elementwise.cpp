#include <algorithm>

#include "devices/reference/element.h"
#include "devices/reference/families.h"

namespace flyover::devices::reference {
namespace {

/// Throws InternalError unless the integer type holds the value.
template <typename Integer>
void store_integer(std::byte* address, double value) {
  // The upper limit is one above the largest value, which a double may not be able to hold.
  const double limit = std::ldexp(1.0, std::numeric_limits<Integer>::digits);
  base::check(value >= static_cast<double>(std::numeric_limits<Integer>::min()) && value < limit,
              "fill: {} does not fit the integer type of y", value);
  store(address, static_cast<Integer>(value));
}

void store_any(std::byte* address, kernels::DType dtype, double value) {
  switch (dtype) {
    case kernels::DType::kI32:
      return store_integer<std::int32_t>(address, value);
    case kernels::DType::kI64:
      return store_integer<std::int64_t>(address, value);
    case kernels::DType::kU8:
      return store_integer<std::uint8_t>(address, value);
    default:
      return store_floating(address, dtype, value);
  }
}

void fill(const kernels::Fill& kernel, const LaunchContext&) {
  const kernels::View& y = kernel.y;
  const std::int64_t rows = y.rank() == 2 ? y.size(0) : 1;
  const std::int64_t width = y.rank() == 0 ? 1 : y.size(y.rank() - 1);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < width; ++j) {
      std::byte* address = y.rank() == 2 ? address_of(y, i, j) : y.rank() == 1 ? address_of(y, j) : address_of(y);
      store_any(address, y.dtype, kernel.value);
    }
  }
}

void copy(const kernels::Copy& kernel, const LaunchContext&) {
  for (std::int64_t i = 0; i < kernel.x.size(0); ++i) {
    for (std::int64_t j = 0; j < kernel.x.size(1); ++j) {
      if (kernel.x.dtype == kernel.y.dtype) {
        std::copy_n(address_of(kernel.x, i, j), kernels::size_of(kernel.x.dtype), address_of(kernel.y, i, j));
      } else {
        Output(kernel.y)(i, j) = Input(kernel.x)(i, j);
      }
    }
  }
}

void add(const kernels::Add& kernel, const LaunchContext&) {
  const Input a(kernel.a), b(kernel.b);
  const Output y(kernel.y);
  for (std::int64_t i = 0; i < kernel.y.size(0); ++i) {
    for (std::int64_t j = 0; j < kernel.y.size(1); ++j) {
      y(i, j) = a(i, j) + b(i, j);
    }
  }
}

void scale(const kernels::Scale& kernel, const LaunchContext&) {
  const Input x(kernel.x);
  const Output y(kernel.y);
  for (std::int64_t i = 0; i < kernel.y.size(0); ++i) {
    for (std::int64_t j = 0; j < kernel.y.size(1); ++j) {
      y(i, j) = x(i, j) * static_cast<double>(kernel.factor);
    }
  }
}

void add_bias(const kernels::AddBias& kernel, const LaunchContext&) {
  const Input bias(kernel.bias);
  const Output y(kernel.y);
  for (std::int64_t i = 0; i < kernel.y.size(0); ++i) {
    for (std::int64_t j = 0; j < kernel.y.size(1); ++j) {
      y(i, j) += bias(j);
    }
  }
}

void sum_rows(const kernels::SumRows& kernel, const LaunchContext&) {
  const Input x(kernel.x);
  const Output sum(kernel.sum);
  for (std::int64_t j = 0; j < kernel.x.size(1); ++j) {
    double column = 0;
    for (std::int64_t i = 0; i < kernel.x.size(0); ++i) {
      column += x(i, j);
    }
    sum(j) += column;
  }
}

}  // namespace

void add_elementwise_kernels(KernelTable& table) {
  table.set<kernels::Fill>(fill);
  table.set<kernels::Copy>(copy);
  table.set<kernels::Add>(add);
  table.set<kernels::Scale>(scale);
  table.set<kernels::AddBias>(add_bias);
  table.set<kernels::SumRows>(sum_rows);
}

}  // namespace flyover::devices::reference
