// The caching, stream-ordered allocator above every device's memory, with peaks by kind.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string_view>
#include <vector>

#include "devices/device.h"

namespace flyover::tensor {

/// What memory is for, in statistics.
enum class MemoryKind : std::uint8_t { kWeights, kGradients, kOptimizer, kActivations, kWorkspace, kCache };
inline constexpr std::size_t kMemoryKinds = 6;

std::string_view name_of(MemoryKind kind);

/// Bytes in use: now, at the most, and the most per kind (the kinds' peaks need not coincide).
struct MemoryStatistics {
  std::uint64_t current = 0;
  std::uint64_t peak = 0;
  std::array<std::uint64_t, kMemoryKinds> current_by_kind{};
  std::array<std::uint64_t, kMemoryKinds> peak_by_kind{};
  std::uint64_t reserved = 0;  ///< bytes taken from the device, in use or cached
  std::uint64_t peak_reserved = 0;
};

/// Hands out device memory. A block given back by its stream is reused at once by the same stream (work is ordered
/// there); one that other streams used becomes free when their work up to that moment is complete. Memory is taken from
/// the device in large segments, split to the bytes asked for and merged again. One host thread at a time.
class Allocator {
 public:
  explicit Allocator(devices::Device& device);
  Allocator(const Allocator&) = delete;
  Allocator& operator=(const Allocator&) = delete;
  ~Allocator();

  struct Block;
  /// At least `bytes` bytes (0 is allowed), aligned to 64, for use on `stream`. Throws Error where memory is exhausted.
  Block* allocate(std::size_t bytes, MemoryKind kind, devices::StreamId stream);
  /// Gives a block back; `used_by` are other streams that have work on it.
  void release(Block* block, const std::vector<devices::StreamId>& used_by) noexcept;
  static void* address(const Block* block);

  const MemoryStatistics& statistics() const { return statistics_; }
  /// Starts the peaks anew from what is in use.
  void reset_peaks();
  /// Gives cached segments that are wholly free back to the device.
  void trim();

 private:
  struct SmallerFirst {
    bool operator()(const Block* a, const Block* b) const;
  };
  using FreeBlocks = std::set<Block*, SmallerFirst>;
  struct Waiting {
    Block* block;
    std::vector<devices::Event> events;
  };

  Block* take_segment(std::size_t bytes, devices::StreamId stream);
  void make_free(Block* block);
  void collect_waiting();

  devices::Device& device_;
  std::map<devices::StreamId, FreeBlocks> free_;
  std::vector<Waiting> waiting_;
  std::vector<Block*> segments_;  ///< first block of every segment
  MemoryStatistics statistics_;
};

}  // namespace flyover::tensor
