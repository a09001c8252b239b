// The CPU device: vector kernels for the instruction set of the machine.
#pragma once

#include "devices/cpu/instruction_set.h"
#include "devices/device.h"
#include "devices/kernel_table.h"

namespace flyover::devices::cpu {

/// All kernels for one instruction set.
KernelTable kernel_table(InstructionSet set);

/// `threads` = 0 means one for every core this process may use.
std::unique_ptr<Device> make_device(int threads, InstructionSet set);

}  // namespace flyover::devices::cpu
