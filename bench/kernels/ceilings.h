// What the benchmarks hold their kernels against: the CPU device's own measurements.
#pragma once

#include <cstdint>
#include <vector>

#include "clock.h"
#include "devices/cpu/ceilings.h"

namespace flyover::bench {

using devices::cpu::measure_peak;

/// Bytes/s of reading 256 MB once.
inline double measure_read_bandwidth(int threads) {
  static const std::vector<std::uint64_t> kMemory(std::size_t{32} << 20, 1);
  return devices::cpu::measure_read_bandwidth(kMemory, threads);
}

}  // namespace flyover::bench
