// Every kernel of the CPU device, on every instruction set that this machine has, held to the reference device.
#include <gtest/gtest.h>

#include "devices/cpu/device.h"
#include "devices/reference/families.h"
#include "devices/support/every_kernel.h"
#include "devices/support/run_case.h"

namespace flyover::tests {
namespace {

using devices::KernelTable;
using devices::cpu::InstructionSet;
using kernels::DType;

constexpr int kCases = 40;
constexpr DType kTypes[] = {DType::kF32, DType::kBf16};

class CpuDevice : public testing::TestWithParam<kernels::KernelId> {};

TEST_P(CpuDevice, HasTheKernelOnEveryInstructionSet) {
  for (const InstructionSet set : devices::cpu::available_instruction_sets()) {
    EXPECT_TRUE(devices::cpu::kernel_table(set)[GetParam()].present()) << name_of(set);
  }
}

TEST_P(CpuDevice, AgreesWithTheReference) {
  const KernelTable reference = devices::reference::kernel_table();
  for (const DType dtype : kTypes) {
    for (int number = 0; number < kCases; ++number) {
      const KernelCase before = kernel_case(GetParam(), dtype, number);
      const KernelCase expected = after_launch(before, reference);
      for (const InstructionSet set : devices::cpu::available_instruction_sets()) {
        for (const int threads : {1, 2}) {
          const KernelCase actual = after_launch(before, devices::cpu::kernel_table(set), threads);
          EXPECT_EQ(compare(before, expected, actual), "")
              << name_of(set) << ", " << threads << " threads, " << name_of(dtype) << " " << describe(before);
        }
      }
    }
  }
}

TEST_P(CpuDevice, GivesTheSameBitsWithAnyNumberOfThreads) {
  for (const DType dtype : kTypes) {
    for (int number = 0; number < kCases; ++number) {
      const KernelCase before = kernel_case(GetParam(), dtype, number);
      for (const InstructionSet set : devices::cpu::available_instruction_sets()) {
        const KernelCase one = after_launch(before, devices::cpu::kernel_table(set), 1);
        for (const int threads : {2, 3}) {
          EXPECT_TRUE(same_bits(one.memory, after_launch(before, devices::cpu::kernel_table(set), threads).memory))
              << name_of(set) << ", " << threads << " threads, " << name_of(dtype) << " " << describe(before);
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Every, CpuDevice, testing::ValuesIn(every_kernel()), KernelTestName());

}  // namespace
}  // namespace flyover::tests
