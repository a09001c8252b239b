#include "kernels/mlp.h"

#include "kernels/checks.h"

namespace flyover::kernels {
namespace {

void check_pair(std::string_view kernel, const ConstView& gate_up, std::string_view field, const ConstView& y) {
  check_shape(kernel, "gate_up", gate_up, {-1, 2 * y.size(1)});
  check_floating(kernel, "gate_up", gate_up);
  check_last_axis_dense(kernel, "gate_up", gate_up);
  check_shape(kernel, field, y, {gate_up.size(0), -1});
  check_dtype(kernel, field, y, {gate_up.dtype});
  check_last_axis_dense(kernel, field, y);
}

}  // namespace

void SwiGluForward::check() const {
  check_pair(kName, gate_up, "y", y);
}
Cost SwiGluForward::cost() const {
  return {12 * y.elements(), operand_bytes(*this)};
}

void SwiGluBackward::check() const {
  check_pair(kName, gate_up, "dy", dy);
  check_pair(kName, dgate_up, "dy", dy);
}
Cost SwiGluBackward::cost() const {
  return {18 * dy.elements(), operand_bytes(*this)};
}

}  // namespace flyover::kernels
