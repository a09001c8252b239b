// What every device offers to the floors above: memory, streams, events, copies and kernel launches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "kernels/all.h"

namespace flyover::devices {

/// Index of a stream of its device; stream 0 always exists.
using StreamId = int;

/// A point in a stream's order of work. Value 0 is complete from the start.
struct Event {
  StreamId stream = 0;
  std::uint64_t value = 0;
};

/// The most that a device can do; 0 = not known.
struct Ceilings {
  double f32_flops = 0;         ///< FLOP/s of matrix products in f32
  double bf16_flops = 0;        ///< FLOP/s of matrix products of bf16 with f32 sums
  double bytes_per_second = 0;  ///< of reading device memory
};

/// A kind of machine that runs kernels. Work on one stream runs in the order in which it was given; streams are ordered
/// among each other by events only. Addresses are meaningful to the device alone. One host thread at a time calls it.
class Device {
 public:
  virtual ~Device() = default;

  /// "cpu", "reference", "meta", "delayed".
  virtual std::string_view name() const = 0;
  /// A sentence for people: threads, instruction set.
  virtual std::string description() const = 0;
  /// False where tensors have shapes only and every read-back is answered by a ValueModel.
  virtual bool holds_data() const { return true; }

  /// Measured (not looked up) when asked for.
  virtual Ceilings ceilings() { return {}; }

  /// Memory aligned to 64 bytes. Throws Error where the device has not got that much.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void free(void* address, std::size_t bytes) noexcept = 0;
  /// Tells that the allocator will give this memory to somebody else; what it holds has no meaning from this point of
  /// the stream on. (The delayed device poisons it.)
  virtual void discard(StreamId, void* /*address*/, std::size_t /*bytes*/) {}

  virtual StreamId create_stream() = 0;
  /// Workspace that `launch` of the same arguments must be given.
  virtual std::size_t workspace_bytes(kernels::KernelId kernel, const void* arguments) const = 0;
  /// Enqueues a kernel; `arguments` is copied. Throws InternalError naming a kernel that the device does not have.
  virtual void launch(StreamId stream, kernels::KernelId kernel, const void* arguments,
                      std::span<std::byte> workspace) = 0;

  /// Enqueues a copy; the source may change as soon as the call returns.
  virtual void copy_to_device(StreamId stream, void* destination, std::span<const std::byte> source) = 0;
  /// Enqueues a copy; the destination is valid once an event recorded afterwards is complete.
  virtual void copy_to_host(StreamId stream, std::span<std::byte> destination, const void* source) = 0;

  /// The point after all work given to the stream so far.
  virtual Event record(StreamId stream) = 0;
  /// Later work of `stream` starts after `event`.
  virtual void wait(StreamId stream, Event event) = 0;
  virtual bool is_complete(Event event) = 0;
  /// Blocks the host until `event`. Rethrows the failure of a kernel before it.
  virtual void synchronize(Event event) = 0;
};

}  // namespace flyover::devices
