// Host memory for the operands of kernels under test: random contents, gaps between rows, guards around them.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "base/random.h"
#include "kernels/view.h"

namespace flyover::tests {

/// Blocks of memory, each the home of one operand, that can be copied as a whole. Every block is its own allocation
/// that ends where the operand or its guard ends, so that the address sanitizer sees what is read outside it.
class OperandMemory {
 public:
  /// A new block of `bytes` bytes, 64-byte aligned; null for 0 bytes.
  std::byte* allocate(std::size_t bytes);
  /// The same blocks with the same contents at other addresses.
  OperandMemory copy() const;
  /// The place in this memory of an address in `original`, which this is a copy of. Null stays null.
  std::byte* translate(const OperandMemory& original, const void* address) const;

  std::size_t block_count() const { return blocks_.size(); }
  std::span<const std::byte> block(std::size_t index) const {
    return {blocks_[index].bytes.get(), blocks_[index].size};
  }

 private:
  struct Free {
    void operator()(std::byte* bytes) const;
  };
  struct Block {
    std::unique_ptr<std::byte[], Free> bytes;
    std::size_t size;
  };
  std::vector<Block> blocks_;
};

/// What is around and between the rows of an operand.
enum class Layout { kDense, kGaps };

/// Makes operands from one stream of random numbers.
class OperandMaker {
 public:
  /// `number` counts the cases of a kernel: 0 is empty, 1 has one element, the others are of random, ragged sizes.
  OperandMaker(std::uint64_t seed, int number);

  bool coin() { return below(2) == 0; }
  std::int64_t below(std::int64_t bound);
  double uniform(double low, double high);
  double normal();
  template <typename Value>
  Value one_of(std::initializer_list<Value> values) {
    return values.begin()[below(static_cast<std::int64_t>(values.size()))];
  }
  int number() const { return number_; }

  /// A size from 1 to `largest`, often next to a multiple of a vector's width; 1 for case 1.
  std::int64_t size(std::int64_t largest);
  /// As `size`, but 0 for case 0.
  std::int64_t count(std::int64_t largest);

  /// Uninitialised bits (NaN for floating types), for what a kernel only writes. kGaps: the last axis is dense, the
  /// others may have gaps between them, and the first element may be anywhere.
  kernels::View blank(kernels::DType dtype, const kernels::Dims& shape, Layout layout = Layout::kDense);
  /// Standard normal, times `deviation`; integers from 0 to 99.
  kernels::View random(kernels::DType dtype, const kernels::Dims& shape, Layout layout = Layout::kDense,
                       double deviation = 1.0);
  /// Uniform in [low, high). Dense.
  kernels::View uniform(kernels::DType dtype, const kernels::Dims& shape, double low, double high);
  /// Integers from 0 to bound - 1. Dense i32.
  kernels::View indices(std::int64_t count, std::int64_t bound);
  /// A floating or integer matrix that may be stored by columns.
  kernels::View matrix(kernels::DType dtype, std::int64_t rows, std::int64_t columns);

  OperandMemory& memory() { return memory_; }

 private:
  base::Random random_;
  std::uint64_t position_ = 0;
  int number_;
  OperandMemory memory_;
};

/// Address of an element by its indices, in row-major order of the view's shape.
std::byte* element_address(const kernels::ConstView& view, std::int64_t index);
/// Any type but i64 beyond 2^53, as double.
double element(const kernels::ConstView& view, std::int64_t index);
void set_element(const kernels::View& view, std::int64_t index, double value);

}  // namespace flyover::tests
