// A device that runs its kernels at once, on the calling thread, in the host's memory: `cpu` and `reference`.
#pragma once

#include <functional>

#include "devices/device.h"
#include "devices/kernel_table.h"

namespace flyover::devices {

class HostDevice final : public Device {
 public:
  /// `threads` >= 1 is what kernels may use; `measure` answers ceilings() where it is given.
  HostDevice(std::string name, std::string description, KernelTable table, int threads,
             std::function<Ceilings()> measure = {});

  std::string_view name() const override { return name_; }
  std::string description() const override { return description_; }
  Ceilings ceilings() override { return measure_ ? measure_() : Ceilings{}; }
  void* allocate(std::size_t bytes) override;
  void free(void* address, std::size_t bytes) noexcept override;
  StreamId create_stream() override { return ++streams_; }
  std::size_t workspace_bytes(kernels::KernelId kernel, const void* arguments) const override;
  void launch(StreamId stream, kernels::KernelId kernel, const void* arguments,
              std::span<std::byte> workspace) override;
  void copy_to_device(StreamId stream, void* destination, std::span<const std::byte> source) override;
  void copy_to_host(StreamId stream, std::span<std::byte> destination, const void* source) override;
  Event record(StreamId stream) override { return {stream, 0}; }
  void wait(StreamId, Event) override {}
  bool is_complete(Event) override { return true; }
  void synchronize(Event) override {}

 private:
  std::string name_;
  std::string description_;
  KernelTable table_;
  int threads_;
  std::function<Ceilings()> measure_;
  StreamId streams_ = 0;
};

/// Host memory for tensors: 64-byte aligned, large blocks on huge pages where the system has them. Throws Error.
void* allocate_host_memory(std::size_t bytes);
void free_host_memory(void* address, std::size_t bytes) noexcept;

/// The entry of a kernel. Throws InternalError naming device and kernel if it is absent.
const KernelEntry& find_kernel(const KernelTable& table, kernels::KernelId kernel, std::string_view device);

}  // namespace flyover::devices
