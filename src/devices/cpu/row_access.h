// What the vector kernels share besides vector code: typed rows of a view, and how work is cut into blocks. The blocks
// depend on shapes alone, never on the thread count.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/error.h"
#include "base/threads.h"
#include "kernels/view.h"

namespace flyover::devices::cpu {

/// The matrix behind a view of rank 1 (one row) or 2, its last axis dense. T is const where the view is.
template <typename T>
struct RowAccess {
  T* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t width = 0;
  std::int64_t stride = 0;  ///< elements between rows

  T* operator[](std::int64_t row) const { return data + row * stride; }
  bool gapless() const { return rows <= 1 || stride == width; }
};

template <typename T, typename Pointer>
RowAccess<T> rows_of(const kernels::BasicView<Pointer>& view) {
  T* const data = static_cast<T*>(view.data);
  switch (view.rank()) {
    case 0:
      return {data, 1, 1, 1};
    case 1:
      return {data, 1, view.size(0), view.size(0)};
    default:
      return {data, view.size(0), view.size(1), view.stride(0)};
  }
}

/// The numbers in `rows`, a dense i32 view. Throws InternalError if `table` lacks a row of that number.
inline std::span<const std::int32_t> checked_rows(std::string_view kernel, const kernels::ConstView& rows,
                                                  const kernels::ConstView& table) {
  const std::span numbers(static_cast<const std::int32_t*>(rows.data), static_cast<std::size_t>(rows.elements()));
  std::uint32_t largest = 0;  // a negative number is a large one
  for (const std::int32_t number : numbers) {
    largest = std::max(largest, static_cast<std::uint32_t>(number));
  }
  base::check(numbers.empty() || static_cast<std::int64_t>(largest) < table.size(0), "{}: row {} of a table with {}",
              kernel, static_cast<std::int32_t>(largest), table.size(0));
  return numbers;
}

/// All rows as one where there are no gaps between them: for kernels that do not see rows.
template <typename T>
RowAccess<T> as_one_row(const RowAccess<T>& rows) {
  return {rows.data, 1, rows.rows * rows.width, rows.rows * rows.width};
}

/// Calls body(T{}) with the type of the elements, float or Bf16. Throws InternalError naming kernel and type for
/// others.
template <typename Body>
void with_element_type(std::string_view kernel, kernels::DType dtype, const Body& body) {
  switch (dtype) {
    case kernels::DType::kF32:
      return body(float{});
    case kernels::DType::kBf16:
      return body(kernels::Bf16{});
    default:
      base::check(false, "{}: the cpu device has no code for {}", kernel, kernels::name_of(dtype));
  }
}

/// Throws InternalError unless the operand is f32.
inline void check_is_f32(std::string_view kernel, const kernels::ConstView& view) {
  base::check(view.dtype == kernels::DType::kF32, "{}: the cpu device has no code for {}", kernel,
              kernels::name_of(view.dtype));
}

/// Elements that one item of a parallel loop handles, roughly: enough to hide the cost of handing it out.
inline constexpr std::int64_t kBlockElements = 16384;

constexpr std::int64_t blocks_of(std::int64_t count, std::int64_t block) {
  return (count + block - 1) / block;
}

/// Rows of this width in one block.
constexpr std::int64_t rows_per_block(std::int64_t width) {
  return std::max<std::int64_t>(1, kBlockElements / std::max<std::int64_t>(1, width));
}

/// body(row) for every row, blocks of rows in parallel.
template <typename Body>
void for_each_row(int threads, std::int64_t rows, std::int64_t width, const Body& body) {
  const std::int64_t per_block = rows_per_block(width);
  base::parallel_for(threads, blocks_of(rows, per_block), [&](std::int64_t block) {
    const std::int64_t end = std::min(rows, (block + 1) * per_block);
    for (std::int64_t row = block * per_block; row < end; ++row) {
      body(row);
    }
  });
}

/// body(row, first_column, columns) until every element has been visited; long rows are cut, short ones grouped.
template <typename Body>
void for_each_span(int threads, std::int64_t rows, std::int64_t width, const Body& body) {
  if (width == 0) {
    return;
  }
  const std::int64_t per_block = rows_per_block(width), spans = blocks_of(width, kBlockElements);
  base::parallel_for(threads, blocks_of(rows, per_block) * spans, [&](std::int64_t item) {
    const std::int64_t block = item / spans, begin = item % spans * kBlockElements;
    const std::int64_t columns = std::min(kBlockElements, width - begin), end = std::min(rows, (block + 1) * per_block);
    for (std::int64_t row = block * per_block; row < end; ++row) {
      body(row, begin, columns);
    }
  });
}

}  // namespace flyover::devices::cpu
