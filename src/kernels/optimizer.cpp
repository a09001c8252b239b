#include "kernels/optimizer.h"

#include "kernels/checks.h"

namespace flyover::kernels {
namespace {

void check_vector(std::string_view kernel, std::string_view field, const ConstView& view, std::int64_t count,
                  std::initializer_list<DType> types) {
  check_shape(kernel, field, view, {count});
  check_dtype(kernel, field, view, types);
  check_dense(kernel, field, view);
}

}  // namespace

void AdamW::check() const {
  const DType type = weight.dtype;
  const std::int64_t count = gradient.rank() == 1 ? gradient.size(0) : -1;
  check_vector(kName, "gradient", gradient, -1, {type});
  check_vector(kName, "gradient_scale", gradient_scale, 1, {type});
  check_vector(kName, "weight", weight, count, {DType::kF32, DType::kF64});
  check_vector(kName, "first_moment", first_moment, count, {type, DType::kBf16});
  check_vector(kName, "second_moment", second_moment, count, {first_moment.dtype});
  if (parameter.has_value()) {
    check_vector(kName, "parameter", *parameter, count, {DType::kBf16, DType::kF32});
  }
}
Cost AdamW::cost() const {
  return {15 * gradient.elements(), operand_bytes(*this)};
}

void SumOfSquares::check() const {
  check_vector(kName, "x", x, -1, {DType::kF32, DType::kBf16, DType::kF64});
  check_vector(kName, "sum", sum, 1, {statistics_dtype(x.dtype)});
}
Cost SumOfSquares::cost() const {
  return {2 * x.elements(), operand_bytes(*this)};
}

void ClipCoefficient::check() const {
  check_vector(kName, "sums_of_squares", sums_of_squares, -1, {DType::kF32, DType::kF64});
  check_vector(kName, "norm", norm, 1, {sums_of_squares.dtype});
  check_vector(kName, "coefficient", coefficient, 1, {sums_of_squares.dtype});
}
Cost ClipCoefficient::cost() const {
  return {sums_of_squares.elements(), operand_bytes(*this)};
}

void FindNonFinite::check() const {
  check_vector(kName, "x", x, -1, {DType::kF32, DType::kBf16, DType::kF64});
  check_vector(kName, "index", index, 1, {DType::kI64});
}
Cost FindNonFinite::cost() const {
  return {0, operand_bytes(*this)};
}

}  // namespace flyover::kernels
