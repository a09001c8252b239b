// What the machine can do at most, measured: the denominators of MFU and of roofline reports.
#pragma once

#include <cstdint>
#include <span>

#include "devices/cpu/instruction_set.h"
#include "devices/device.h"

namespace flyover::devices::cpu {

/// Best of several short runs (about 0.2 s in all): multiply-adds out of registers with the instructions that products
/// of each type use, and reading memory that no cache holds, on `threads` threads.
Ceilings measure_ceilings(InstructionSet set, int threads);

/// FLOP/s of one short run (about 0.2 ms) of independent multiply-adds out of registers on each of `threads` threads,
/// with the instruction that products of this type use: for benchmarks that measure it in turns with what they hold
/// against it.
double measure_peak(InstructionSet set, kernels::DType dtype, int threads);

/// Bytes/s of reading `memory` once on `threads` threads.
double measure_read_bandwidth(std::span<const std::uint64_t> memory, int threads);

}  // namespace flyover::devices::cpu
