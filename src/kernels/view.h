// Views: where a kernel finds its operands. A view owns nothing and its address means something to its device only.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "kernels/dtype.h"

namespace flyover::kernels {

inline constexpr int kMaximumRank = 4;

/// Up to four 64-bit sizes (or strides, in elements). Rank 0 is a scalar.
class Dims {
 public:
  constexpr Dims() = default;
  /// Throws InternalError for more than kMaximumRank values.
  Dims(std::initializer_list<std::int64_t> values);
  explicit Dims(std::span<const std::int64_t> values);

  int rank() const { return rank_; }
  std::int64_t operator[](int axis) const { return values_[static_cast<std::size_t>(axis)]; }
  std::int64_t& operator[](int axis) { return values_[static_cast<std::size_t>(axis)]; }
  std::span<const std::int64_t> values() const { return {values_.data(), static_cast<std::size_t>(rank_)}; }
  /// Product of all values; 1 for rank 0.
  std::int64_t elements() const;
  bool operator==(const Dims& other) const = default;

 private:
  std::array<std::int64_t, kMaximumRank> values_{};
  int rank_ = 0;
};

/// Row-major strides of a dense tensor.
Dims dense_strides(const Dims& shape);

/// "[3, 576]".
std::string to_string(const Dims& dims);

/// Shape, strides (in elements) and type of an operand, and its address on the device.
template <typename Pointer>
struct BasicView {
  Pointer data = nullptr;
  DType dtype = DType::kF32;
  Dims shape;
  Dims strides;

  int rank() const { return shape.rank(); }
  std::int64_t size(int axis) const { return shape[axis]; }
  std::int64_t stride(int axis) const { return strides[axis]; }
  std::int64_t elements() const { return shape.elements(); }
  /// Bytes that the elements occupy (without gaps between rows).
  std::uint64_t bytes() const { return static_cast<std::uint64_t>(elements()) * size_of(dtype); }
  bool is_dense() const { return elements() == 0 || strides == dense_strides(shape); }

  /// The same elements seen as constant.
  operator BasicView<const void*>() const  // NOLINT(google-explicit-constructor): as T* converts to const T*
      requires(!std::is_same_v<Pointer, const void*>) {
    return {data, dtype, shape, strides};
  }
};

using View = BasicView<void*>;
using ConstView = BasicView<const void*>;

/// Rows [begin, begin + count) of the first axis.
template <typename Pointer>
BasicView<Pointer> slice_rows(const BasicView<Pointer>& view, std::int64_t begin, std::int64_t count);

/// A range of the last axis.
template <typename Pointer>
BasicView<Pointer> slice_last(const BasicView<Pointer>& view, std::int64_t begin, std::int64_t count);

/// Axes 0 and 1 exchanged. Rank 2.
template <typename Pointer>
BasicView<Pointer> transpose(const BasicView<Pointer>& view);

/// A view with the last axis of length a * b seen as two axes [a, b]. The last axis must be dense.
template <typename Pointer>
BasicView<Pointer> split_last(const BasicView<Pointer>& view, std::int64_t first, std::int64_t second);

/// "bf16[3, 576]", with strides where the view is not dense.
std::string to_string(const ConstView& view);

}  // namespace flyover::kernels
