// Products of matrices with themselves, beside the vector kernels of Muon (muon.cpp).
#pragma once

#include "devices/cpu/instruction_set.h"
#include "devices/kernel_table.h"

namespace flyover::devices::cpu {

void add_gram_kernel(KernelTable& table, InstructionSet set);

}  // namespace flyover::devices::cpu
