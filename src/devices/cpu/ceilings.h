// What the machine can do at most, measured: the denominators of MFU and of roofline reports.
#pragma once

#include "devices/cpu/instruction_set.h"
#include "devices/device.h"

namespace flyover::devices::cpu {

/// Best of several short runs (about 0.2 s in all): multiply-adds out of registers with the instructions that products
/// of each type use, and reading memory that no cache holds, on `threads` threads.
Ceilings measure_ceilings(InstructionSet set, int threads);

}  // namespace flyover::devices::cpu
