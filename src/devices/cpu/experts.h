// The parts of the CPU device's expert kernels: sorting (experts_sort.cpp), products (experts_matmul.cpp), and the rest
// (experts.cpp).
#pragma once

#include "devices/cpu/instruction_set.h"
#include "devices/kernel_table.h"

namespace flyover::devices::cpu {

void add_expert_sort_kernel(KernelTable& table);
void add_grouped_matmul_kernels(KernelTable& table, InstructionSet set);

}  // namespace flyover::devices::cpu
