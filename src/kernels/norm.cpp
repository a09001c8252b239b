#include "kernels/norm.h"

#include "kernels/checks.h"

namespace flyover::kernels {
namespace {

template <typename Kernel>
void check_operands(const Kernel& kernel) {
  const ConstView& x = kernel.x;
  check_shape(kernel.kName, "x", x, {-1, -1});
  check_floating(kernel.kName, "x", x);
  check_last_axis_dense(kernel.kName, "x", x);
  check_shape(kernel.kName, "rstd", kernel.rstd, {x.size(0)});
  check_dtype(kernel.kName, "rstd", kernel.rstd, {statistics_dtype(x.dtype)});
  check_dense(kernel.kName, "rstd", kernel.rstd);
}

void check_like(std::string_view kernel, std::string_view field, const ConstView& view, const ConstView& x) {
  check_shape(kernel, field, view, {x.size(0), x.size(1)});
  check_dtype(kernel, field, view, {x.dtype});
  check_last_axis_dense(kernel, field, view);
}

void check_weight(std::string_view kernel, const std::optional<ConstView>& weight, const ConstView& x) {
  if (weight.has_value()) {
    check_shape(kernel, "weight", *weight, {x.size(1)});
    check_dtype(kernel, "weight", *weight, {x.dtype});
    check_dense(kernel, "weight", *weight);
  }
}

}  // namespace

void RmsNormForward::check() const {
  check_operands(*this);
  check_weight(kName, weight, x);
  check_like(kName, "y", y, x);
}
Cost RmsNormForward::cost() const {
  return {4 * x.elements(), operand_bytes(*this)};
}

void RmsNormBackward::check() const {
  check_operands(*this);
  check_weight(kName, weight, x);
  check_like(kName, "dy", dy, x);
  check_like(kName, "dx", dx, x);
}
Cost RmsNormBackward::cost() const {
  return {8 * x.elements(), operand_bytes(*this)};
}

void RmsNormWeightGradient::check() const {
  check_operands(*this);
  check_like(kName, "dy", dy, x);
  check_shape(kName, "dweight", dweight, {x.size(1)});
  check_dtype(kName, "dweight", dweight, {statistics_dtype(x.dtype)});
  check_dense(kName, "dweight", dweight);
}
Cost RmsNormWeightGradient::cost() const {
  return {3 * x.elements(), operand_bytes(*this)};
}

}  // namespace flyover::kernels
