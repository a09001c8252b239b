// Cases of the kernels of kernels/muon.h.
#include <cmath>
#include <utility>

#include "devices/support/kernel_cases.h"

namespace flyover::tests {

using kernels::Dims;
using kernels::DType;
using kernels::statistics_dtype;
using kernels::View;
using Magnitudes = std::vector<Magnitude>;

namespace {

/// [matrices, rows, columns]: several blocks of a matrix now and then.
Dims make_stack(OperandMaker& make) {
  if (make.number() % 16 == 7) {
    return {2, 40 + make.below(40), 400 + make.below(200)};
  }
  return {make.count(5), make.size(70), make.size(90)};
}

/// The state's type: that of the master weights, or bf16.
DType make_state_type(OperandMaker& make, DType dtype) {
  return make.coin() ? DType::kBf16 : statistics_dtype(dtype);
}

View by_columns(const View& transposed) {
  View view = transposed;
  std::swap(view.shape[1], view.shape[2]);
  std::swap(view.strides[1], view.strides[2]);
  return view;
}

}  // namespace

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::MuonMomentum& kernel) {
  const DType type = statistics_dtype(dtype);
  const std::int64_t matrices = make.count(6), elements = make.size(make.coin() ? 100 : 5000);
  kernel.gradient = make.random(type, {matrices, elements}, Layout::kGaps);
  kernel.gradient_scale = make.uniform(type, {1}, 0.1, 1.0);
  kernel.momentum = make.random(make_state_type(make, dtype), {matrices, elements}, Layout::kGaps);
  kernel.direction = make.blank(dtype, {matrices, elements}, Layout::kGaps);
  kernel.mu = make.one_of({0.95f, 0.0f, 0.5f});
  return {{"momentum", 1.0}, {"direction", 1.0}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::NormaliseMatrices& kernel) {
  const Dims shape = make_stack(make);
  const View x = make.random(dtype, shape, Layout::kGaps, make.one_of({1.0, 1e-6, 1e6}));
  if (shape[0] > 1 && make.coin()) {  // a matrix of zeros
    for (std::int64_t i = 0; i < shape[1] * shape[2]; ++i) {
      set_element(x, i, 0.0);
    }
  }
  kernel.x = x;
  kernel.y = make.coin() ? make.blank(dtype, shape, Layout::kGaps)
                         : by_columns(make.blank(dtype, {shape[0], shape[2], shape[1]}, Layout::kGaps));
  return {};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::GramMatrices& kernel) {
  // Now and then several blocks of the depth, or of the rows and columns.
  const bool is_deep = make.number() % 16 == 7, is_large = make.number() % 32 == 11;
  const std::int64_t matrices = is_large ? 1 : make.count(5), rows = is_large ? 800 : make.size(70);
  const std::int64_t depth = make.number() == 2 ? 0 : is_deep ? 1600 + make.below(20) : make.size(is_large ? 10 : 90);
  kernel.a = make.random(dtype, {matrices, rows, depth}, Layout::kGaps);
  kernel.c = make.blank(dtype, {matrices, rows, rows}, Layout::kGaps);
  return {{"c", std::sqrt(static_cast<double>(depth))}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::LinearCombination& kernel) {
  const std::int64_t rows = make.count(40), width = make.number() == 2 ? 0 : make.size(300);
  const View x = make.random(dtype, {rows, width}, Layout::kGaps);
  const View z = make.random(dtype, {rows, width}, Layout::kGaps);
  kernel.x = x;
  kernel.z = z;
  kernel.y = make.coin() ? make.one_of({x, z}) : make.blank(dtype, {rows, width}, Layout::kGaps);
  kernel.alpha = make.one_of({1.0f, -4.775f, 0.0f});
  kernel.beta = make.one_of({2.0315f, -1.0f, 0.5f});
  return {{"y", 1.0}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::MuonUpdate& kernel) {
  const Dims shape = make_stack(make);
  const DType type = statistics_dtype(dtype);
  kernel.direction = make.coin() ? make.random(dtype, shape, Layout::kGaps, 0.1)
                                 : by_columns(make.random(dtype, {shape[0], shape[2], shape[1]}, Layout::kGaps, 0.1));
  kernel.weight = make.random(type, shape, Layout::kGaps);
  if (dtype == DType::kBf16 || make.below(4) == 0) {
    kernel.parameter = make.blank(dtype == DType::kF32 ? DType::kF32 : DType::kBf16, shape, Layout::kGaps);
  }
  kernel.learning_rate = make.one_of({1e-3f, 3e-2f});
  kernel.weight_decay = make.one_of({0.0f, 0.1f});
  kernel.scale = make.one_of({1.0f, 4.07f});
  return {{"weight", 0.5}, {"parameter", 0.5}};
}

}  // namespace flyover::tests
