// Streams and tensors above a device: workspaces, read-backs, storage.
#include "tensor/stream.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/meta/device.h"
#include "tensor/manual_device.h"

namespace flyover::tensor {
namespace {

constexpr auto kWorkspace = static_cast<std::size_t>(MemoryKind::kWorkspace);

TEST(Stream, AWorkspaceIsHeldForItsLaunchOnly) {
  tests::ManualDevice device;
  Allocator allocator(device);
  Stream stream(device, allocator);
  const Tensor tensor = stream.empty({10}, DType::kF32);
  device.workspace = 1000;
  stream.launch(kernels::Fill{tensor.view(), 1.0});
  stream.launch(kernels::Fill{tensor.view(), 2.0});
  ASSERT_EQ(device.workspaces.size(), 2u);
  EXPECT_EQ(device.workspaces[0].bytes, 1000u);
  EXPECT_EQ(device.workspaces[1], device.workspaces[0]) << "the second launch of a stream may use the same memory";
  EXPECT_EQ(allocator.statistics().current_by_kind[kWorkspace], 0u);
  EXPECT_EQ(allocator.statistics().peak_by_kind[kWorkspace], 1024u);
  EXPECT_EQ(stream.statistics(kernels::kernel_id<kernels::Fill>).launches, 2);
}

TEST(Stream, LaunchesCountForThePartInWhichTheyAre) {
  constexpr auto kFill = kernels::kernel_id<kernels::Fill>;
  tests::ManualDevice device;
  Allocator allocator(device);
  Stream stream(device, allocator);
  const Tensor tensor = stream.empty({2, 5}, DType::kF32), copy = stream.empty({2, 5}, DType::kF32);
  const auto fill = [&] { stream.launch(kernels::Fill{tensor.view(), 1.0}); };
  fill();
  {
    const PartScope outer(stream, Part::kRouting);
    fill();
    {
      const PartScope inner(stream, Part::kExperts);
      fill();
      fill();
    }
    fill();
    stream.launch(kernels::Copy{tensor.view(), copy.view()});
  }
  EXPECT_EQ(stream.part(), Part::kOther);
  EXPECT_EQ(stream.statistics(Part::kOther, kFill).launches, 1);
  EXPECT_EQ(stream.statistics(Part::kRouting, kFill).launches, 2);
  EXPECT_EQ(stream.statistics(Part::kExperts, kFill).launches, 2);
  EXPECT_EQ(stream.statistics(kFill).launches, 5);
  EXPECT_EQ(stream.statistics(Part::kRouting).launches, 3);
  EXPECT_EQ(stream.statistics(Part::kRouting).cost.bytes, 2 * 40 + 80);
  stream.reset_statistics();
  EXPECT_EQ(stream.statistics(Part::kExperts).launches, 0);
}

TEST(Stream, AKernelThatDoesNotPassItsCheckIsNotLaunched) {
  tests::ManualDevice device;
  Allocator allocator(device);
  Stream stream(device, allocator);
  const Tensor x = stream.empty({2, 3}, DType::kF32), y = stream.empty({3, 2}, DType::kF32);
  EXPECT_THROW(stream.launch(kernels::Copy{x.view(), y.view()}), base::InternalError);
  EXPECT_TRUE(device.workspaces.empty());
  EXPECT_EQ(stream.statistics(kernels::kernel_id<kernels::Copy>).launches, 0);
}

TEST(Stream, StorageGoesWithTheLastTensorAndWaitsForOtherStreams) {
  tests::ManualDevice device;
  Allocator allocator(device);
  Stream stream(device, allocator);
  Tensor whole = stream.empty({8, 100}, DType::kF32);
  Tensor part = whole.rows(2, 3);
  void* const address = whole.view().data;
  EXPECT_EQ(static_cast<std::byte*>(part.view().data) - static_cast<std::byte*>(address), 2 * 100 * 4);
  EXPECT_FALSE(whole.is_only_owner());
  whole = Tensor();
  EXPECT_TRUE(part.is_only_owner());
  EXPECT_EQ(allocator.statistics().current, 3200u);
  part.storage()->used_on(3);
  part.storage()->used_on(3);
  part = Tensor();
  EXPECT_EQ(allocator.statistics().current, 0u);
  EXPECT_EQ(device.recorded(), 1u) << "one event for each other stream";
  EXPECT_NE(stream.empty({8, 100}, DType::kF32).view().data, address);
  device.complete = 1;
  EXPECT_EQ(stream.empty({8, 100}, DType::kF32).view().data, address);
}

TEST(Stream, ReadBacksAreCountedByPurposeAndBlockWhenAskedOnly) {
  tests::ManualDevice device;
  Allocator allocator(device);
  Stream stream(device, allocator);
  const Tensor loss = stream.empty({1}, DType::kF32);
  ReadBack first = stream.read_back(loss, ReadBackPurpose::kLoss);
  ReadBack second = stream.read_back(loss, ReadBackPurpose::kLoss);
  stream.read_back(loss, ReadBackPurpose::kGradientNorm);
  EXPECT_EQ(stream.read_backs(ReadBackPurpose::kLoss), 2);
  EXPECT_EQ(stream.read_backs(ReadBackPurpose::kGradientNorm), 1);
  EXPECT_EQ(stream.read_backs(ReadBackPurpose::kSampledTokens), 0);
  EXPECT_EQ(device.complete, 0u) << "starting one waits for nothing";
  EXPECT_EQ(second.values<float>().size(), 1u);
  EXPECT_EQ(device.complete, 2u);
}

/// Answers with the number of the purpose.
class Numbers final : public ValueModel {
 public:
  void answer(ReadBackPurpose purpose, const ConstView& view, std::span<std::byte> destination) const override {
    EXPECT_EQ(view.shape, (Dims{2, 2}));
    const auto value = static_cast<std::int32_t>(purpose);
    for (std::size_t i = 0; i < destination.size(); i += sizeof(value)) {
      std::memcpy(destination.data() + i, &value, sizeof(value));
    }
  }
};

TEST(Stream, ADeviceWithoutDataAnswersFromItsValueModel) {
  const auto device = devices::meta::make_device({}, 1, "for a test");
  Allocator allocator(*device);
  Stream stream(*device, allocator);
  const Tensor tensor = stream.empty({2, 2}, DType::kI32);
  EXPECT_EQ(stream.read_back(tensor, ReadBackPurpose::kSampledTokens).values<std::int32_t>(),
            (std::vector<std::int32_t>(4, 0)));
  EXPECT_EQ(stream.read_back(stream.empty({1}, DType::kF32), ReadBackPurpose::kGradientNorm).values<float>(),
            (std::vector<float>{1.0f}));
  const Numbers model;
  stream.set_value_model(model);
  const auto purpose = ReadBackPurpose::kNonFinite;
  EXPECT_EQ(stream.read_back(tensor, purpose).values<std::int32_t>(),
            (std::vector<std::int32_t>(4, static_cast<std::int32_t>(purpose))));
}

TEST(Tensor, WrongViewsOfItsStorageAreRefused) {
  tests::ManualDevice device;
  Allocator allocator(device);
  Stream stream(device, allocator);
  const Tensor tensor = stream.empty({4, 6}, DType::kBf16);
  EXPECT_EQ(tensor.reshape({3, 8}).view().data, tensor.view().data);
  EXPECT_EQ(tensor.split_last(2, 3).shape(), (Dims{4, 2, 3}));
  EXPECT_THROW(tensor.reshape({5, 5}), base::InternalError);
  EXPECT_THROW(tensor.columns(0, 3).reshape({12}), base::InternalError) << "its rows have gaps between them";
  EXPECT_THROW(tensor.rows(3, 2), base::InternalError);
  EXPECT_THROW(tensor.columns(5, 2), base::InternalError);
}

}  // namespace
}  // namespace flyover::tensor
