#include "kernels/sample.h"

#include "kernels/checks.h"

namespace flyover::kernels {

void Sample::check() const {
  check_shape(kName, "logits", logits, {-1, -1});
  check_dtype(kName, "logits", logits, {DType::kF32});
  check_last_axis_dense(kName, "logits", logits);
  const auto row_vector = [&](std::string_view field, const ConstView& view, DType type) {
    check_shape(kName, field, view, {logits.size(0)});
    check_dtype(kName, field, view, {type});
    check_dense(kName, field, view);
  };
  row_vector("temperature", temperature, DType::kF32);
  row_vector("top_k", top_k, DType::kI32);
  row_vector("top_p", top_p, DType::kF32);
  row_vector("uniform", uniform, DType::kF32);
  row_vector("token", token, DType::kI32);
  row_vector("log_probability", log_probability, DType::kF32);
}
Cost Sample::cost() const {
  return {12 * logits.elements(), operand_bytes(*this)};
}

}  // namespace flyover::kernels
