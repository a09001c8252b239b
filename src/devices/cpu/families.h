// The CPU device's kernels by family: each function fills its part of the table with the code for an instruction set.
#pragma once

#include "devices/cpu/instruction_set.h"
#include "devices/kernel_table.h"

namespace flyover::devices::cpu {

void add_matmul_kernels(KernelTable& table, InstructionSet set);
void add_attention_kernels(KernelTable& table, InstructionSet set);
void add_norm_kernels(KernelTable& table, InstructionSet set);
void add_rope_kernels(KernelTable& table, InstructionSet set);
void add_mlp_kernels(KernelTable& table, InstructionSet set);
void add_router_kernels(KernelTable& table, InstructionSet set);
void add_experts_kernels(KernelTable& table, InstructionSet set);
void add_rows_kernels(KernelTable& table, InstructionSet set);
void add_loss_kernels(KernelTable& table, InstructionSet set);
void add_optimizer_kernels(KernelTable& table, InstructionSet set);
void add_elementwise_kernels(KernelTable& table, InstructionSet set);
void add_sample_kernels(KernelTable& table, InstructionSet set);
void add_hyper_connection_kernels(KernelTable& table, InstructionSet set);
void add_streams_kernels(KernelTable& table, InstructionSet set);
void add_compressor_kernels(KernelTable& table, InstructionSet set);
void add_shared_attention_kernels(KernelTable& table, InstructionSet set);
void add_indexer_kernels(KernelTable& table, InstructionSet set);
void add_muon_kernels(KernelTable& table, InstructionSet set);
void add_heads_kernels(KernelTable& table, InstructionSet set);
void add_quantisation_kernels(KernelTable& table, InstructionSet set);

}  // namespace flyover::devices::cpu
