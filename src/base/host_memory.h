// How much memory this process may still take: what the machine has free, and what limits allow.
#pragma once

#include <cstdint>
#include <filesystem>

namespace flyover::base {

/// Bytes of memory.
struct HostMemory {
  std::uint64_t available = 0;  ///< for new pages of this process
  std::uint64_t total = 0;      ///< of the machine
};

/// Available is the least of what the machine has, what the control groups of this process leave (version 1 and 2, from
/// its own group up to the root; file pages that can be dropped count as free) and what its limit of address space
/// leaves. `root` is where /proc and /sys lie. Throws Error where the kernel does not tell.
HostMemory host_memory(const std::filesystem::path& root = "/");

}  // namespace flyover::base
