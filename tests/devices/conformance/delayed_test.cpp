// Every kernel through the streams of the delayed device: the bits of the reference, whatever the delays.
#include <algorithm>

#include <gtest/gtest.h>

#include "devices/conformance/device_case.h"
#include "devices/delayed/device.h"
#include "devices/reference/families.h"
#include "devices/support/every_kernel.h"
#include "devices/support/run_case.h"

namespace flyover::tests {
namespace {

using kernels::DType;
using tensor::Tensor;

constexpr int kDelayedCases = 24;
constexpr std::size_t kCapacity = std::size_t{8} << 30;  // of addresses; memory is taken when touched

/// A case that is under way on the device.
struct Pending {
  KernelCase before;
  std::vector<tensor::ReadBack> blocks;
};

/// Copies operands to the device on one stream, launches on another and copies back on the first, ordered by events
/// alone.
Pending start(KernelCase before, tensor::Stream& copies, tensor::Stream& work) {
  devices::Device& device = copies.device();
  std::vector<Tensor> blocks;
  for (std::size_t i = 0; i < before.memory.block_count(); ++i) {
    const auto bytes = before.memory.block(i);
    blocks.push_back(copies.upload(bytes, {static_cast<std::int64_t>(bytes.size())}, DType::kU8));
    blocks.back().storage()->used_on(work.id());
  }
  device.wait(work.id(), device.record(copies.id()));
  launch(work, on_device(before, blocks));
  device.wait(copies.id(), device.record(work.id()));
  Pending pending{std::move(before), {}};
  for (const Tensor& block : blocks) {
    pending.blocks.push_back(copies.read_back(block, tensor::ReadBackPurpose::kTest));
  }
  return pending;
}

class DelayedDevice : public testing::TestWithParam<kernels::KernelId> {};

TEST_P(DelayedDevice, GivesTheBitsOfTheReference) {
  const devices::KernelTable reference = devices::reference::kernel_table();
  const auto seed = static_cast<std::uint64_t>(GetParam());
  const auto device = devices::delayed::make_device(seed, kCapacity);
  tensor::Allocator allocator(*device);
  tensor::Stream copies(*device, allocator);
  tensor::Stream work(*device, allocator, device->create_stream());
  std::vector<Pending> all;
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF64}) {
    for (int number = 0; number < kDelayedCases; ++number) {
      all.push_back(start(kernel_case(GetParam(), dtype, number), copies, work));
    }
  }
  copies.synchronize();
  work.synchronize();
  for (Pending& pending : all) {
    const KernelCase expected = after_launch(pending.before, reference);
    for (std::size_t i = 0; i < pending.blocks.size(); ++i) {
      EXPECT_TRUE(std::ranges::equal(pending.blocks[i].bytes(), expected.memory.block(i)))
          << describe(pending.before) << ", operand block " << i;
    }
  }
  EXPECT_EQ(work.statistics(GetParam()).launches, static_cast<std::int64_t>(all.size()));
}

INSTANTIATE_TEST_SUITE_P(Every, DelayedDevice, testing::ValuesIn(every_kernel()), KernelTestName());

}  // namespace
}  // namespace flyover::tests
