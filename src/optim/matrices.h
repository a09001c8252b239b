// Which matrices parameters consist of, and in which order Muon works on them. Parameters' metadata decides, never
// names.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/parameter.h"

namespace flyover::optim {

/// Matrices [rows, columns] of one parameter, at equal distances.
struct MatrixStack {
  std::size_t parameter = 0;  ///< index in the ParameterSet
  std::int64_t matrices = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t first_element = 0;  ///< of the first matrix
  std::int64_t distance = 0;       ///< elements from one matrix to the next

  /// Matrices are worked on lying: with the shorter side as rows.
  bool is_tall() const { return rows > columns; }
  std::int64_t short_side() const { return is_tall() ? columns : rows; }
  std::int64_t long_side() const { return is_tall() ? rows : columns; }

  /// Matrices [first, first + count) of a dense tensor of the parameter's shape: [count, rows, columns], sharing the
  /// storage.
  tensor::Tensor of(const tensor::Tensor& parameter_like, std::int64_t first, std::int64_t count) const;
};

/// The logically independent matrices of a parameter of at least two axes (see ParameterSpec::matrix_rows). Throws
/// InternalError if they do not cover it.
std::vector<MatrixStack> matrix_stacks(const autograd::ParameterSpec& spec, std::size_t parameter);

/// Some matrices of a stack.
struct MatrixRange {
  MatrixStack stack;
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// Matrices of the same lying shape and type, of one or of many parameters, that are worked on at once.
struct MatrixBatch {
  std::int64_t rows = 0;  ///< rows <= columns
  std::int64_t columns = 0;
  tensor::DType dtype = tensor::DType::kF32;
  std::int64_t matrices = 0;
  std::vector<MatrixRange> ranges;
};

/// A stack and the type of its parameter's value.
struct TypedStack {
  MatrixStack stack;
  tensor::DType dtype;
};

/// Every matrix in one batch, matrices of equal shapes together, with temporaries of at most `bytes` for each batch
/// (more only where a single matrix needs more).
std::vector<MatrixBatch> batch_matrices(const std::vector<TypedStack>& stacks, std::uint64_t bytes);

}  // namespace flyover::optim
