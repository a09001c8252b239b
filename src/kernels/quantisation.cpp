#include "kernels/quantisation.h"

#include <bit>

#include "kernels/checks.h"

namespace flyover::kernels {
namespace {

void check_rows(std::string_view kernel, const ConstView& x, const ConstView& y) {
  check_shape(kernel, "x", x, {-1, -1});
  check_floating(kernel, "x", x);
  check_last_axis_dense(kernel, "x", x);
  check_shape(kernel, "y", y, {x.size(0), x.size(1)});
  check_floating(kernel, "y", y);
  check_last_axis_dense(kernel, "y", y);
}

}  // namespace

void RoundToFp4::check() const {
  check_rows(kName, x, y);
  check_view(x.size(1) % kFp4BlockWidth == 0, kName, "the width must be a multiple of 32", x);
  check_view(x.data != y.data || x.dtype == y.dtype || x.elements() == 0, kName, "y can be x of the same type only", y);
}
Cost RoundToFp4::cost() const {
  return {2 * y.elements(), operand_bytes(*this)};
}

void Hadamard::check() const {
  check_rows(kName, x, y);
  check_dtype(kName, "y", y, {x.dtype});
  check_view(x.size(1) <= kMaximumHadamardWidth && std::has_single_bit(static_cast<std::uint64_t>(x.size(1))), kName,
             "the width must be a power of two of at most 4096", x);
}
Cost Hadamard::cost() const {
  return {y.elements() * (std::countr_zero(static_cast<std::uint64_t>(y.size(1))) + 1), operand_bytes(*this)};
}

}  // namespace flyover::kernels
