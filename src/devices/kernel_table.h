// A device's kernels: a table from argument structs to code.
#pragma once

#include <array>
#include <cstddef>

#include "kernels/all.h"

namespace flyover::devices {

/// What a kernel gets besides its arguments.
struct LaunchContext {
  std::byte* workspace = nullptr;  ///< stream-ordered scratch, 64-byte aligned, as large as the kernel asked for
  std::size_t workspace_bytes = 0;
  int threads = 1;  ///< host threads it may use (host devices only)
};

/// The code of one kernel on one device, with the struct's type erased.
struct KernelEntry {
  void (*run)(const void* arguments, const LaunchContext& context, void (*function)()) = nullptr;
  std::size_t (*measure)(const void* arguments, int threads, void (*function)()) = nullptr;
  void (*function)() = nullptr;
  void (*workspace)() = nullptr;

  bool present() const { return function != nullptr; }
  void operator()(const void* arguments, const LaunchContext& context) const { run(arguments, context, function); }
  /// Bytes of workspace that a launch with these arguments needs.
  std::size_t workspace_bytes(const void* arguments, int threads) const {
    return workspace == nullptr ? 0 : measure(arguments, threads, workspace);
  }
};

/// One entry for every kernel struct; those that a device lacks are absent.
class KernelTable {
 public:
  /// Sets the code of a kernel and, where it needs scratch memory, how much.
  template <typename Kernel>
  void set(void (*function)(const Kernel&, const LaunchContext&),
           std::size_t (*workspace)(const Kernel&, int threads) = nullptr) {
    KernelEntry& entry = entries_[static_cast<std::size_t>(kernels::kernel_id<Kernel>)];
    entry.function = reinterpret_cast<void (*)()>(function);
    entry.run = [](const void* arguments, const LaunchContext& context, void (*erased)()) {
      reinterpret_cast<void (*)(const Kernel&, const LaunchContext&)>(erased)(*static_cast<const Kernel*>(arguments),
                                                                              context);
    };
    entry.workspace = reinterpret_cast<void (*)()>(workspace);
    entry.measure = [](const void* arguments, int threads, void (*erased)()) {
      return reinterpret_cast<std::size_t (*)(const Kernel&, int)>(erased)(*static_cast<const Kernel*>(arguments),
                                                                           threads);
    };
  }

  const KernelEntry& operator[](kernels::KernelId id) const { return entries_[static_cast<std::size_t>(id)]; }

 private:
  std::array<KernelEntry, kernels::kKernelCount> entries_{};
};

}  // namespace flyover::devices
