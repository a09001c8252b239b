// The hyper-connection kernels are compiled in three parts; hyper_connection.cpp puts them together.
#pragma once

#include "devices/cpu/instruction_set.h"
#include "devices/kernel_table.h"
#include "kernels/hyper_connection.h"

namespace flyover::devices::cpu {

/// Tokens that are passed over together: a multiple of every vector's lanes and of every tile's tokens, few enough for
/// their streams to stay in the second-level cache between two passes.
inline constexpr std::int64_t kTokensPerBlock = 48;
/// Tokens that one item of a parallel loop handles, block by block; the next block is fetched during the work on one.
inline constexpr std::int64_t kTokensPerItem = 4 * kTokensPerBlock;

/// Most rows of coefficients.
inline constexpr std::int64_t kMaximumRows = kernels::hyper_connection_coefficients(kernels::kMaximumStreams);

void add_hyper_connection_backward_kernels(KernelTable& table, InstructionSet set);
void add_hyper_connection_weight_kernels(KernelTable& table, InstructionSet set);

}  // namespace flyover::devices::cpu
