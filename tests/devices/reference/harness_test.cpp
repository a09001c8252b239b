// The conformance harness on the reference device itself, and that the harness finds what it is there to find.
#include <cmath>
#include <set>

#include <gtest/gtest.h>

#include "devices/reference/families.h"
#include "devices/support/every_kernel.h"
#include "devices/support/run_case.h"

namespace flyover::tests {
namespace {

using devices::KernelTable;
using kernels::AddBias;
using kernels::DType;

constexpr int kCases = 24;

class Reference : public testing::TestWithParam<kernels::KernelId> {};

TEST_P(Reference, WritesItsOutputsOnlyAndAlwaysTheSameBits) {
  const KernelTable table = devices::reference::kernel_table();
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF64}) {
    for (int number = 0; number < kCases; ++number) {
      const KernelCase before = kernel_case(GetParam(), dtype, number);
      const KernelCase first = after_launch(before, table), second = after_launch(before, table);
      EXPECT_EQ(compare(before, first, second), "") << describe(before);
      EXPECT_TRUE(same_bits(first.memory, second.memory)) << describe(before);
    }
  }
}

TEST_P(Reference, CasesCoverEmptyAndSingleAndManyShapes) {
  std::set<std::string> shapes;
  bool empty = false;
  for (int number = 0; number < kCases; ++number) {
    const KernelCase one = kernel_case(GetParam(), DType::kF32, number);
    std::string shape;
    for (const KernelView& field : one.kernel.views()) {
      shape += kernels::to_string(field.view.shape);
      empty = empty || field.view.elements() == 0;
    }
    shapes.insert(shape);
  }
  EXPECT_TRUE(empty);
  EXPECT_GE(shapes.size(), 10u);
}

INSTANTIATE_TEST_SUITE_P(Every, Reference, testing::ValuesIn(every_kernel()), KernelTestName());

/// The reference with one kernel replaced.
template <typename Kernel>
KernelTable reference_but(void (*function)(const Kernel&, const devices::LaunchContext&)) {
  KernelTable table = devices::reference::kernel_table();
  table.set<Kernel>(function);
  return table;
}

/// What the harness says of a broken AddBias, case by case, that it passed.
int cases_passed(void (*broken)(const AddBias&, const devices::LaunchContext&)) {
  int passed = 0;
  for (int number = 3; number < kCases; ++number) {
    const KernelCase before = kernel_case(kernels::kernel_id<AddBias>, DType::kF32, number);
    const KernelCase expected = after_launch(before, devices::reference::kernel_table());
    passed += compare(before, expected, after_launch(before, reference_but(broken))).empty();
  }
  return passed;
}

void add_bias(const AddBias& kernel) {
  static const KernelTable reference = devices::reference::kernel_table();
  reference[kernels::kernel_id<AddBias>](&kernel, {});
}

TEST(Harness, PassesTheSameKernel) {
  EXPECT_EQ(cases_passed([](const AddBias& kernel, const devices::LaunchContext&) { add_bias(kernel); }), kCases - 3);
}

TEST(Harness, FindsOneWrongElement) {
  EXPECT_EQ(cases_passed([](const AddBias& kernel, const devices::LaunchContext&) {
              add_bias(kernel);
              const std::int64_t last = kernel.y.elements() - 1;
              set_element(kernel.y, last, element(kernel.y, last) + 1e-4);
            }),
            0);
}

TEST(Harness, FindsNaN) {
  EXPECT_EQ(cases_passed([](const AddBias& kernel, const devices::LaunchContext&) {
              add_bias(kernel);
              set_element(kernel.y, 0, NAN);
            }),
            0);
}

TEST(Harness, FindsAWrittenInput) {
  EXPECT_EQ(cases_passed([](const AddBias& kernel, const devices::LaunchContext&) {
              add_bias(kernel);
              *element_address(kernel.bias, 0) ^= std::byte{1};
            }),
            0);
}

TEST(Harness, FindsAByteWrittenBetweenRows) {
  int with_gaps = 0, found = 0;
  for (int number = 3; number < kCases; ++number) {
    const KernelCase before = kernel_case(kernels::kernel_id<AddBias>, DType::kF32, number);
    const kernels::View& y = before.kernel.as<AddBias>().y;
    if (y.size(0) < 2 || y.stride(0) == y.size(1)) {
      continue;
    }
    const KernelCase expected = after_launch(before, devices::reference::kernel_table());
    const KernelCase actual =
        after_launch(before, reference_but<AddBias>([](const AddBias& kernel, const devices::LaunchContext&) {
                       add_bias(kernel);
                       *(element_address(kernel.y, kernel.y.size(1) - 1) + sizeof(float)) = std::byte{0};
                     }));
    ++with_gaps;
    found += !compare(before, expected, actual).empty();
  }
  EXPECT_GT(with_gaps, 3);
  EXPECT_EQ(found, with_gaps);
}

TEST(Harness, CopiesKeepSharedOperandsShared) {
  int shared = 0;
  for (int number = 3; number < kCases; ++number) {
    const KernelCase one = kernel_case(kernels::kernel_id<kernels::Add>, DType::kF32, number);
    const KernelCase copy = one.copy();
    const auto &kernel = one.kernel.as<kernels::Add>(), &copied = copy.kernel.as<kernels::Add>();
    EXPECT_NE(copied.y.data, kernel.y.data);
    EXPECT_EQ(copied.y.data == copied.a.data, kernel.y.data == kernel.a.data);
    shared += kernel.y.data == kernel.a.data;
  }
  EXPECT_GT(shared, 0);
}

}  // namespace
}  // namespace flyover::tests
