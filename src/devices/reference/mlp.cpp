#include <algorithm>

#include "devices/reference/element.h"
#include "devices/reference/families.h"

namespace flyover::devices::reference {
namespace {

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

/// The weight of a row, 1 where rows have none.
double weight_at(const std::optional<kernels::ConstView>& weights, std::int64_t row) {
  return weights.has_value() ? Input(*weights)(row) : 1.0;
}

void swiglu_forward(const kernels::SwiGluForward& kernel, const LaunchContext&) {
  const Input gate_up(kernel.gate_up);
  const Output y(kernel.y);
  const std::int64_t rows = kernel.y.size(0), width = kernel.y.size(1);
  const auto limit = static_cast<double>(kernel.limit);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < width; ++j) {
      const double gate = std::min(gate_up(i, j), limit), up = std::clamp(gate_up(i, width + j), -limit, limit);
      y(i, j) = weight_at(kernel.row_weights, i) * (gate * sigmoid(gate) * up);
    }
  }
}

void swiglu_backward(const kernels::SwiGluBackward& kernel, const LaunchContext&) {
  const Input gate_up(kernel.gate_up), dy(kernel.dy);
  const Output dgate_up(kernel.dgate_up);
  const std::int64_t rows = kernel.dy.size(0), width = kernel.dy.size(1);
  const auto limit = static_cast<double>(kernel.limit);
  for (std::int64_t i = 0; i < rows; ++i) {
    double drow_weight = 0;
    for (std::int64_t j = 0; j < width; ++j) {
      const bool gate_is_cut = gate_up(i, j) > limit, up_is_cut = std::fabs(gate_up(i, width + j)) > limit;
      const double gate = std::min(gate_up(i, j), limit), up = std::clamp(gate_up(i, width + j), -limit, limit);
      const double s = sigmoid(gate), dy_ij = dy(i, j), g = dy_ij * weight_at(kernel.row_weights, i);
      drow_weight += dy_ij * gate * s * up;
      dgate_up(i, j) = gate_is_cut ? 0.0 : g * up * s * (1.0 + gate * (1.0 - s));
      dgate_up(i, width + j) = up_is_cut ? 0.0 : g * gate * s;
    }
    if (kernel.drow_weights.has_value()) {
      const Output drow_weights(*kernel.drow_weights);
      drow_weights(i) = drow_weight;
    }
  }
}

}  // namespace

void add_mlp_kernels(KernelTable& table) {
  table.set<kernels::SwiGluForward>(swiglu_forward);
  table.set<kernels::SwiGluBackward>(swiglu_backward);
}

}  // namespace flyover::devices::reference
