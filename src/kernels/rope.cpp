#include "kernels/rope.h"

#include "kernels/checks.h"

namespace flyover::kernels {

void RopeTable::check() const {
  check_shape(kName, "positions", positions, {-1});
  check_dtype(kName, "positions", positions, {DType::kI32});
  check_dense(kName, "positions", positions);
  check_shape(kName, "inverse_frequencies", inverse_frequencies, {-1});
  check_dtype(kName, "inverse_frequencies", inverse_frequencies, {DType::kF32, DType::kF64});
  check_dense(kName, "inverse_frequencies", inverse_frequencies);
  for (const ConstView& table : {ConstView(cosine), ConstView(sine)}) {
    check_shape(kName, "cosine and sine", table, {positions.size(0), inverse_frequencies.size(0)});
    check_dtype(kName, "cosine and sine", table, {DType::kF32, DType::kF64});
    check_dense(kName, "cosine and sine", table);
  }
}
Cost RopeTable::cost() const {
  return {40 * cosine.elements(), operand_bytes(*this)};
}

void RopeApply::check() const {
  check_shape(kName, "x", x, {-1, -1, -1});
  check_floating(kName, "x", x);
  check_last_axis_dense(kName, "x", x);
  for (const ConstView& table : {cosine, sine}) {
    check_shape(kName, "cosine and sine", table, {x.size(0), -1});
    check_dtype(kName, "cosine and sine", table, {statistics_dtype(x.dtype)});
    check_dense(kName, "cosine and sine", table);
  }
  check_view(first_dimension >= 0 && first_dimension + 2 * cosine.size(1) <= x.size(2), kName,
             "the rotated dimensions exceed the head", x);
}
Cost RopeApply::cost() const {
  return {6 * x.size(0) * x.size(1) * cosine.size(1), operand_bytes(*this)};
}

}  // namespace flyover::kernels
