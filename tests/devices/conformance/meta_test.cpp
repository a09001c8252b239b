// Every kernel on the device without data: checked, counted with its workspace, and no operand touched (an address of
// meta that is touched ends the program).
#include <algorithm>
#include <utility>

#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/conformance/device_case.h"
#include "devices/cpu/device.h"
#include "devices/meta/device.h"
#include "devices/reference/families.h"
#include "devices/support/every_kernel.h"

namespace flyover::tests {
namespace {

using devices::KernelTable;
using kernels::DType;
using tensor::MemoryKind;
using tensor::Tensor;

constexpr int kMetaCases = 24;
constexpr int kThreads = 3;
constexpr std::size_t kAlignment = 64;  // of the allocator, to which it rounds up

/// The devices that meta stands for.
std::vector<std::pair<std::string, KernelTable>> tables() {
  std::vector<std::pair<std::string, KernelTable>> result = {{"reference", devices::reference::kernel_table()}};
  for (const auto set : devices::cpu::available_instruction_sets()) {
    result.emplace_back(devices::cpu::name_of(set), devices::cpu::kernel_table(set));
  }
  return result;
}

/// Memory of meta in the place of each block of a case.
std::vector<Tensor> blocks_of(const KernelCase& one, tensor::Stream& stream) {
  std::vector<Tensor> blocks;
  for (std::size_t i = 0; i < one.memory.block_count(); ++i) {
    blocks.push_back(stream.empty({static_cast<std::int64_t>(one.memory.block(i).size())}, DType::kU8));
  }
  return blocks;
}

/// Whether a launch with another view in the place of one is refused.
bool is_refused(const AnyKernel& kernel, tensor::Stream& stream, std::size_t view_index,
                const kernels::ConstView& replacement) {
  std::vector<KernelView> views = kernel.views();
  views[view_index].view = replacement;
  AnyKernel wrong = kernel;
  wrong.set_views(views);
  const std::int64_t launches = stream.statistics(kernel.id()).launches;
  try {
    launch(stream, wrong);
  } catch (const base::InternalError&) {
    EXPECT_EQ(stream.statistics(kernel.id()).launches, launches);
    return true;
  }
  return false;
}

class MetaDevice : public testing::TestWithParam<kernels::KernelId> {};

TEST_P(MetaDevice, LaunchesWithTheWorkspaceOfTheDeviceThatItStandsFor) {
  for (const auto& [name, table] : tables()) {
    const auto device = devices::meta::make_device(table, kThreads, "for a test");
    tensor::Allocator allocator(*device);
    tensor::Stream stream(*device, allocator);
    kernels::Cost cost;
    std::int64_t launches = 0;
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      for (int number = 0; number < kMetaCases; ++number) {
        const KernelCase one = kernel_case(GetParam(), dtype, number);
        const std::vector<Tensor> blocks = blocks_of(one, stream);
        allocator.reset_peaks();
        launch(stream, on_device(one, blocks));
        // The same question on the host's operands: an answer that looked at values would differ, or end the program.
        const std::size_t workspace = table[GetParam()].workspace_bytes(one.kernel.arguments(), kThreads);
        EXPECT_EQ(allocator.statistics().peak_by_kind[static_cast<std::size_t>(MemoryKind::kWorkspace)],
                  (workspace + kAlignment - 1) / kAlignment * kAlignment)
            << name << ", " << describe(one);
        cost += one.kernel.cost();
        ++launches;
      }
    }
    EXPECT_EQ(stream.statistics(GetParam()).launches, launches) << name;
    EXPECT_EQ(stream.statistics(GetParam()).cost.flops, cost.flops) << name;
    EXPECT_EQ(stream.statistics(GetParam()).cost.bytes, cost.bytes) << name;
    EXPECT_GT(cost.bytes, 0) << name;
  }
}

TEST_P(MetaDevice, RefusesWrongShapes) {
  const auto device = devices::meta::make_device(devices::reference::kernel_table(), 1, "for a test");
  tensor::Allocator allocator(*device);
  tensor::Stream stream(*device, allocator);
  for (int number = 3; number < kMetaCases; ++number) {
    const KernelCase one = kernel_case(GetParam(), DType::kF32, number);
    const std::vector<Tensor> blocks = blocks_of(one, stream);
    const AnyKernel kernel = on_device(one, blocks);
    const std::vector<KernelView> views = kernel.views();
    int disagreements = 0;
    for (std::size_t i = 0; i < views.size(); ++i) {
      const kernels::ConstView& view = views[i].view;
      const kernels::Dims four_axes = {1, 1, 1, view.elements()};
      EXPECT_TRUE(is_refused(kernel, stream, i, {view.data, view.dtype, four_axes, kernels::dense_strides(four_axes)}))
          << "four axes for " << kernels::to_string(view) << " in " << describe(one);
      for (int axis = 0; axis < view.rank(); ++axis) {
        kernels::ConstView larger = view;
        ++larger.shape[axis];
        disagreements += is_refused(kernel, stream, i, larger);
      }
    }
    // A kernel of a single operand has no shape that this one could disagree with.
    EXPECT_TRUE(disagreements > 0 || views.size() == 1) << describe(one);
  }
}

INSTANTIATE_TEST_SUITE_P(Every, MetaDevice, testing::ValuesIn(every_kernel()), KernelTestName());

}  // namespace
}  // namespace flyover::tests
