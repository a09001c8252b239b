// Running a case on a device's table and comparing what two devices made of it.
#pragma once

#include <string>

#include "devices/kernel_table.h"
#include "devices/support/kernel_cases.h"

namespace flyover::tests {

/// Runs the kernel of the table with a workspace of exactly the size it asked for, full of NaN.
void launch(const devices::KernelTable& table, kernels::KernelId kernel, const void* arguments, int threads);

/// A copy of the case after a launch on a table.
KernelCase after_launch(const KernelCase& one, const devices::KernelTable& table, int threads = 1);

/// What is wrong with `actual`, the case after a launch on the device under test, empty if nothing: an output view
/// beyond the tolerance of its type (of the row's and the view's norm, and of every element) around `expected`, the
/// case after a launch on the device that is right; or a changed byte outside the output views: an operand, a gap, a
/// guard.
std::string compare(const KernelCase& before, const KernelCase& expected, const KernelCase& actual);

/// Whether two outcomes of one case have the same bits everywhere.
bool same_bits(const OperandMemory& first, const OperandMemory& second);

}  // namespace flyover::tests
