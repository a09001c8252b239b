#include "devices/support/run_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string_view>
#include <vector>

#include <fmt/core.h>

#include "base/error.h"

namespace flyover::tests {

using kernels::ConstView;
using kernels::DType;

namespace {

/// One view of a kernel after the launch on two devices.
struct ViewOutcome {
  std::string_view name;
  kernels::Role role;
  ConstView expected;
  ConstView actual;
  double magnitude;
};

/// Largest relative errors: of one element (relative to its row's norm, too), of a row's norm, of the view's norm.
struct Tolerance {
  double element;
  double row;
  double view;
};

Tolerance tolerance_of(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return {1e-12, 1e-12, 1e-13};
    case DType::kF32:
      // The exponentials and long sums of straightforward fp32 loops are off by up to 5e-6 in these cases.
      return {1e-5, 5e-6, 2e-6};
    case DType::kBf16:
      // Half a unit in the last place is 2^-8 at worst; a sum that differs in fp32 may round the other way. Attention
      // that rounds its probabilities to bf16 for the matrix unit is off by up to 2^-7 of a row, far less on average.
      return {0x1.01p-7, 0x1.01p-7, 0x1p-8};
    default:
      return {0.0, 0.0, 0.0};
  }
}

bool same_element_bits(const ConstView& a, const ConstView& b, std::int64_t index) {
  return std::memcmp(element_address(a, index), element_address(b, index), kernels::size_of(a.dtype)) == 0;
}

/// Elements [begin, end) of the view, against the tolerance for one element and for their norm.
std::string compare_range(const ViewOutcome& view, std::int64_t begin, std::int64_t end, double element_tolerance,
                          double norm_tolerance) {
  double expected_square = 0, error_square = 0, count = 0;
  for (std::int64_t i = begin; i < end; ++i) {
    if (same_element_bits(view.expected, view.actual, i) && !std::isfinite(element(view.expected, i))) {
      continue;  // untouched by both, or the same infinity
    }
    const double expected = element(view.expected, i), error = element(view.actual, i) - expected;
    expected_square += expected * expected;
    error_square += error * error;
    count += 1;
  }
  const double root_mean_square = count > 0 ? std::sqrt(expected_square / count) : 0.0;
  const double scale = std::max(root_mean_square, view.magnitude);
  for (std::int64_t i = begin; i < end; ++i) {
    const double expected = element(view.expected, i), actual = element(view.actual, i);
    const bool close = std::fabs(actual - expected) <= element_tolerance * std::max(std::fabs(expected), scale);
    if (!same_element_bits(view.expected, view.actual, i) && !close) {
      return fmt::format("{} [element {}]: expected {}, found {}\n", view.name, i, expected, actual);
    }
  }
  if (std::sqrt(error_square) > norm_tolerance * scale * std::sqrt(count)) {
    return fmt::format("{} [elements {} to {}]: the error is {:.3g} of the norm\n", view.name, begin, end - 1,
                       std::sqrt(error_square) / (scale * std::sqrt(count)));
  }
  return "";
}

std::string compare_view(const ViewOutcome& view) {
  const std::int64_t elements = view.expected.elements();
  const std::int64_t width = view.expected.rank() == 0 ? 1 : view.expected.size(view.expected.rank() - 1);
  const Tolerance tolerance = tolerance_of(view.expected.dtype);
  for (std::int64_t begin = 0; begin < elements; begin += width) {
    if (std::string problem = compare_range(view, begin, begin + width, tolerance.element, tolerance.row);
        !problem.empty()) {
      return problem;
    }
  }
  // A handful of elements may all have rounded the other way: their norm says no more than they do.
  return compare_range(view, 0, elements, tolerance.element, elements < 64 ? tolerance.row : tolerance.view);
}

std::vector<ViewOutcome> outcomes(const KernelCase& expected, const KernelCase& actual) {
  const std::vector<KernelView> expected_views = expected.kernel.views(), actual_views = actual.kernel.views();
  std::vector<ViewOutcome> result;
  for (std::size_t i = 0; i < expected_views.size(); ++i) {
    const auto& [name, role, view] = expected_views[i];
    double magnitude = 0;
    for (const Magnitude& one : expected.magnitudes) {
      magnitude = one.field == name ? one.size : magnitude;
    }
    result.push_back({name, role, view, actual_views[i].view, magnitude});
  }
  return result;
}

/// Bytes of a block that an output view covers.
std::vector<bool> writable_bytes(const std::vector<ViewOutcome>& views, std::span<const std::byte> block) {
  std::vector<bool> writable(block.size());
  for (const ViewOutcome& view : views) {
    if (view.role == kernels::Role::kIn) {
      continue;
    }
    for (std::int64_t i = 0; i < view.actual.elements(); ++i) {
      const std::byte* address = element_address(view.actual, i);
      if (!std::less<>()(address, block.data()) && std::less<>()(address, block.data() + block.size())) {
        std::fill_n(writable.begin() + (address - block.data()), kernels::size_of(view.actual.dtype), true);
      }
    }
  }
  return writable;
}

}  // namespace

void launch(const devices::KernelTable& table, kernels::KernelId kernel, const void* arguments, int threads) {
  const devices::KernelEntry& entry = table[kernel];
  base::check(entry.present(), "the table has no kernel {}", kernels::kernel_info(kernel).name);
  OperandMemory scratch;
  devices::LaunchContext context;
  context.workspace_bytes = entry.workspace_bytes(arguments, threads);
  context.workspace = scratch.allocate(context.workspace_bytes);
  context.threads = threads;
  entry(arguments, context);
}

KernelCase after_launch(const KernelCase& one, const devices::KernelTable& table, int threads) {
  KernelCase result = one.copy();
  launch(table, result.kernel.id(), result.kernel.arguments(), threads);
  return result;
}

std::string compare(const KernelCase& before, const KernelCase& expected, const KernelCase& actual) {
  const std::vector<ViewOutcome> views = outcomes(expected, actual);
  std::string text;
  for (const ViewOutcome& view : views) {
    if (view.role != kernels::Role::kIn) {
      text += compare_view(view);
    }
  }
  for (std::size_t index = 0; index < before.memory.block_count(); ++index) {
    const std::vector<bool> writable = writable_bytes(views, actual.memory.block(index));
    const auto old_bytes = before.memory.block(index), new_bytes = actual.memory.block(index);
    for (std::size_t i = 0; i < old_bytes.size(); ++i) {
      if (!writable[i] && old_bytes[i] != new_bytes[i]) {
        text += fmt::format("a byte outside every output has changed: byte {} of operand block {}\n", i, index);
        break;
      }
    }
  }
  return text;
}

bool same_bits(const OperandMemory& first, const OperandMemory& second) {
  for (std::size_t index = 0; index < first.block_count(); ++index) {
    if (!std::ranges::equal(first.block(index), second.block(index))) {
      return false;
    }
  }
  return true;
}

}  // namespace flyover::tests
