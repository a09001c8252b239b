#include "devices/reference/element.h"
#include "devices/reference/families.h"

namespace flyover::devices::reference {
namespace {

/// The weight of a column, 1 where the norm is unweighted.
double weight_at(const std::optional<kernels::ConstView>& weight, std::int64_t column) {
  return weight.has_value() ? Input(*weight)(column) : 1.0;
}

void rms_norm_forward(const kernels::RmsNormForward& kernel, const LaunchContext&) {
  const Input x(kernel.x);
  const Output y(kernel.y), rstd(kernel.rstd);
  const std::int64_t rows = kernel.x.size(0), width = kernel.x.size(1);
  for (std::int64_t i = 0; i < rows; ++i) {
    double sum_of_squares = 0;
    for (std::int64_t j = 0; j < width; ++j) {
      sum_of_squares += x(i, j) * x(i, j);
    }
    const double mean = sum_of_squares / static_cast<double>(width);
    const double scale = 1.0 / std::sqrt(mean + static_cast<double>(kernel.epsilon));
    for (std::int64_t j = 0; j < width; ++j) {
      y(i, j) = x(i, j) * scale * weight_at(kernel.weight, j);
    }
    rstd(i) = scale;
  }
}

void rms_norm_backward(const kernels::RmsNormBackward& kernel, const LaunchContext&) {
  const Input x(kernel.x), rstd(kernel.rstd), dy(kernel.dy);
  const Output dx(kernel.dx);
  const std::int64_t rows = kernel.x.size(0), width = kernel.x.size(1);
  for (std::int64_t i = 0; i < rows; ++i) {
    const auto g = [&](std::int64_t j) { return dy(i, j) * weight_at(kernel.weight, j); };
    double product = 0;
    for (std::int64_t j = 0; j < width; ++j) {
      product += g(j) * x(i, j);
    }
    const double mean = product / static_cast<double>(width);
    for (std::int64_t j = 0; j < width; ++j) {
      const double gradient = rstd(i) * (g(j) - x(i, j) * rstd(i) * rstd(i) * mean);
      dx(i, j) = (kernel.accumulate ? dx(i, j) : 0.0) + gradient;
    }
  }
}

void rms_norm_weight_gradient(const kernels::RmsNormWeightGradient& kernel, const LaunchContext&) {
  const Input x(kernel.x), rstd(kernel.rstd), dy(kernel.dy);
  const Output dweight(kernel.dweight);
  for (std::int64_t j = 0; j < kernel.x.size(1); ++j) {
    double sum = 0;
    for (std::int64_t i = 0; i < kernel.x.size(0); ++i) {
      sum += dy(i, j) * x(i, j) * rstd(i);
    }
    dweight(j) += sum;
  }
}

}  // namespace

void add_norm_kernels(KernelTable& table) {
  table.set<kernels::RmsNormForward>(rms_norm_forward);
  table.set<kernels::RmsNormBackward>(rms_norm_backward);
  table.set<kernels::RmsNormWeightGradient>(rms_norm_weight_gradient);
}

}  // namespace flyover::devices::reference
