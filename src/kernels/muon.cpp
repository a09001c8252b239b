#include "kernels/muon.h"

#include "kernels/checks.h"

namespace flyover::kernels {
namespace {

void check_rows(std::string_view kernel, std::string_view field, const ConstView& view,
                std::initializer_list<std::int64_t> shape, std::initializer_list<DType> types) {
  check_shape(kernel, field, view, shape);
  check_dtype(kernel, field, view, types);
  check_last_axis_dense(kernel, field, view);
}

/// Matrices of which either the rows or the columns are dense.
void check_matrices(std::string_view kernel, std::string_view field, const ConstView& view) {
  check_shape(kernel, field, view, {-1, -1, -1});
  check_floating(kernel, field, view);
  check_view(view.stride(2) == 1 || view.stride(1) == 1 || view.size(1) <= 1 || view.size(2) <= 1, kernel,
             "a stride of 1 is needed on one of the last two axes", view);
}

}  // namespace

void MuonMomentum::check() const {
  const DType type = gradient.dtype;
  check_rows(kName, "gradient", gradient, {-1, -1}, {DType::kF32, DType::kF64});
  const std::int64_t matrices = gradient.size(0), elements = gradient.size(1);
  check_rows(kName, "gradient_scale", gradient_scale, {1}, {type});
  check_rows(kName, "momentum", momentum, {matrices, elements}, {type, DType::kBf16});
  check_rows(kName, "direction", direction, {matrices, elements}, {type, DType::kBf16});
}
Cost MuonMomentum::cost() const {
  return {5 * gradient.elements(), operand_bytes(*this)};
}

void NormaliseMatrices::check() const {
  check_matrices(kName, "x", x);
  check_last_axis_dense(kName, "x", x);
  check_matrices(kName, "y", y);
  check_shape(kName, "y", y, {x.size(0), x.size(1), x.size(2)});
  check_dtype(kName, "y", y, {x.dtype});
}
Cost NormaliseMatrices::cost() const {
  return {3 * x.elements(), operand_bytes(*this)};
}

void GramMatrices::check() const {
  check_matrices(kName, "a", a);
  check_last_axis_dense(kName, "a", a);
  check_rows(kName, "c", c, {a.size(0), a.size(1), a.size(1)}, {a.dtype});
}
Cost GramMatrices::cost() const {
  return {a.elements() * (a.size(1) + 1), operand_bytes(*this)};
}

void LinearCombination::check() const {
  check_shape(kName, "x", x, {-1, -1});
  check_floating(kName, "x", x);
  check_last_axis_dense(kName, "x", x);
  check_rows(kName, "z", z, {x.size(0), x.size(1)}, {x.dtype});
  check_rows(kName, "y", y, {x.size(0), x.size(1)}, {x.dtype});
}
Cost LinearCombination::cost() const {
  return {3 * x.elements(), operand_bytes(*this)};
}

void MuonUpdate::check() const {
  check_matrices(kName, "direction", direction);
  const std::int64_t matrices = direction.size(0), rows = direction.size(1), columns = direction.size(2);
  check_dtype(kName, "direction", direction, {weight.dtype, DType::kBf16});
  check_rows(kName, "weight", weight, {matrices, rows, columns}, {DType::kF32, DType::kF64});
  if (parameter.has_value()) {
    check_rows(kName, "parameter", *parameter, {matrices, rows, columns}, {DType::kBf16, DType::kF32});
  }
}
Cost MuonUpdate::cost() const {
  return {5 * weight.elements(), operand_bytes(*this)};
}

}  // namespace flyover::kernels
