#include <cmath>
#include <cstring>
#include <limits>

#include "devices/cpu/families.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/elementwise.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/row_sums.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

template <typename T>
void fill_rows(const kernels::View& y, T value, int threads) {
  const auto rows = rows_of<T>(y);
  const auto spans = rows.gapless() ? as_one_row(rows) : rows;
  for_each_span(threads, spans.rows, spans.width,
                [&](std::int64_t i, std::int64_t begin, std::int64_t columns)
                    HWY_ATTR { std::fill_n(spans[i] + begin, columns, value); });
}

void copy_same_type(const kernels::Copy& kernel, int threads) {
  const std::int64_t size = static_cast<std::int64_t>(kernels::size_of(kernel.x.dtype));
  auto x = rows_of<const std::byte>(kernel.x);
  auto y = rows_of<std::byte>(kernel.y);
  x = {x.data, x.rows, x.width * size, x.stride * size};
  y = {y.data, y.rows, y.width * size, y.stride * size};
  if (x.gapless() && y.gapless()) {
    x = as_one_row(x);
    y = as_one_row(y);
  }
  for_each_span(threads, x.rows, x.width, [&](std::int64_t i, std::int64_t begin, std::int64_t columns) HWY_ATTR {
    std::memmove(y[i] + begin, x[i] + begin, static_cast<std::size_t>(columns));
  });
}

void copy(const kernels::Copy& kernel, const LaunchContext& context) {
  if (kernel.x.dtype == kernel.y.dtype) {
    copy_same_type(kernel, context.threads);
    return;
  }
  with_element_type(kernel.kName, kernel.x.dtype, [&]<typename From>(From) HWY_ATTR {
    with_element_type(kernel.kName, kernel.y.dtype, [&]<typename To>(To) HWY_ATTR {
      auto x = rows_of<const From>(kernel.x);
      auto y = rows_of<To>(kernel.y);
      if (x.gapless() && y.gapless()) {
        x = as_one_row(x);
        y = as_one_row(y);
      }
      for_each_span(
          context.threads, x.rows, x.width, [&](std::int64_t i, std::int64_t begin, std::int64_t columns) HWY_ATTR {
            const From* const from = x[i] + begin;
            To* const to = y[i] + begin;
            for_each_vector(columns, [&](std::int64_t j, auto lanes)
                                         FLYOVER_VECTOR_BODY { store(load(from + j, lanes), to + j, lanes); });
          });
    });
  });
}

void add(const kernels::Add& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.y.dtype, [&]<typename T>(T) HWY_ATTR {
    auto a = rows_of<const T>(kernel.a);
    auto b = rows_of<const T>(kernel.b);
    auto y = rows_of<T>(kernel.y);
    if (a.gapless() && b.gapless() && y.gapless()) {
      a = as_one_row(a);
      b = as_one_row(b);
      y = as_one_row(y);
    }
    for_each_span(context.threads, y.rows, y.width,
                  [&](std::int64_t i, std::int64_t begin, std::int64_t columns) HWY_ATTR {
                    const T* const a_row = a[i] + begin;
                    const T* const b_row = b[i] + begin;
                    T* const y_row = y[i] + begin;
                    for_each_vector(columns, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
                      store(hn::Add(load(a_row + j, lanes), load(b_row + j, lanes)), y_row + j, lanes);
                    });
                  });
  });
}

void scale(const kernels::Scale& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.y.dtype, [&]<typename T>(T) HWY_ATTR {
    const auto x = rows_of<const T>(kernel.x);
    const auto y = rows_of<T>(kernel.y);
    for_each_span(context.threads, y.rows, y.width,
                  [&](std::int64_t i, std::int64_t begin, std::int64_t columns) HWY_ATTR {
                    const T* const x_row = x[i] + begin;
                    T* const y_row = y[i] + begin;
                    for_each_vector(columns, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
                      store(hn::Mul(load(x_row + j, lanes), hn::Set(Tag(), kernel.factor)), y_row + j, lanes);
                    });
                  });
  });
}

void add_bias(const kernels::AddBias& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.y.dtype, [&]<typename T>(T) HWY_ATTR {
    const auto y = rows_of<T>(kernel.y);
    const T* const bias = static_cast<const T*>(kernel.bias.data);
    for_each_span(context.threads, y.rows, y.width,
                  [&](std::int64_t i, std::int64_t begin, std::int64_t columns) HWY_ATTR {
                    T* const y_row = y[i] + begin;
                    for_each_vector(columns, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
                      store(hn::Add(load(y_row + j, lanes), load(bias + begin + j, lanes)), y_row + j, lanes);
                    });
                  });
  });
}

void sum_rows(const kernels::SumRows& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.x.dtype, [&]<typename T>(T) HWY_ATTR {
    const auto x = rows_of<const T>(kernel.x);
    add_row_sums(x.rows, x.width, static_cast<float*>(kernel.sum.data), context,
                 [&](Vector sum, std::int64_t i, std::int64_t j, auto lanes)
                     FLYOVER_VECTOR_BODY { return hn::Add(sum, load(x[i] + j, lanes)); });
  });
}

/// Throws InternalError unless the integer type holds the value.
template <typename Integer>
Integer to_integer(double value) {
  // One above the largest value, which a double may not be able to hold.
  const double limit = std::ldexp(1.0, std::numeric_limits<Integer>::digits);
  base::check(value >= static_cast<double>(std::numeric_limits<Integer>::min()) && value < limit,
              "{}: {} does not fit the integer type of y", kernels::Fill::kName, value);
  return static_cast<Integer>(value);
}

void fill(const kernels::Fill& kernel, const LaunchContext& context) {
  switch (kernel.y.dtype) {
    case kernels::DType::kF32:
      return fill_rows(kernel.y, static_cast<float>(kernel.value), context.threads);
    case kernels::DType::kBf16:
      return fill_rows(kernel.y, kernels::to_bf16(static_cast<float>(kernel.value)).bits, context.threads);
    case kernels::DType::kI32:
      return fill_rows(kernel.y, to_integer<std::int32_t>(kernel.value), context.threads);
    case kernels::DType::kI64:
      return fill_rows(kernel.y, to_integer<std::int64_t>(kernel.value), context.threads);
    case kernels::DType::kU8:
      return fill_rows(kernel.y, to_integer<std::uint8_t>(kernel.value), context.threads);
    case kernels::DType::kF64:
      return fill_rows(kernel.y, kernel.value, context.threads);
  }
}

void add_kernels(KernelTable& table) {
  table.set<kernels::Fill>(fill);
  table.set<kernels::Copy>(copy);
  table.set<kernels::Add>(add);
  table.set<kernels::Scale>(scale);
  table.set<kernels::AddBias>(add_bias);
  table.set<kernels::SumRows>(sum_rows, [](const kernels::SumRows& kernel, int) {
    return row_sums_workspace(kernel.x.size(0), kernel.x.size(1));
  });
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_elementwise_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table) : N_AVX3::add_kernels(table);
}

}  // namespace flyover::devices::cpu
#endif
