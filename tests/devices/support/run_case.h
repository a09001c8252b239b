// Running a case on a device's table and comparing what two devices made of it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "devices/kernel_table.h"
#include "devices/support/kernel_cases.h"

namespace flyover::tests {

/// One view of a kernel before the launch and after it on two devices.
struct ViewOutcome {
  std::string_view name;
  kernels::Role role;
  kernels::ConstView before;
  kernels::ConstView expected;
  kernels::ConstView actual;
  double magnitude;
};

/// Runs the kernel of the table with a workspace of exactly the size it asked for, full of NaN.
void launch(const devices::KernelTable& table, kernels::KernelId kernel, const void* arguments, int threads);

/// What is wrong with `actual`, empty if nothing: an output view beyond the tolerance of its type (of the row's and the
/// view's norm, and of every element), or a changed byte outside the output views: an operand, a gap, a guard.
std::string differences(const std::vector<ViewOutcome>& views, const OperandMemory& before,
                        const OperandMemory& actual);

/// A copy of the case after a launch on a table.
template <typename Kernel>
KernelCase<Kernel> after_launch(const KernelCase<Kernel>& one, const devices::KernelTable& table, int threads = 1) {
  KernelCase<Kernel> result = one.copy();
  launch(table, kernels::kernel_id<Kernel>, &result.kernel, threads);
  return result;
}

/// `differences` of a case before the launch, and after it on the device that is right and on the one under test.
template <typename Kernel>
std::string compare(const KernelCase<Kernel>& before, const KernelCase<Kernel>& expected,
                    const KernelCase<Kernel>& actual) {
  const auto views_of = [](const KernelCase<Kernel>& one) {
    std::vector<kernels::ConstView> views;
    kernels::for_each_view(one.kernel,
                           [&](std::string_view, kernels::Role, const auto& view) { views.push_back(view); });
    return views;
  };
  const auto before_views = views_of(before), expected_views = views_of(expected), actual_views = views_of(actual);
  std::vector<ViewOutcome> outcomes;
  kernels::for_each_view(before.kernel, [&](std::string_view name, kernels::Role role, const auto&) {
    double magnitude = 0;
    for (const Magnitude& one : before.magnitudes) {
      magnitude = one.field == name ? one.size : magnitude;
    }
    const std::size_t i = outcomes.size();
    outcomes.push_back({name, role, before_views[i], expected_views[i], actual_views[i], magnitude});
  });
  return differences(outcomes, before.memory, actual.memory);
}

/// Whether two outcomes of one case have the same bits everywhere.
bool same_bits(const OperandMemory& first, const OperandMemory& second);

}  // namespace flyover::tests
