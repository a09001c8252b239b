#include "kernels/loss.h"

#include "kernels/checks.h"

namespace flyover::kernels {
namespace {

template <typename Kernel>
void check_logits(const Kernel& kernel) {
  constexpr std::string_view kName = Kernel::kName;
  const ConstView& logits = kernel.logits;
  check_shape(kName, "logits", logits, {-1, -1});
  check_dtype(kName, "logits", logits, {DType::kF32, DType::kF64});
  check_last_axis_dense(kName, "logits", logits);
  check_shape(kName, "targets", kernel.targets, {logits.size(0)});
  check_dtype(kName, "targets", kernel.targets, {DType::kI32});
  check_dense(kName, "targets", kernel.targets);
  check_shape(kName, "log_probability", kernel.log_probability, {logits.size(0)});
  check_dtype(kName, "log_probability", kernel.log_probability, {logits.dtype});
  check_dense(kName, "log_probability", kernel.log_probability);
}

}  // namespace

void LogProbability::check() const {
  check_logits(*this);
  check_view(temperature > 0, kName, "the temperature must be positive", logits);
}
Cost LogProbability::cost() const {
  return {10 * logits.elements(), operand_bytes(*this)};
}

void CrossEntropy::check() const {
  check_logits(*this);
  check_shape(kName, "weights", weights, {logits.size(0)});
  check_dtype(kName, "weights", weights, {logits.dtype});
  check_dense(kName, "weights", weights);
  check_shape(kName, "dlogits", dlogits, {logits.size(0), logits.size(1)});
  check_floating(kName, "dlogits", dlogits);
  check_last_axis_dense(kName, "dlogits", dlogits);
}
Cost CrossEntropy::cost() const {
  return {20 * logits.elements(), operand_bytes(*this)};
}

void WeightedSum::check() const {
  check_shape(kName, "x", x, {-1});
  check_dtype(kName, "x", x, {DType::kF32, DType::kF64});
  check_dense(kName, "x", x);
  check_shape(kName, "weights", weights, {x.size(0)});
  check_dtype(kName, "weights", weights, {x.dtype});
  check_dense(kName, "weights", weights);
  check_shape(kName, "sum", sum, {1});
  check_dtype(kName, "sum", sum, {x.dtype});
}
Cost WeightedSum::cost() const {
  return {2 * x.elements(), operand_bytes(*this)};
}

}  // namespace flyover::kernels
