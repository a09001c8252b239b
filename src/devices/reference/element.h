// Elements of any floating type seen as doubles, so that a reference kernel reads like the equation it computes.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "base/error.h"
#include "kernels/view.h"

namespace flyover::devices::reference {

/// Rounds once, to nearest with ties to even: through the odd-rounded float, which keeps enough bits not to round twice
/// (Boldo and Melquiond, "When double rounding is odd", 2005).
inline kernels::Bf16 round_to_bf16(double value) {
  float rounded = static_cast<float>(value);
  if (static_cast<double>(rounded) != value && !std::isnan(value)) {
    if (std::fabs(static_cast<double>(rounded)) > std::fabs(value)) {
      rounded = std::nextafter(rounded, 0.0f);
    }
    rounded = std::bit_cast<float>(std::bit_cast<std::uint32_t>(rounded) | 1u);
  }
  return kernels::to_bf16(rounded);
}

template <typename Type>
Type load(const std::byte* address) {
  Type value;
  std::memcpy(&value, address, sizeof(value));
  return value;
}

template <typename Type>
void store(std::byte* address, Type value) {
  std::memcpy(address, &value, sizeof(value));
}

/// One floating element. Throws InternalError for an integer type.
inline double load_floating(const std::byte* address, kernels::DType dtype) {
  switch (dtype) {
    case kernels::DType::kF32:
      return static_cast<double>(load<float>(address));
    case kernels::DType::kBf16:
      return static_cast<double>(kernels::to_float(load<kernels::Bf16>(address)));
    case kernels::DType::kF64:
      return load<double>(address);
    default:
      throw base::InternalError("reference device: a floating tensor was expected");
  }
}

/// Rounds once to the type of the element. Throws InternalError for an integer type.
inline void store_floating(std::byte* address, kernels::DType dtype, double value) {
  switch (dtype) {
    case kernels::DType::kF32:
      return store(address, static_cast<float>(value));
    case kernels::DType::kBf16:
      return store(address, round_to_bf16(value));
    case kernels::DType::kF64:
      return store(address, value);
    default:
      throw base::InternalError("reference device: a floating tensor was expected");
  }
}

/// An element that can be assigned: reads as a double, stores rounded once.
class Element {
 public:
  Element(std::byte* address, kernels::DType dtype) : address_(address), dtype_(dtype) {}
  operator double() const { return load_floating(address_, dtype_); }  // NOLINT(google-explicit-constructor)
  const Element& operator=(double value) const {
    store_floating(address_, dtype_, value);
    return *this;
  }
  /// NOLINTNEXTLINE(bugprone-unhandled-self-assignment): stores what it has just read
  const Element& operator=(const Element& other) const { return *this = static_cast<double>(other); }
  const Element& operator+=(double value) const { return *this = *this + value; }

 private:
  std::byte* address_;
  kernels::DType dtype_;
};

/// Offset in bytes of the element at these indices.
template <typename Pointer, typename... Indices>
std::int64_t offset_of(const kernels::BasicView<Pointer>& view, Indices... indices) {
  std::int64_t offset = 0;
  int axis = 0;
  ((offset += indices * view.stride(axis++)), ...);
  return offset * static_cast<std::int64_t>(kernels::size_of(view.dtype));
}

/// Address of the element at these indices.
template <typename... Indices>
const std::byte* address_of(const kernels::ConstView& view, Indices... indices) {
  return static_cast<const std::byte*>(view.data) + offset_of(view, indices...);
}
template <typename... Indices>
std::byte* address_of(const kernels::View& view, Indices... indices) {
  return static_cast<std::byte*>(view.data) + offset_of(view, indices...);
}

/// A floating tensor that is read: x(i, j).
class Input {
 public:
  explicit Input(const kernels::ConstView& view) : view_(view) {}
  template <typename... Indices>
  double operator()(Indices... indices) const {
    return load_floating(address_of(view_, indices...), view_.dtype);
  }

 private:
  kernels::ConstView view_;
};

/// A floating tensor that is written, and may be read: y(i, j) = value.
class Output {
 public:
  explicit Output(const kernels::View& view) : view_(view) {}
  template <typename... Indices>
  Element operator()(Indices... indices) const {
    return {address_of(view_, indices...), view_.dtype};
  }

 private:
  kernels::View view_;
};

/// The elements of a dense i32 tensor.
inline std::span<const std::int32_t> integers(const kernels::ConstView& view) {
  return {static_cast<const std::int32_t*>(view.data), static_cast<std::size_t>(view.elements())};
}

/// rows[i]. Throws InternalError if the table has no such row.
inline std::int64_t row_at(std::string_view kernel, const kernels::ConstView& rows, std::int64_t i,
                           const kernels::ConstView& table) {
  const std::int64_t row = integers(rows)[static_cast<std::size_t>(i)];
  base::check(row >= 0 && row < table.size(0), "{}: row index {} at {} of a table with {} rows", kernel, row, i,
              table.size(0));
  return row;
}

/// The elements of a matrix as doubles, row-major, for the loops in which the reference spends its time.
inline std::vector<double> to_doubles(const kernels::ConstView& view) {
  const Input x(view);
  std::vector<double> values;
  values.reserve(static_cast<std::size_t>(view.elements()));
  for (std::int64_t i = 0; i < view.size(0); ++i) {
    for (std::int64_t j = 0; j < view.size(1); ++j) {
      values.push_back(x(i, j));
    }
  }
  return values;
}

}  // namespace flyover::devices::reference
