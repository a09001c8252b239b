// Building blocks for the `check()` of kernel structs. A violation is a bug above the kernel: InternalError.
#pragma once

#include <initializer_list>
#include <string_view>

#include "kernels/view.h"

namespace flyover::kernels {

/// Throws InternalError "<kernel>: <what>: <view>" unless the condition holds.
void check_view(bool condition, std::string_view kernel, std::string_view what, const ConstView& view);

/// The view has this shape (-1 = any size on that axis).
void check_shape(std::string_view kernel, std::string_view field, const ConstView& view,
                 std::initializer_list<std::int64_t> shape);

/// The view's type is one of these.
void check_dtype(std::string_view kernel, std::string_view field, const ConstView& view,
                 std::initializer_list<DType> allowed);

/// f32, bf16 or f64.
void check_floating(std::string_view kernel, std::string_view field, const ConstView& view);

/// Consecutive elements of the last axis are neighbours in memory (or there is at most one).
void check_last_axis_dense(std::string_view kernel, std::string_view field, const ConstView& view);

/// No gaps at all.
void check_dense(std::string_view kernel, std::string_view field, const ConstView& view);

}  // namespace flyover::kernels
