#include "devices/host_device.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <sys/mman.h>

#include "base/error.h"
#include "base/text.h"

namespace flyover::devices {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kMappedFrom = std::size_t{4} << 20;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

}  // namespace

void* allocate_host_memory(std::size_t bytes) {
  const auto none = [&]() {
    throw base::OutOfMemory(fmt::format("the machine has no memory left for {}", base::format_bytes(bytes)));
  };
  if (bytes < kMappedFrom) {
    void* address = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment + kAlignment);
    if (address == nullptr) {
      none();
    }
    return address;
  }
  void* address = nullptr;
  if (::posix_memalign(&address, kHugePage, bytes) != 0) {
    none();
  }
  // Only advice: without huge pages everything works, with more misses of the translation cache.
  static_cast<void>(::madvise(address, bytes, MADV_HUGEPAGE));
  return address;
}

void free_host_memory(void* address, std::size_t) noexcept {
  std::free(address);
}

const KernelEntry& find_kernel(const KernelTable& table, kernels::KernelId kernel, std::string_view device) {
  const KernelEntry& entry = table[kernel];
  base::check(entry.present(), "device {} has no kernel {}", device, kernels::kernel_info(kernel).name);
  return entry;
}

HostDevice::HostDevice(std::string name, std::string description, KernelTable table, int threads,
                       std::function<Ceilings()> measure)
    : name_(std::move(name)),
      description_(std::move(description)),
      table_(table),
      threads_(threads),
      measure_(std::move(measure)) {
  base::check(threads >= 1, "a host device needs at least one thread, got {}", threads);
}

void* HostDevice::allocate(std::size_t bytes) {
  return allocate_host_memory(bytes);
}

void HostDevice::free(void* address, std::size_t bytes) noexcept {
  free_host_memory(address, bytes);
}

std::size_t HostDevice::workspace_bytes(kernels::KernelId kernel, const void* arguments) const {
  return find_kernel(table_, kernel, name_).workspace_bytes(arguments, threads_);
}

void HostDevice::launch(StreamId, kernels::KernelId kernel, const void* arguments, std::span<std::byte> workspace) {
  find_kernel(table_, kernel, name_)(arguments, {workspace.data(), workspace.size(), threads_});
}

void HostDevice::copy_to_device(StreamId, void* destination, std::span<const std::byte> source) {
  if (!source.empty()) {
    std::memcpy(destination, source.data(), source.size());
  }
}

void HostDevice::copy_to_host(StreamId, std::span<std::byte> destination, const void* source) {
  if (!destination.empty()) {
    std::memcpy(destination.data(), source, destination.size());
  }
}

}  // namespace flyover::devices
