// A device whose events are complete when the test says so, and that tells what the allocator asked of it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <set>
#include <span>
#include <vector>

#include "base/error.h"
#include "devices/device.h"

namespace flyover::tests {

class ManualDevice final : public devices::Device {
 public:
  /// A piece of memory.
  struct Range {
    const void* address;
    std::size_t bytes;
    friend bool operator==(const Range&, const Range&) = default;
  };

  std::string_view name() const override { return "manual"; }
  std::string description() const override { return "for tests of the allocator"; }
  void* allocate(std::size_t bytes) override {
    base::require(held_bytes() + bytes <= capacity, "the manual device has no memory left");
    void* address = reinterpret_cast<void*>(next_);
    next_ += (bytes + kGap) / kGap * kGap;
    held.push_back({address, bytes});
    ++allocations;
    return address;
  }
  void free(void* address, std::size_t bytes) noexcept override {
    const auto found = std::find(held.begin(), held.end(), Range{address, bytes});
    if (found == held.end()) {
      ++wrong_frees;
    } else {
      held.erase(found);
    }
  }
  void discard(devices::StreamId, void* address, std::size_t bytes) override { discarded.push_back({address, bytes}); }
  devices::StreamId create_stream() override { return ++streams_; }
  std::size_t workspace_bytes(kernels::KernelId, const void*) const override { return workspace; }
  void launch(devices::StreamId, kernels::KernelId, const void*, std::span<std::byte> bytes) override {
    workspaces.push_back({bytes.data(), bytes.size()});
  }
  void copy_to_device(devices::StreamId, void*, std::span<const std::byte>) override {}
  void copy_to_host(devices::StreamId, std::span<std::byte>, const void*) override {}
  devices::Event record(devices::StreamId stream) override { return {stream, ++recorded_}; }
  void wait(devices::StreamId, devices::Event) override {}
  bool is_complete(devices::Event event) override { return event.value <= complete; }
  void synchronize(devices::Event event) override { complete = std::max(complete, event.value); }

  std::uint64_t held_bytes() const {
    std::uint64_t total = 0;
    for (const Range& range : held) {
      total += range.bytes;
    }
    return total;
  }
  std::uint64_t recorded() const { return recorded_; }

  std::uint64_t capacity = std::uint64_t{1} << 40;
  std::uint64_t complete = 0;  ///< events up to this one are
  std::size_t workspace = 0;   ///< that every kernel asks for
  int allocations = 0;
  int wrong_frees = 0;
  std::vector<Range> held;        ///< by the allocator
  std::vector<Range> discarded;   ///< in order
  std::vector<Range> workspaces;  ///< of the launches

 private:
  static constexpr std::uintptr_t kGap = 4096;
  std::uintptr_t next_ = std::uintptr_t{1} << 60;
  std::uint64_t recorded_ = 0;
  devices::StreamId streams_ = 0;
};

}  // namespace flyover::tests
