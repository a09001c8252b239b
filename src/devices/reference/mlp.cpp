#include "devices/reference/element.h"
#include "devices/reference/families.h"

namespace flyover::devices::reference {
namespace {

void swiglu_forward(const kernels::SwiGluForward& kernel, const LaunchContext&) {
  const Input gate_up(kernel.gate_up);
  const Output y(kernel.y);
  const std::int64_t rows = kernel.y.size(0), width = kernel.y.size(1);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < width; ++j) {
      const double gate = gate_up(i, j), up = gate_up(i, width + j);
      y(i, j) = gate / (1.0 + std::exp(-gate)) * up;
    }
  }
}

void swiglu_backward(const kernels::SwiGluBackward& kernel, const LaunchContext&) {
  const Input gate_up(kernel.gate_up), dy(kernel.dy);
  const Output dgate_up(kernel.dgate_up);
  const std::int64_t rows = kernel.dy.size(0), width = kernel.dy.size(1);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < width; ++j) {
      const double gate = gate_up(i, j), up = gate_up(i, width + j);
      const double s = 1.0 / (1.0 + std::exp(-gate));
      dgate_up(i, j) = dy(i, j) * up * s * (1.0 + gate * (1.0 - s));
      dgate_up(i, width + j) = dy(i, j) * gate * s;
    }
  }
}

}  // namespace

void add_mlp_kernels(KernelTable& table) {
  table.set<kernels::SwiGluForward>(swiglu_forward);
  table.set<kernels::SwiGluBackward>(swiglu_backward);
}

}  // namespace flyover::devices::reference
