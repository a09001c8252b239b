#include "kernels/quantisation.h"

#include <algorithm>
#include <array>
#include <bit>

#include "devices/reference/element.h"
#include "devices/reference/families.h"

namespace flyover::devices::reference {
namespace {

/// The magnitude among those of e2m1 that is nearest, of two equally near ones that with the even code.
double nearest_e2m1(double magnitude) {
  constexpr std::array kMagnitudes = {0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0};
  std::size_t best = 0;
  for (std::size_t code = 1; code < kMagnitudes.size(); ++code) {
    const double distance = std::fabs(magnitude - kMagnitudes[code]);
    const double smallest = std::fabs(magnitude - kMagnitudes[best]);
    if (distance < smallest || (distance == smallest && code % 2 == 0)) {
      best = code;
    }
  }
  return kMagnitudes[best];
}

void round_block(const Input& x, const Output& y, std::int64_t row, std::int64_t first) {
  double largest = 6.0 * 0x1p-126;
  bool finite = true;
  for (std::int64_t j = first; j < first + kernels::kFp4BlockWidth; ++j) {
    largest = std::max(largest, std::fabs(x(row, j)));
    finite = finite && std::isfinite(x(row, j));
  }
  int exponent = -126;
  while (finite && 6.0 * std::ldexp(1.0, exponent) < largest) {
    ++exponent;
  }
  for (std::int64_t j = first; j < first + kernels::kFp4BlockWidth; ++j) {
    const double value = x(row, j);
    const double rounded = std::ldexp(nearest_e2m1(std::ldexp(std::fabs(value), -exponent)), exponent);
    y(row, j) = finite ? std::copysign(rounded, value) : std::numeric_limits<double>::quiet_NaN();
  }
}

void round_to_fp4(const kernels::RoundToFp4& kernel, const LaunchContext&) {
  const Input x(kernel.x);
  const Output y(kernel.y);
  for (std::int64_t i = 0; i < kernel.x.size(0); ++i) {
    for (std::int64_t first = 0; first < kernel.x.size(1); first += kernels::kFp4BlockWidth) {
      round_block(x, y, i, first);
    }
  }
}

void hadamard(const kernels::Hadamard& kernel, const LaunchContext&) {
  const std::vector<double> x = to_doubles(kernel.x);
  const Output y(kernel.y);
  const auto width = static_cast<std::size_t>(kernel.x.size(1));
  for (std::int64_t row = 0; row < kernel.x.size(0); ++row) {
    for (std::size_t i = 0; i < width; ++i) {
      double sum = 0;
      for (std::size_t j = 0; j < width; ++j) {
        const double value = x[static_cast<std::size_t>(row) * width + j];
        sum += std::popcount(i & j) % 2 == 0 ? value : -value;
      }
      y(row, static_cast<std::int64_t>(i)) = sum / std::sqrt(static_cast<double>(width));
    }
  }
}

}  // namespace

void add_quantisation_kernels(KernelTable& table) {
  table.set<kernels::RoundToFp4>(round_to_fp4);
  table.set<kernels::Hadamard>(hadamard);
}

}  // namespace flyover::devices::reference
