// The iteration with which Muon makes the singular values of matrices 1.
#pragma once

#include <span>
#include <vector>

#include "tensor/stream.h"

namespace flyover::optim {

/// `steps` times A <- a A + b (A A') A + c (A A')^2 A: each singular value s becomes a s + b s^3 + c s^5.
struct NewtonSchulzPhase {
  int steps = 0;
  double a = 0.0;
  double b = 0.0;
  double c = 0.0;
};

/// DeepSeek-V4's: eight steps that lift small singular values fast, two that settle them at 1 (section 2.4 of its
/// report).
std::vector<NewtonSchulzPhase> hybrid_newton_schulz();

/// A stack of matrices and room for another one, both [matrices, rows, columns] bf16 | f32, dense.
struct MatrixPair {
  tensor::Tensor value;
  tensor::Tensor spare;
};

/// Bytes that newton_schulz needs for each matrix, the pair included.
std::uint64_t newton_schulz_bytes(std::int64_t rows, std::int64_t columns, tensor::DType dtype);

/// Row numbers [matrices + 1] i32 at which the matrices of a stack of [rows, columns] begin.
tensor::Tensor matrix_offsets(tensor::Stream& stream, std::int64_t matrices, std::int64_t rows);

/// Runs the phases on every matrix of `pair.value`; the outcome lies in the `value` of the result. Cheapest where
/// rows <= columns. Products are summed in fp32 and stored in the type of the matrices. A matrix gets the same bits
/// alone as in a stack. `offsets` as matrix_offsets makes them, of at least as many matrices.
MatrixPair newton_schulz(tensor::Stream& stream, MatrixPair pair, const tensor::Tensor& offsets,
                         std::span<const NewtonSchulzPhase> phases);

}  // namespace flyover::optim
