#include "kernels/elementwise.h"

#include "kernels/checks.h"

namespace flyover::kernels {
namespace {

void check_matrix(std::string_view kernel, std::string_view field, const ConstView& view, const ConstView& like) {
  check_shape(kernel, field, view, {like.size(0), like.size(1)});
  check_last_axis_dense(kernel, field, view);
}

}  // namespace

void Fill::check() const {
  check_view(y.rank() <= 2, kName, "at most rank 2", y);
  check_last_axis_dense(kName, "y", y);
}
Cost Fill::cost() const {
  return {0, operand_bytes(*this)};
}

void Copy::check() const {
  check_shape(kName, "x", x, {-1, -1});
  check_last_axis_dense(kName, "x", x);
  check_matrix(kName, "y", y, x);
  if (x.dtype != y.dtype) {
    check_floating(kName, "x", x);
    check_floating(kName, "y", y);
  }
}
Cost Copy::cost() const {
  return {0, operand_bytes(*this)};
}

void Add::check() const {
  check_shape(kName, "a", a, {-1, -1});
  check_floating(kName, "a", a);
  for (const ConstView& view : {a, b, ConstView(y)}) {
    check_matrix(kName, "a, b and y", view, a);
    check_dtype(kName, "a, b and y", view, {a.dtype});
  }
}
Cost Add::cost() const {
  return {y.elements(), operand_bytes(*this)};
}

void Scale::check() const {
  check_shape(kName, "x", x, {-1, -1});
  check_floating(kName, "x", x);
  for (const ConstView& view : {x, ConstView(y)}) {
    check_matrix(kName, "x and y", view, x);
    check_dtype(kName, "x and y", view, {x.dtype});
  }
}
Cost Scale::cost() const {
  return {y.elements(), operand_bytes(*this)};
}

void AddBias::check() const {
  check_shape(kName, "y", y, {-1, -1});
  check_floating(kName, "y", y);
  check_last_axis_dense(kName, "y", y);
  check_shape(kName, "bias", bias, {y.size(1)});
  check_dtype(kName, "bias", bias, {y.dtype});
  check_dense(kName, "bias", bias);
}
Cost AddBias::cost() const {
  return {y.elements(), operand_bytes(*this)};
}

void SumRows::check() const {
  check_shape(kName, "x", x, {-1, -1});
  check_floating(kName, "x", x);
  check_last_axis_dense(kName, "x", x);
  check_shape(kName, "sum", sum, {x.size(1)});
  check_dtype(kName, "sum", sum, {statistics_dtype(x.dtype)});
  check_dense(kName, "sum", sum);
}
Cost SumRows::cost() const {
  return {x.elements(), operand_bytes(*this)};
}

}  // namespace flyover::kernels
