// The hyper-connection kernels are compiled in three parts; hyper_connection.cpp puts them together.
#pragma once

#include "devices/cpu/instruction_set.h"
#include "devices/kernel_table.h"
#include "kernels/hyper_connection.h"

namespace flyover::devices::cpu {

/// Most rows of coefficients.
inline constexpr std::int64_t kMaximumRows = kernels::hyper_connection_coefficients(kernels::kMaximumStreams);

void add_hyper_connection_backward_kernels(KernelTable& table, InstructionSet set);
void add_hyper_connection_weight_kernels(KernelTable& table, InstructionSet set);

}  // namespace flyover::devices::cpu
