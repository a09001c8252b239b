#include "devices/delayed/device.h"

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <functional>
#include <mutex>
#include <queue>
#include <thread>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/random.h"
#include "devices/host_device.h"
#include "devices/reference/families.h"

namespace flyover::devices::delayed {
namespace {

constexpr std::size_t kPage = 4096;
constexpr int kPoison = 0xFF;  // every float type reads this as NaN
constexpr std::uint64_t kLongestDelayMicroseconds = 40;

/// A queue of work with the thread that does it.
class Worker {
 public:
  Worker(std::uint64_t seed, std::uint64_t stream)
      : random_(seed, base::RandomPurpose::kTest, stream), thread_([this] { run(); }) {}
  ~Worker() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void push(std::function<void()> work) {
    {
      const std::lock_guard lock(mutex_);
      work_.push(std::move(work));
      ++given_;
    }
    changed_.notify_all();
  }
  std::uint64_t given() {
    const std::lock_guard lock(mutex_);
    return given_;
  }
  bool is_done(std::uint64_t value) {
    const std::lock_guard lock(mutex_);
    return done_ >= value;
  }
  void wait_for(std::uint64_t value) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_ >= value; });
  }
  /// The first failure of a piece of work, once.
  std::exception_ptr take_failure() {
    const std::lock_guard lock(mutex_);
    return std::exchange(failure_, nullptr);
  }

 private:
  void run() {
    for (std::uint64_t position = 0;; ++position) {
      std::function<void()> work;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stopping_ || !work_.empty(); });
        if (work_.empty()) {
          return;
        }
        work = std::move(work_.front());
        work_.pop();
      }
      if (random_.below(2 * position, 4) == 0) {
        std::this_thread::sleep_for(
            std::chrono::microseconds(random_.below(2 * position + 1, kLongestDelayMicroseconds)));
      }
      std::exception_ptr failure;
      try {
        work();
      } catch (...) {
        failure = std::current_exception();
      }
      {
        const std::lock_guard lock(mutex_);
        ++done_;
        if (failure && !failure_) {
          failure_ = failure;
        }
      }
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::queue<std::function<void()>> work_;
  std::uint64_t given_ = 0;
  std::uint64_t done_ = 0;
  bool stopping_ = false;
  std::exception_ptr failure_;
  base::Random random_;
  std::thread thread_;
};

/// One range of memory mapped twice: for the workers readable and writable, for the host as addresses that trap.
class HiddenMemory {
 public:
  explicit HiddenMemory(std::size_t capacity) : capacity_(capacity) {
    real_ = map(PROT_READ | PROT_WRITE);
    handles_ = map(PROT_NONE);
  }
  HiddenMemory(const HiddenMemory&) = delete;
  HiddenMemory& operator=(const HiddenMemory&) = delete;
  ~HiddenMemory() {
    ::munmap(real_, capacity_);
    ::munmap(handles_, capacity_);
  }

  void* allocate(std::size_t bytes) {
    const std::size_t rounded = (bytes + kPage - 1) / kPage * kPage + kPage;
    base::require(used_ + rounded <= capacity_, "the delayed device has no memory left for {} bytes", bytes);
    void* handle = handles_ + used_;
    used_ += rounded;
    return handle;
  }
  std::ptrdiff_t handle_to_real() const { return real_ - handles_; }
  std::byte* real(void* handle) const { return static_cast<std::byte*>(handle) + handle_to_real(); }
  const std::byte* real(const void* handle) const { return static_cast<const std::byte*>(handle) + handle_to_real(); }

 private:
  std::byte* map(int protection) const {
    void* address = ::mmap(nullptr, capacity_, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    base::check(address != MAP_FAILED, "cannot reserve {} bytes of addresses", capacity_);
    return static_cast<std::byte*>(address);
  }

  std::size_t capacity_;
  std::size_t used_ = 0;
  std::byte* real_;
  std::byte* handles_;
};

class DelayedDevice final : public Device {
 public:
  DelayedDevice(std::uint64_t seed, std::size_t capacity)
      : seed_(seed), memory_(capacity), table_(reference::kernel_table()) {
    create_worker();
  }

  std::string_view name() const override { return "delayed"; }
  std::string description() const override { return "reference kernels behind delayed asynchronous streams"; }
  void* allocate(std::size_t bytes) override { return memory_.allocate(bytes); }
  void free(void*, std::size_t) noexcept override {}  // addresses are not reused, so that stale ones stay visible
  void discard(StreamId stream, void* address, std::size_t bytes) override {
    worker(stream).push([target = memory_.real(address), bytes] { std::memset(target, kPoison, bytes); });
  }
  StreamId create_stream() override {
    create_worker();
    return static_cast<StreamId>(workers_.size()) - 1;
  }
  std::size_t workspace_bytes(kernels::KernelId kernel, const void* arguments) const override {
    return find_kernel(table_, kernel, name()).workspace_bytes(arguments, 1);
  }
  void launch(StreamId stream, kernels::KernelId kernel, const void* arguments,
              std::span<std::byte> workspace) override {
    const KernelEntry& entry = find_kernel(table_, kernel, name());
    const kernels::KernelInfo& info = kernels::kernel_info(kernel);
    std::vector<std::byte> copy(info.size);
    std::memcpy(copy.data(), arguments, info.size);
    info.relocate(copy.data(), memory_.handle_to_real());
    std::byte* scratch = workspace.empty() ? nullptr : memory_.real(static_cast<void*>(workspace.data()));
    worker(stream).push([&entry, copy = std::move(copy), scratch, bytes = workspace.size()] {
      entry(copy.data(), {scratch, bytes, 1});
    });
  }
  void copy_to_device(StreamId stream, void* destination, std::span<const std::byte> source) override {
    worker(stream).push([target = memory_.real(destination), data = std::vector(source.begin(), source.end())] {
      if (!data.empty()) {
        std::memcpy(target, data.data(), data.size());
      }
    });
  }
  void copy_to_host(StreamId stream, std::span<std::byte> destination, const void* source) override {
    worker(stream).push([destination, data = memory_.real(source)] {
      if (!destination.empty()) {
        std::memcpy(destination.data(), data, destination.size());
      }
    });
  }
  Event record(StreamId stream) override { return {stream, worker(stream).given()}; }
  void wait(StreamId stream, Event event) override {
    if (stream != event.stream) {
      worker(stream).push([&other = worker(event.stream), value = event.value] { other.wait_for(value); });
    }
  }
  bool is_complete(Event event) override { return worker(event.stream).is_done(event.value); }
  void synchronize(Event event) override {
    worker(event.stream).wait_for(event.value);
    if (const std::exception_ptr failure = worker(event.stream).take_failure()) {
      std::rethrow_exception(failure);
    }
  }

 private:
  Worker& worker(StreamId stream) { return *workers_[static_cast<std::size_t>(stream)]; }
  void create_worker() { workers_.push_back(std::make_unique<Worker>(seed_, workers_.size())); }

  std::uint64_t seed_;
  HiddenMemory memory_;
  KernelTable table_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace

std::unique_ptr<Device> make_device(std::uint64_t seed, std::size_t capacity) {
  return std::make_unique<DelayedDevice>(seed, capacity);
}

}  // namespace flyover::devices::delayed
