// What the machine can do at most, measured: instruction peaks out of registers, and the bandwidth of reading memory.
#pragma once

#include "devices/cpu/instruction_set.h"
#include "kernels/dtype.h"

namespace flyover::bench {

/// Seconds since some moment: of this thread's CPU time for one thread, so that other programs on the machine disturb
/// less; of the wall clock otherwise.
double now(int threads = 0);

/// FLOP/s of one short run (about 0.3 ms) of independent multiply-adds on each of `threads` threads, with the
/// instruction that products of this type use.
double measure_peak(devices::cpu::InstructionSet set, kernels::DType dtype, int threads);

/// Bytes/s of reading 256 MB once.
double measure_read_bandwidth(int threads);

}  // namespace flyover::bench
