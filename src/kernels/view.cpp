#include "kernels/view.h"

#include "base/error.h"
#include "kernels/format_view.h"

namespace flyover::kernels {

std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBf16:
      return "bf16";
    case DType::kF64:
      return "f64";
    case DType::kI32:
      return "i32";
    case DType::kI64:
      return "i64";
    case DType::kU8:
      return "u8";
  }
  return "?";
}

Dims::Dims(std::span<const std::int64_t> values) : rank_(static_cast<int>(values.size())) {
  base::check(values.size() <= kMaximumRank, "a tensor of rank {} (the largest is {})", values.size(), kMaximumRank);
  for (std::size_t i = 0; i < values.size(); ++i) {
    base::check(values[i] >= 0, "a negative size {}", values[i]);
    values_[i] = values[i];
  }
}

Dims::Dims(std::initializer_list<std::int64_t> values) : Dims(std::span(values.begin(), values.size())) {}

std::int64_t Dims::elements() const {
  std::int64_t product = 1;
  for (const std::int64_t value : values()) {
    product *= value;
  }
  return product;
}

Dims dense_strides(const Dims& shape) {
  Dims strides = shape;
  std::int64_t stride = 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}

std::string to_string(const Dims& dims) {
  std::string text = "[";
  for (int axis = 0; axis < dims.rank(); ++axis) {
    text += fmt::format("{}{}", axis == 0 ? "" : ", ", dims[axis]);
  }
  return text + "]";
}

namespace {

template <typename Pointer>
Pointer advance(const BasicView<Pointer>& view, std::int64_t elements) {
  using Byte = std::conditional_t<std::is_same_v<Pointer, void*>, std::byte, const std::byte>;
  return static_cast<Byte*>(view.data) + elements * static_cast<std::int64_t>(size_of(view.dtype));
}

}  // namespace

template <typename Pointer>
BasicView<Pointer> slice_rows(const BasicView<Pointer>& view, std::int64_t begin, std::int64_t count) {
  base::check(view.rank() >= 1 && begin >= 0 && count >= 0 && begin + count <= view.size(0), "rows {}+{} of {}", begin,
              count, view.shape);
  BasicView<Pointer> result = view;
  result.shape[0] = count;
  result.data = advance(view, begin * view.stride(0));
  return result;
}

template <typename Pointer>
BasicView<Pointer> slice_last(const BasicView<Pointer>& view, std::int64_t begin, std::int64_t count) {
  const int axis = view.rank() - 1;
  base::check(axis >= 0 && begin >= 0 && count >= 0 && begin + count <= view.size(axis), "columns {}+{} of {}", begin,
              count, view.shape);
  BasicView<Pointer> result = view;
  result.shape[axis] = count;
  result.data = advance(view, begin * view.stride(axis));
  return result;
}

template <typename Pointer>
BasicView<Pointer> transpose(const BasicView<Pointer>& view) {
  base::check(view.rank() == 2, "transpose of {}", view.shape);
  return {view.data, view.dtype, {view.size(1), view.size(0)}, {view.stride(1), view.stride(0)}};
}

template <typename Pointer>
BasicView<Pointer> split_last(const BasicView<Pointer>& view, std::int64_t first, std::int64_t second) {
  const int axis = view.rank() - 1;
  base::check(axis >= 0 && axis + 1 < kMaximumRank && view.stride(axis) == 1 && view.size(axis) == first * second,
              "cannot see the last axis of {} as [{}, {}]", view.shape, first, second);
  std::array<std::int64_t, kMaximumRank> shape{}, strides{};
  for (int i = 0; i < axis; ++i) {
    shape[static_cast<std::size_t>(i)] = view.size(i);
    strides[static_cast<std::size_t>(i)] = view.stride(i);
  }
  const auto last = static_cast<std::size_t>(axis);
  shape[last] = first, shape[last + 1] = second;
  strides[last] = second, strides[last + 1] = 1;
  return {view.data, view.dtype, Dims(std::span(shape).first(last + 2)), Dims(std::span(strides).first(last + 2))};
}

template BasicView<void*> slice_rows(const BasicView<void*>&, std::int64_t, std::int64_t);
template BasicView<const void*> slice_rows(const BasicView<const void*>&, std::int64_t, std::int64_t);
template BasicView<void*> slice_last(const BasicView<void*>&, std::int64_t, std::int64_t);
template BasicView<const void*> slice_last(const BasicView<const void*>&, std::int64_t, std::int64_t);
template BasicView<void*> transpose(const BasicView<void*>&);
template BasicView<const void*> transpose(const BasicView<const void*>&);
template BasicView<void*> split_last(const BasicView<void*>&, std::int64_t, std::int64_t);
template BasicView<const void*> split_last(const BasicView<const void*>&, std::int64_t, std::int64_t);

std::string to_string(const ConstView& view) {
  std::string text = fmt::format("{}{}", name_of(view.dtype), view.shape);
  if (!view.is_dense()) {
    text += " strides " + to_string(view.strides);
  }
  return text;
}

}  // namespace flyover::kernels
