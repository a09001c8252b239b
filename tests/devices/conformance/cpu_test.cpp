// Every kernel of the CPU device, on every instruction set that this machine has, held to the reference device.
#include <gtest/gtest.h>

#include "devices/cpu/device.h"
#include "devices/reference/families.h"
#include "devices/support/kernel_types.h"
#include "devices/support/run_case.h"

namespace flyover::tests {
namespace {

using devices::KernelTable;
using devices::cpu::InstructionSet;
using kernels::DType;

constexpr int kCases = 40;
constexpr DType kTypes[] = {DType::kF32, DType::kBf16};

template <typename Kernel>
class CpuDevice : public testing::Test {};
TYPED_TEST_SUITE(CpuDevice, AllKernelTypes, KernelTestName);

TYPED_TEST(CpuDevice, HasTheKernelOnEveryInstructionSet) {
  for (const InstructionSet set : devices::cpu::available_instruction_sets()) {
    EXPECT_TRUE(devices::cpu::kernel_table(set)[kernels::kernel_id<TypeParam>].present()) << name_of(set);
  }
}

TYPED_TEST(CpuDevice, AgreesWithTheReference) {
  const KernelTable reference = devices::reference::kernel_table();
  for (const DType dtype : kTypes) {
    for (int number = 0; number < kCases; ++number) {
      const auto before = kernel_case<TypeParam>(dtype, number);
      const auto expected = after_launch(before, reference);
      for (const InstructionSet set : devices::cpu::available_instruction_sets()) {
        for (const int threads : {1, 2}) {
          const auto actual = after_launch(before, devices::cpu::kernel_table(set), threads);
          EXPECT_EQ(compare(before, expected, actual), "")
              << name_of(set) << ", " << threads << " threads, " << name_of(dtype) << " " << describe(before);
        }
      }
    }
  }
}

TYPED_TEST(CpuDevice, GivesTheSameBitsWithAnyNumberOfThreads) {
  for (const DType dtype : kTypes) {
    for (int number = 0; number < kCases; ++number) {
      const auto before = kernel_case<TypeParam>(dtype, number);
      for (const InstructionSet set : devices::cpu::available_instruction_sets()) {
        const auto one = after_launch(before, devices::cpu::kernel_table(set), 1);
        for (const int threads : {2, 3}) {
          EXPECT_TRUE(same_bits(one.memory, after_launch(before, devices::cpu::kernel_table(set), threads).memory))
              << name_of(set) << ", " << threads << " threads, " << name_of(dtype) << " " << describe(before);
        }
      }
    }
  }
}

}  // namespace
}  // namespace flyover::tests
