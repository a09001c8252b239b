#include "optim/newton_schulz.h"

#include <limits>
#include <utility>

#include "base/error.h"

namespace flyover::optim {

using kernels::ConstView;
using tensor::Dims;
using tensor::MemoryKind;
using tensor::Tensor;

namespace {

/// [matrices, rows, columns] as [matrices * rows, columns].
Tensor all_rows(const Tensor& stack) {
  return stack.reshape({stack.size(0) * stack.size(1), stack.size(2)});
}

/// Each matrix transposed.
ConstView transposed(const Tensor& stack) {
  ConstView view = stack.view();
  std::swap(view.shape[1], view.shape[2]);
  std::swap(view.strides[1], view.strides[2]);
  return view;
}

}  // namespace

std::vector<NewtonSchulzPhase> hybrid_newton_schulz() {
  return {{8, 3.4445, -4.7750, 2.0315}, {2, 2.0, -1.5, 0.5}};
}

std::uint64_t newton_schulz_bytes(std::int64_t rows, std::int64_t columns, tensor::DType dtype) {
  return 2 * static_cast<std::uint64_t>(rows) * static_cast<std::uint64_t>(columns + rows) * kernels::size_of(dtype);
}

Tensor matrix_offsets(tensor::Stream& stream, std::int64_t matrices, std::int64_t rows) {
  base::check(matrices * rows <= std::numeric_limits<std::int32_t>::max(), "{} matrices of {} rows are too many",
              matrices, rows);
  std::vector<std::int32_t> offsets;
  for (std::int64_t i = 0; i <= matrices; ++i) {
    offsets.push_back(static_cast<std::int32_t>(i * rows));
  }
  return stream.upload(offsets, {matrices + 1}, MemoryKind::kOptimizer);
}

MatrixPair newton_schulz(tensor::Stream& stream, MatrixPair pair, const Tensor& offsets,
                         std::span<const NewtonSchulzPhase> phases) {
  const Dims square{pair.value.size(0), pair.value.size(1), pair.value.size(1)};
  const Tensor gram = stream.empty(square, pair.value.dtype(), MemoryKind::kWorkspace);
  const Tensor polynomial = stream.empty(square, pair.value.dtype(), MemoryKind::kWorkspace);
  for (const NewtonSchulzPhase& phase : phases) {
    for (int step = 0; step < phase.steps; ++step) {
      stream.launch(kernels::GramMatrices{pair.value.view(), gram.view()});
      stream.launch(kernels::GramMatrices{gram.view(), polynomial.view()});  // symmetric: its square
      stream.launch(kernels::LinearCombination{all_rows(gram).view(), all_rows(polynomial).view(),
                                               all_rows(polynomial).view(), static_cast<float>(phase.b),
                                               static_cast<float>(phase.c)});
      stream.launch(
          kernels::Scale{all_rows(pair.value).view(), all_rows(pair.spare).view(), static_cast<float>(phase.a)});
      stream.launch(kernels::GroupedMatMul{all_rows(polynomial).view(), transposed(pair.value),
                                           offsets.rows(0, pair.value.size(0) + 1).view(), all_rows(pair.spare).view(),
                                           true});
      std::swap(pair.value, pair.spare);
    }
  }
  return pair;
}

}  // namespace flyover::optim
