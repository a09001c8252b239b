// The allocator: what it reuses and when, what it gives back, what it counts.
#include "tensor/allocator.h"

#include <algorithm>
#include <array>
#include <limits>

#include <gtest/gtest.h>

#include "base/random.h"
#include "tensor/manual_device.h"

namespace flyover::tensor {
namespace {

constexpr std::size_t kMebibyte = std::size_t{1} << 20;

class AllocatorTest : public testing::Test {
 protected:
  Allocator::Block* take(std::size_t bytes, devices::StreamId stream = 0, MemoryKind kind = MemoryKind::kActivations) {
    return allocator_.allocate(bytes, kind, stream);
  }
  /// Takes and gives back, to see which address would be next.
  void* next_address(std::size_t bytes, devices::StreamId stream = 0) {
    Allocator::Block* block = take(bytes, stream);
    void* address = Allocator::address(block);
    allocator_.release(block, {});
    return address;
  }
  std::uint64_t current(MemoryKind kind) const {
    return allocator_.statistics().current_by_kind[static_cast<std::size_t>(kind)];
  }
  std::uint64_t peak(MemoryKind kind) const {
    return allocator_.statistics().peak_by_kind[static_cast<std::size_t>(kind)];
  }

  tests::ManualDevice device_;
  Allocator allocator_{device_};
};

TEST_F(AllocatorTest, ABlockThatItsStreamGaveBackIsReusedAtOnce) {
  Allocator::Block* block = take(40 * kMebibyte);
  void* const address = Allocator::address(block);
  allocator_.release(block, {});
  EXPECT_EQ(Allocator::address(take(40 * kMebibyte)), address);
  EXPECT_EQ(device_.allocations, 1);
  EXPECT_EQ(device_.recorded(), 0u) << "no event is needed within a stream";
}

TEST_F(AllocatorTest, SmallBlocksShareASegmentWithoutOverlapping) {
  std::vector<std::pair<std::uintptr_t, std::size_t>> taken;
  for (const std::size_t bytes : {1u, 63u, 64u, 65u, 1000u, 4096u, 0u, 100000u}) {
    const auto address = reinterpret_cast<std::uintptr_t>(Allocator::address(take(bytes)));
    EXPECT_EQ(address % 64, 0u);
    for (const auto& [other, size] : taken) {
      EXPECT_TRUE(address + std::max<std::size_t>(bytes, 1) <= other || other + size <= address);
    }
    taken.emplace_back(address, std::max<std::size_t>(bytes, 1));
  }
  EXPECT_EQ(device_.allocations, 1);
}

TEST_F(AllocatorTest, NeighboursThatAreFreeBecomeOneBlockAgain) {
  for (const auto& order : {std::array{0, 1, 2}, std::array{2, 1, 0}, std::array{0, 2, 1}, std::array{1, 0, 2}}) {
    std::array<Allocator::Block*, 3> blocks = {take(kMebibyte / 2), take(kMebibyte / 2), take(kMebibyte)};
    for (const int index : order) {
      allocator_.release(blocks[static_cast<std::size_t>(index)], {});
    }
    // The three fill a segment of 2 MiB, in which there is room for this only if all of it is one block.
    const auto before = device_.allocations;
    const std::array<Allocator::Block*, 2> halves = {take(kMebibyte), take(kMebibyte)};
    EXPECT_EQ(device_.allocations, before);
    EXPECT_EQ(before, 1);
    for (Allocator::Block* half : halves) {
      allocator_.release(half, {});
    }
  }
}

TEST_F(AllocatorTest, AMergedBlockKeepsItsNeighboursApart) {
  Allocator::Block* first = take(1000);
  Allocator::Block* second = take(1000);
  Allocator::Block* third = take(1000);
  void* const last_address = Allocator::address(third);
  allocator_.release(first, {});
  allocator_.release(second, {});
  // 2048 bytes before the third are free.
  EXPECT_LT(next_address(2000), last_address);
  EXPECT_GT(next_address(2100), last_address);
}

TEST_F(AllocatorTest, TheSmallestBlockThatFitsIsTaken) {
  Allocator::Block* large = take(500000);
  Allocator::Block* const guard = take(64);
  Allocator::Block* small = take(2000);
  take(64);
  void* const small_address = Allocator::address(small);
  allocator_.release(large, {});
  allocator_.release(small, {});
  EXPECT_EQ(next_address(1500), small_address);
  EXPECT_NE(Allocator::address(guard), small_address);
}

TEST_F(AllocatorTest, AnotherStreamsWorkHoldsABlockUntilItsEvent) {
  Allocator::Block* block = take(40 * kMebibyte);
  void* const address = Allocator::address(block);
  allocator_.release(block, {1, 2});
  EXPECT_EQ(device_.recorded(), 2u);
  EXPECT_EQ(allocator_.statistics().current, 0u);
  device_.complete = 1;  // the work of stream 1, but not that of stream 2
  EXPECT_NE(Allocator::address(take(40 * kMebibyte)), address);
  EXPECT_TRUE(device_.discarded.empty());
  device_.complete = 2;
  EXPECT_EQ(Allocator::address(take(40 * kMebibyte)), address);
  EXPECT_EQ(device_.allocations, 2);
}

TEST_F(AllocatorTest, ItsOwnStreamAmongTheUsersMeansNoWaiting) {
  Allocator::Block* block = take(40 * kMebibyte, 1);
  void* const address = Allocator::address(block);
  allocator_.release(block, {1});
  EXPECT_EQ(device_.recorded(), 0u);
  EXPECT_EQ(Allocator::address(take(40 * kMebibyte, 1)), address);
}

TEST_F(AllocatorTest, AFreeBlockStaysWithItsStream) {
  Allocator::Block* block = take(40 * kMebibyte, 0);
  void* const address = Allocator::address(block);
  allocator_.release(block, {});
  EXPECT_NE(next_address(40 * kMebibyte, 1), address);
  EXPECT_EQ(next_address(40 * kMebibyte, 0), address);
}

TEST_F(AllocatorTest, TellsTheDeviceWhatNobodyMayReadAnyMore) {
  Allocator::Block* block = take(1000);
  void* const address = Allocator::address(block);
  EXPECT_TRUE(device_.discarded.empty());
  allocator_.release(block, {});
  ASSERT_EQ(device_.discarded.size(), 1u);
  EXPECT_EQ(device_.discarded[0], (tests::ManualDevice::Range{address, 1024}));
}

TEST_F(AllocatorTest, CountsWhatIsInUseAndTheMostByKind) {
  Allocator::Block* weights = take(1000, 0, MemoryKind::kWeights);  // 1024 with alignment
  Allocator::Block* first = take(6400);
  allocator_.release(first, {});
  Allocator::Block* gradients = take(128, 0, MemoryKind::kGradients);
  Allocator::Block* second = take(640);
  EXPECT_EQ(allocator_.statistics().current, 1024u + 128 + 640);
  EXPECT_EQ(allocator_.statistics().peak, 1024u + 6400);
  EXPECT_EQ(current(MemoryKind::kWeights), 1024u);
  EXPECT_EQ(current(MemoryKind::kActivations), 640u);
  EXPECT_EQ(peak(MemoryKind::kActivations), 6400u);
  EXPECT_EQ(peak(MemoryKind::kGradients), 128u);
  EXPECT_EQ(peak(MemoryKind::kOptimizer), 0u);
  EXPECT_EQ(allocator_.statistics().reserved, device_.held_bytes());

  allocator_.reset_peaks();
  EXPECT_EQ(allocator_.statistics().peak, 1024u + 128 + 640);
  EXPECT_EQ(peak(MemoryKind::kActivations), 640u);
  for (Allocator::Block* block : {weights, gradients, second}) {
    allocator_.release(block, {});
  }
  EXPECT_EQ(allocator_.statistics().current, 0u);
  for (std::size_t kind = 0; kind < kMemoryKinds; ++kind) {
    EXPECT_EQ(allocator_.statistics().current_by_kind[kind], 0u) << name_of(static_cast<MemoryKind>(kind));
  }
}

TEST_F(AllocatorTest, TrimGivesBackSegmentsThatAreWhollyFree) {
  Allocator::Block* large = take(40 * kMebibyte);
  Allocator::Block* small = take(1000);
  Allocator::Block* neighbour = take(1000);
  allocator_.release(large, {});
  allocator_.release(small, {});
  const std::uint64_t held = device_.held_bytes();
  allocator_.trim();
  EXPECT_EQ(device_.held_bytes(), held - 40 * kMebibyte);
  EXPECT_EQ(allocator_.statistics().reserved, device_.held_bytes());
  EXPECT_EQ(allocator_.statistics().peak_reserved, held);
  allocator_.release(neighbour, {});
  allocator_.trim();
  EXPECT_EQ(device_.held_bytes(), 0u);
  EXPECT_EQ(device_.wrong_frees, 0);
  EXPECT_NE(Allocator::address(take(1000)), nullptr);
}

TEST_F(AllocatorTest, TrimLeavesWhatAnotherStreamStillUses) {
  Allocator::Block* block = take(40 * kMebibyte);
  allocator_.release(block, {1});
  allocator_.trim();
  EXPECT_EQ(device_.held_bytes(), 40 * kMebibyte);
  device_.complete = device_.recorded();
  allocator_.trim();
  EXPECT_EQ(device_.held_bytes(), 0u);
}

TEST_F(AllocatorTest, MoreThanTheDeviceHasIsAnErrorThatChangesNothing) {
  device_.capacity = 64 * kMebibyte;
  take(40 * kMebibyte);
  const MemoryStatistics before = allocator_.statistics();
  EXPECT_THROW(take(40 * kMebibyte), base::Error);
  for (const std::size_t bytes : {std::numeric_limits<std::size_t>::max(), std::size_t{1} << 63}) {
    EXPECT_THROW(take(bytes), base::Error) << "must not become a small block by overflow";
  }
  EXPECT_EQ(allocator_.statistics().current, before.current);
  EXPECT_EQ(allocator_.statistics().reserved, before.reserved);
  EXPECT_NE(Allocator::address(take(kMebibyte / 4)), nullptr);
}

TEST(Allocator, GivesEverythingBackInTheEnd) {
  tests::ManualDevice device;
  {
    Allocator allocator(device);
    for (const std::size_t bytes : {std::size_t{100}, 3 * kMebibyte, 50 * kMebibyte}) {
      Allocator::Block* kept = allocator.allocate(bytes, MemoryKind::kCache, 0);
      allocator.release(allocator.allocate(bytes, MemoryKind::kCache, 0), {1});
      allocator.release(kept, {});
    }
    EXPECT_GT(device.held_bytes(), 0u);
  }
  EXPECT_EQ(device.held_bytes(), 0u);
  EXPECT_EQ(device.wrong_frees, 0);
}

/// Thousands of random requests of three streams: blocks in use never overlap, each lies in memory that the device
/// gave, and in the end all of it is one block a segment again.
TEST(Allocator, RandomUseNeverHandsOutTheSameMemoryTwice) {
  struct Taken {
    Allocator::Block* block;
    std::uintptr_t begin, end;
  };
  tests::ManualDevice device;
  Allocator allocator(device);
  std::vector<Taken> taken;
  const base::Random random(1, base::RandomPurpose::kTest);
  std::uint64_t position = 0;
  for (int round = 0; round < 4000; ++round) {
    device.complete = device.recorded() - std::min(device.recorded(), random.below(position++, 4));
    if (!taken.empty() && random.below(position++, 5) < (round > 3000 ? 3u : 2u)) {
      const auto index = random.below(position++, taken.size());
      allocator.release(taken[index].block,
                        random.below(position++, 2) == 0 ? std::vector<devices::StreamId>{} : std::vector{0, 2});
      taken.erase(taken.begin() + static_cast<std::ptrdiff_t>(index));
      continue;
    }
    const std::uint64_t bound = std::uint64_t{1} << random.below(position++, 24);
    const std::size_t bytes = random.below(position++, bound);
    const auto stream = static_cast<devices::StreamId>(random.below(position++, 3));
    Allocator::Block* block = allocator.allocate(bytes, MemoryKind::kActivations, stream);
    const auto begin = reinterpret_cast<std::uintptr_t>(Allocator::address(block));
    const Taken fresh{block, begin, begin + bytes};
    for (const Taken& other : taken) {
      ASSERT_TRUE(fresh.end <= other.begin || other.end <= fresh.begin) << "round " << round;
    }
    ASSERT_TRUE(std::any_of(device.held.begin(), device.held.end(), [&](const auto& range) {
      const auto first = reinterpret_cast<std::uintptr_t>(range.address);
      return first <= fresh.begin && fresh.end <= first + range.bytes;
    }));
    taken.push_back(fresh);
  }
  ASSERT_GT(taken.size(), 10u);
  for (const Taken& entry : taken) {
    allocator.release(entry.block, {});
  }
  device.complete = device.recorded();
  EXPECT_EQ(allocator.statistics().current, 0u);
  allocator.trim();
  EXPECT_EQ(device.held_bytes(), 0u);
  EXPECT_EQ(device.wrong_frees, 0);
}

}  // namespace
}  // namespace flyover::tensor
