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

void check_row_weights(std::string_view kernel, std::string_view field, const ConstView& view, const ConstView& y) {
  check_shape(kernel, field, view, {y.size(0)});
  check_dtype(kernel, field, view, {statistics_dtype(y.dtype)});
  check_dense(kernel, field, view);
}

}  // namespace

void SwiGluForward::check() const {
  check_pair(kName, gate_up, "y", y);
  check_view(limit > 0, kName, "the limit must be positive", y);
  if (row_weights.has_value()) {
    check_row_weights(kName, "row_weights", *row_weights, y);
  }
}
Cost SwiGluForward::cost() const {
  return {(row_weights.has_value() ? 13 : 12) * y.elements(), operand_bytes(*this)};
}

void SwiGluBackward::check() const {
  check_pair(kName, gate_up, "dy", dy);
  check_pair(kName, dgate_up, "dy", dy);
  check_view(limit > 0, kName, "the limit must be positive", dy);
  check_view(row_weights.has_value() == drow_weights.has_value(), kName, "row weights come with their gradient", dy);
  if (row_weights.has_value()) {
    check_row_weights(kName, "row_weights", *row_weights, dy);
    check_row_weights(kName, "drow_weights", *drow_weights, dy);
  }
}
Cost SwiGluBackward::cost() const {
  return {(row_weights.has_value() ? 22 : 18) * dy.elements(), operand_bytes(*this)};
}

}  // namespace flyover::kernels
