#include "kernels/matmul.h"

#include "kernels/checks.h"

namespace flyover::kernels {
namespace {

bool has_unit_stride(const ConstView& view) {
  return view.stride(1) == 1 || view.stride(0) == 1 || view.size(0) <= 1 || view.size(1) <= 1;
}

}  // namespace

void MatMul::check() const {
  check_shape(kName, "a", a, {-1, -1});
  check_shape(kName, "b", b, {-1, a.size(1)});
  check_shape(kName, "c", c, {a.size(0), b.size(0)});
  check_floating(kName, "a", a);
  check_dtype(kName, "b", b, {a.dtype});
  check_floating(kName, "c", c);
  check_view(has_unit_stride(a), kName, "a needs a stride of 1", a);
  check_view(has_unit_stride(b), kName, "b needs a stride of 1", b);
  check_last_axis_dense(kName, "c", c);
}

Cost MatMul::cost() const {
  return {2 * a.size(0) * a.size(1) * b.size(0),
          static_cast<std::int64_t>(a.bytes() + b.bytes() + c.bytes() * (accumulate ? 2 : 1))};
}

}  // namespace flyover::kernels
