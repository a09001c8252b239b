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
#include "devices/support/kernel_types.h"

namespace flyover::tests {
namespace {

using devices::KernelTable;
using kernels::DType;
using tensor::MemoryKind;
using tensor::Tensor;

constexpr int kCases = 24;
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
template <typename Kernel>
std::vector<Tensor> blocks_of(const KernelCase<Kernel>& one, tensor::Stream& stream) {
  std::vector<Tensor> blocks;
  for (std::size_t i = 0; i < one.memory.block_count(); ++i) {
    blocks.push_back(stream.empty({static_cast<std::int64_t>(one.memory.block(i).size())}, DType::kU8));
  }
  return blocks;
}

/// Whether a launch with one view changed is refused.
template <typename Kernel, typename Change>
bool is_refused(const Kernel& kernel, tensor::Stream& stream, std::size_t view_index, Change&& change) {
  Kernel wrong = kernel;
  std::size_t index = 0;
  kernels::for_each_view(wrong, [&](std::string_view, kernels::Role, auto& view) {
    if (index++ == view_index) {
      change(view);
    }
  });
  const std::int64_t launches = stream.statistics(kernels::kernel_id<Kernel>).launches;
  try {
    stream.launch(wrong);
  } catch (const base::InternalError&) {
    EXPECT_EQ(stream.statistics(kernels::kernel_id<Kernel>).launches, launches);
    return true;
  }
  return false;
}

template <typename Kernel>
class MetaDevice : public testing::Test {};
TYPED_TEST_SUITE(MetaDevice, AllKernelTypes, KernelTestName);

TYPED_TEST(MetaDevice, LaunchesWithTheWorkspaceOfTheDeviceThatItStandsFor) {
  constexpr auto kId = kernels::kernel_id<TypeParam>;
  for (const auto& [name, table] : tables()) {
    const auto device = devices::meta::make_device(table, kThreads, "for a test");
    tensor::Allocator allocator(*device);
    tensor::Stream stream(*device, allocator);
    kernels::Cost cost;
    std::int64_t launches = 0;
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      for (int number = 0; number < kCases; ++number) {
        const auto one = kernel_case<TypeParam>(dtype, number);
        const std::vector<Tensor> blocks = blocks_of(one, stream);
        allocator.reset_peaks();
        stream.launch(on_device(one, blocks));
        // The same question on the host's operands: an answer that looked at values would differ, or end the program.
        const std::size_t workspace = table[kId].workspace_bytes(&one.kernel, kThreads);
        EXPECT_EQ(allocator.statistics().peak_by_kind[static_cast<std::size_t>(MemoryKind::kWorkspace)],
                  (workspace + kAlignment - 1) / kAlignment * kAlignment)
            << name << ", " << describe(one);
        cost += one.kernel.cost();
        ++launches;
      }
    }
    EXPECT_EQ(stream.statistics(kId).launches, launches) << name;
    EXPECT_EQ(stream.statistics(kId).cost.flops, cost.flops) << name;
    EXPECT_EQ(stream.statistics(kId).cost.bytes, cost.bytes) << name;
    EXPECT_GT(cost.bytes, 0) << name;
  }
}

TYPED_TEST(MetaDevice, RefusesWrongShapes) {
  const auto device = devices::meta::make_device(devices::reference::kernel_table(), 1, "for a test");
  tensor::Allocator allocator(*device);
  tensor::Stream stream(*device, allocator);
  for (int number = 3; number < kCases; ++number) {
    const auto one = kernel_case<TypeParam>(DType::kF32, number);
    const std::vector<Tensor> blocks = blocks_of(one, stream);
    const TypeParam kernel = on_device(one, blocks);
    std::vector<kernels::ConstView> views;
    kernels::for_each_view(kernel, [&](std::string_view, kernels::Role, const auto& view) { views.push_back(view); });
    int disagreements = 0;
    for (std::size_t i = 0; i < views.size(); ++i) {
      EXPECT_TRUE(is_refused(kernel, stream, i,
                             [](auto& view) {
                               const std::int64_t elements = view.elements();
                               view.shape = {1, 1, 1, elements};
                               view.strides = kernels::dense_strides(view.shape);
                             }))
          << "four axes for " << kernels::to_string(views[i]) << " in " << describe(one);
      for (int axis = 0; axis < views[i].rank(); ++axis) {
        disagreements += is_refused(kernel, stream, i, [&](auto& view) { ++view.shape[axis]; });
      }
    }
    // A kernel of a single operand has no shape that this one could disagree with.
    EXPECT_TRUE(disagreements > 0 || views.size() == 1) << describe(one);
  }
}

}  // namespace
}  // namespace flyover::tests
