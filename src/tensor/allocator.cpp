#include "tensor/allocator.h"

#include <algorithm>
#include <functional>

#include "base/error.h"

namespace flyover::tensor {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kSmallSegment = std::size_t{2} << 20;
constexpr std::size_t kLargeSegment = std::size_t{32} << 20;
constexpr std::size_t kMostBytes = std::size_t{1} << 62;  ///< so that rounding up does not overflow

std::size_t round_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// Small requests share segments; large ones take their own, so that few sizes of segment exist and merging works.
std::size_t segment_bytes(std::size_t bytes) {
  if (bytes <= kSmallSegment / 2) {
    return kSmallSegment;
  }
  return bytes <= kLargeSegment / 2 ? kLargeSegment : round_up(bytes, kSmallSegment);
}

}  // namespace

struct Allocator::Block {
  std::byte* address = nullptr;
  std::size_t bytes = 0;
  devices::StreamId stream = 0;
  MemoryKind kind = MemoryKind::kActivations;
  bool in_use = false;
  Block* previous = nullptr;  ///< neighbours within the segment
  Block* next = nullptr;
};

std::string_view name_of(MemoryKind kind) {
  constexpr std::array<std::string_view, kMemoryKinds> kNames = {"weights",     "gradients", "optimizer",
                                                                 "activations", "workspace", "cache"};
  return kNames[static_cast<std::size_t>(kind)];
}

bool Allocator::SmallerFirst::operator()(const Block* a, const Block* b) const {
  return a->bytes != b->bytes ? a->bytes < b->bytes : std::less<>()(a->address, b->address);
}

Allocator::Allocator(devices::Device& device) : device_(device) {}

Allocator::~Allocator() {
  for (Block* first : segments_) {
    std::size_t total = 0;
    std::byte* address = first->address;
    for (Block* block = first; block != nullptr;) {
      total += block->bytes;
      Block* next = block->next;
      delete block;
      block = next;
    }
    device_.free(address, total);
  }
}

void* Allocator::address(const Block* block) {
  return block->address;
}

Allocator::Block* Allocator::take_segment(std::size_t bytes, devices::StreamId stream) {
  const std::size_t size = segment_bytes(bytes);
  auto block = std::make_unique<Block>();
  block->address = static_cast<std::byte*>(device_.allocate(size));
  block->bytes = size;
  block->stream = stream;
  segments_.push_back(block.get());
  statistics_.reserved += size;
  statistics_.peak_reserved = std::max(statistics_.peak_reserved, statistics_.reserved);
  return block.release();
}

Allocator::Block* Allocator::allocate(std::size_t bytes, MemoryKind kind, devices::StreamId stream) {
  if (!waiting_.empty()) {
    collect_waiting();
  }
  base::require(bytes <= kMostBytes, "{} bytes of memory for one tensor are more than any device has", bytes);
  const std::size_t size = std::max(round_up(bytes, kAlignment), kAlignment);
  FreeBlocks& free_blocks = free_[stream];
  Block wanted;
  wanted.bytes = size;
  const auto found = free_blocks.lower_bound(&wanted);
  Block* block = nullptr;
  if (found != free_blocks.end()) {
    block = *found;
    free_blocks.erase(found);
  } else {
    block = take_segment(size, stream);
  }
  if (block->bytes > size) {
    auto* rest = new Block;
    rest->address = block->address + size;
    rest->bytes = block->bytes - size;
    rest->stream = stream;
    rest->previous = block;
    rest->next = block->next;
    if (rest->next != nullptr) {
      rest->next->previous = rest;
    }
    block->next = rest;
    block->bytes = size;
    free_blocks.insert(rest);
  }
  block->in_use = true;
  block->kind = kind;
  const auto index = static_cast<std::size_t>(kind);
  statistics_.current += size;
  statistics_.current_by_kind[index] += size;
  statistics_.peak = std::max(statistics_.peak, statistics_.current);
  statistics_.peak_by_kind[index] = std::max(statistics_.peak_by_kind[index], statistics_.current_by_kind[index]);
  return block;
}

void Allocator::release(Block* block, const std::vector<devices::StreamId>& used_by) noexcept {
  statistics_.current -= block->bytes;
  statistics_.current_by_kind[static_cast<std::size_t>(block->kind)] -= block->bytes;
  std::vector<devices::Event> events;
  for (const devices::StreamId stream : used_by) {
    if (stream != block->stream) {
      events.push_back(device_.record(stream));
    }
  }
  if (events.empty()) {
    make_free(block);
  } else {
    waiting_.push_back({block, std::move(events)});
  }
}

void Allocator::collect_waiting() {
  std::erase_if(waiting_, [&](const Waiting& entry) {
    const bool complete = std::all_of(entry.events.begin(), entry.events.end(),
                                      [&](const devices::Event& event) { return device_.is_complete(event); });
    if (complete) {
      make_free(entry.block);
    }
    return complete;
  });
}

void Allocator::make_free(Block* block) {
  device_.discard(block->stream, block->address, block->bytes);
  block->in_use = false;
  FreeBlocks& free_blocks = free_[block->stream];
  const auto absorb = [&](Block* left, Block* right) {  // right disappears
    left->bytes += right->bytes;
    left->next = right->next;
    if (left->next != nullptr) {
      left->next->previous = left;
    }
    delete right;
  };
  if (Block* next = block->next; next != nullptr && !next->in_use && free_blocks.erase(next) > 0) {
    absorb(block, next);
  }
  if (Block* previous = block->previous; previous != nullptr && !previous->in_use && free_blocks.erase(previous) > 0) {
    absorb(previous, block);
    block = previous;
  }
  free_blocks.insert(block);
}

void Allocator::reset_peaks() {
  statistics_.peak = statistics_.current;
  statistics_.peak_by_kind = statistics_.current_by_kind;
  statistics_.peak_reserved = statistics_.reserved;
}

void Allocator::trim() {
  collect_waiting();
  std::erase_if(segments_, [&](Block* first) {
    if (first->in_use || first->next != nullptr || free_[first->stream].erase(first) == 0) {
      return false;
    }
    device_.synchronize(device_.record(first->stream));
    device_.free(first->address, first->bytes);
    statistics_.reserved -= first->bytes;
    delete first;
    return true;
  });
}

}  // namespace flyover::tensor
