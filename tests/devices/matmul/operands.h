// Operands for tests of MatMul: random matrices whose memory ends (or begins) at an unmapped page and whose gaps
// between rows are NaN, so that whatever reads outside them crashes or shows.
#pragma once

#include <cstdint>
#include <vector>

#include "devices/cpu/instruction_set.h"
#include "kernels/matmul.h"

namespace flyover::devices::cpu::testing {

/// Bytes between two unmapped pages. With `at_end` the bytes end where the second page begins, else they begin where
/// the first one ends.
class GuardedBytes {
 public:
  GuardedBytes(std::size_t bytes, bool at_end);
  ~GuardedBytes();
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  GuardedBytes(GuardedBytes&& other) noexcept;
  std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }

 private:
  std::byte* mapping_ = nullptr;
  std::size_t mapping_bytes_ = 0;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// How a matrix lies in memory.
struct Layout {
  kernels::DType dtype = kernels::DType::kF32;
  bool transposed = false;  ///< the first axis has stride 1
  std::int64_t gap = 0;     ///< elements between two rows (columns where transposed)
  bool at_end = true;       ///< of its guarded memory
};

class Matrix {
 public:
  /// [rows, columns], all zero, gaps NaN.
  Matrix(std::int64_t rows, std::int64_t columns, const Layout& layout);

  kernels::View view() const;
  /// The matrix with rows [begin, begin + count) only.
  kernels::View rows(std::int64_t begin, std::int64_t count) const { return kernels::slice_rows(view(), begin, count); }
  float get(std::int64_t row, std::int64_t column) const;
  /// Rounds to bf16 where the matrix is.
  void set(std::int64_t row, std::int64_t column, float value);
  /// Uniform values in [-1, 1), a function of (seed, row, column) alone.
  void fill_random(std::uint64_t seed);
  void copy_from(const Matrix& other);
  /// Whether every gap still holds the NaN it was made with.
  bool gaps_are_intact() const;

 private:
  std::size_t offset(std::int64_t row, std::int64_t column) const;
  std::int64_t rows_;
  std::int64_t columns_;
  Layout layout_;
  std::int64_t stride_;
  GuardedBytes memory_;
};

/// Checks and launches c (+)= a b^T, with a workspace that is guarded too and full of NaN.
void multiply(InstructionSet set, const kernels::ConstView& a, const kernels::ConstView& b, const kernels::View& c,
              bool accumulate, int threads);

/// The bits of all elements, row by row.
std::vector<std::uint32_t> bits_of(const Matrix& matrix, std::int64_t first_row, std::int64_t rows,
                                   std::int64_t columns);

}  // namespace flyover::devices::cpu::testing
