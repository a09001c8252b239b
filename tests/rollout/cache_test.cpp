// What generation keeps of a sequence, in bytes.
#include <gtest/gtest.h>

#include "base/error.h"
#include "devices/reference/device.h"
#include "support/model_fixture.h"

namespace flyover::rollout {
namespace {

using tensor::DType;
using tensor::MemoryKind;

std::int64_t cache_bytes(const std::string& family, const nn::CacheLimits& limits) {
  tests::Machine machine(devices::reference::make_device());
  const auto model = tests::small_model(family);
  model->parameters().allocate(machine.stream, DType::kF32, autograd::ParameterUse::kInference);
  const auto cache = model->make_cache(machine.stream, limits);
  return static_cast<std::int64_t>(
      machine.allocator.statistics().current_by_kind[static_cast<std::size_t>(MemoryKind::kCache)]);
}

TEST(CacheBytes, OfDeepSeekV4GrowWithTheCompressedEntriesAlone) {
  // Two layers have entries of 32 numbers and indexer entries of 16 for every 4 tokens, one of 32 for every 16.
  constexpr std::int64_t kSlots = 2, kMore = 1600;
  constexpr std::int64_t kEntryBytes = kSlots * (2 * kMore / 4 * (32 + 16) + kMore / 16 * 32) * 4;
  const std::int64_t small = cache_bytes("deepseek_v4", {kSlots, 1600, 64});
  EXPECT_EQ(cache_bytes("deepseek_v4", {kSlots, 1600 + kMore, 64}) - small, kEntryBytes);
  EXPECT_EQ(cache_bytes("deepseek_v4", {kSlots, 1600 + 2 * kMore, 64}) - small, 2 * kEntryBytes);
}

TEST(CacheBytes, OfDeepSeekV4AreThoseOfRingsEntriesAndUnfinishedWindows) {
  constexpr std::int64_t kRing = 128;  // 64 new tokens and a window of 40 in tiles of 64
  constexpr std::int64_t kKeys = 4 * kRing * 32;
  // Values and gates of 64 + 2 windows' tokens: twice as wide where windows overlap.
  constexpr std::int64_t kRaw = 2 * (2 * (64 + 2 * 4) * 2 * (32 + 16) + (64 + 2 * 16) * 32);
  constexpr std::int64_t kEntries = 2 * 1600 / 4 * (32 + 16) + 1600 / 16 * 32;
  EXPECT_EQ(cache_bytes("deepseek_v4", {1, 1600, 64}), 4 * (kKeys + kRaw + kEntries));
}

TEST(CacheBytes, MoreNewTokensThanTheCacheWasMadeForAreRefused) {
  tests::Machine machine(devices::reference::make_device());
  const auto model = tests::small_model("deepseek_v4");
  model->parameters().allocate(machine.stream, DType::kF32, autograd::ParameterUse::kInference);
  const auto cache = model->make_cache(machine.stream, {1, 100, 4});
  EXPECT_THROW(static_cast<void>(nn::upload(machine.stream, {{0, 0, {1, 2, 3, 4, 5}}}, *cache)), base::InternalError);
  EXPECT_NO_THROW(static_cast<void>(nn::upload(machine.stream, {{0, 96, {1, 2, 3, 4}}}, *cache)));
  EXPECT_THROW(static_cast<void>(nn::upload(machine.stream, {{0, 97, {1, 2, 3, 4}}}, *cache)), base::InternalError);
}

}  // namespace
}  // namespace flyover::rollout
