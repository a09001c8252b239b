#include "kernels/checks.h"

#include <algorithm>

#include "base/error.h"

namespace flyover::kernels {

void check_view(bool condition, std::string_view kernel, std::string_view what, const ConstView& view) {
  if (!condition) [[unlikely]] {
    throw base::InternalError(fmt::format("{}: {}: {}", kernel, what, to_string(view)));
  }
}

void check_shape(std::string_view kernel, std::string_view field, const ConstView& view,
                 std::initializer_list<std::int64_t> shape) {
  bool fits = view.rank() == static_cast<int>(shape.size());
  int axis = 0;
  for (const std::int64_t size : shape) {
    fits = fits && (size == -1 || view.size(axis) == size);
    ++axis;
  }
  if (!fits) [[unlikely]] {
    std::string expected;
    for (const std::int64_t size : shape) {
      expected += (expected.empty() ? "" : ", ") + (size == -1 ? std::string("*") : std::to_string(size));
    }
    throw base::InternalError(
        fmt::format("{}: {} must have shape [{}], found {}", kernel, field, expected, to_string(view)));
  }
}

void check_dtype(std::string_view kernel, std::string_view field, const ConstView& view,
                 std::initializer_list<DType> allowed) {
  if (std::find(allowed.begin(), allowed.end(), view.dtype) == allowed.end()) [[unlikely]] {
    throw base::InternalError(fmt::format("{}: {} has an unsupported type: {}", kernel, field, to_string(view)));
  }
}

void check_floating(std::string_view kernel, std::string_view field, const ConstView& view) {
  check_dtype(kernel, field, view, {DType::kF32, DType::kBf16, DType::kF64});
}

void check_last_axis_dense(std::string_view kernel, std::string_view field, const ConstView& view) {
  const int axis = view.rank() - 1;
  if (axis >= 0 && view.size(axis) > 1 && view.stride(axis) != 1) [[unlikely]] {
    throw base::InternalError(fmt::format("{}: {} must be dense on its last axis: {}", kernel, field, to_string(view)));
  }
}

void check_dense(std::string_view kernel, std::string_view field, const ConstView& view) {
  if (!view.is_dense()) [[unlikely]] {
    throw base::InternalError(fmt::format("{}: {} must be dense: {}", kernel, field, to_string(view)));
  }
}

}  // namespace flyover::kernels
