#include "devices/meta/device.h"

#include <utility>

#include "devices/host_device.h"

namespace flyover::devices::meta {
namespace {

class MetaDevice final : public Device {
 public:
  MetaDevice(KernelTable like, int threads, std::string description)
      : like_(like), threads_(threads), description_(std::move(description)) {}

  std::string_view name() const override { return "meta"; }
  std::string description() const override { return description_; }
  bool holds_data() const override { return false; }
  void* allocate(std::size_t bytes) override {
    void* address = reinterpret_cast<void*>(next_);  // NOLINT(performance-no-int-to-ptr): nobody reads there
    next_ += (bytes + kPage - 1) / kPage * kPage + kPage;
    return address;
  }
  void free(void*, std::size_t) noexcept override {}
  StreamId create_stream() override { return ++streams_; }
  std::size_t workspace_bytes(kernels::KernelId kernel, const void* arguments) const override {
    return find_kernel(like_, kernel, name()).workspace_bytes(arguments, threads_);
  }
  void launch(StreamId, kernels::KernelId, const void*, std::span<std::byte>) override {}
  void copy_to_device(StreamId, void*, std::span<const std::byte>) override {}
  void copy_to_host(StreamId, std::span<std::byte>, const void*) override {}
  Event record(StreamId stream) override { return {stream, 0}; }
  void wait(StreamId, Event) override {}
  bool is_complete(Event) override { return true; }
  void synchronize(Event) override {}

 private:
  static constexpr std::size_t kPage = 4096;
  KernelTable like_;
  int threads_;
  std::string description_;
  /// Addresses that no process maps (the non-canonical hole of 64-bit machines), so that touching one traps.
  std::uintptr_t next_ = std::uintptr_t{1} << 60;
  StreamId streams_ = 0;
};

}  // namespace

std::unique_ptr<Device> make_device(KernelTable like, int threads, std::string description) {
  return std::make_unique<MetaDevice>(like, threads, std::move(description));
}

}  // namespace flyover::devices::meta
