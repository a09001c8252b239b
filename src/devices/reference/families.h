// The reference device's kernels by family: plain loops over the definition in kernels/, accumulation in fp64. They are
// the oracle for every other device; clarity is all that counts.
#pragma once

#include "devices/kernel_table.h"

namespace flyover::devices::reference {

void add_matmul_kernels(KernelTable& table);
void add_attention_kernels(KernelTable& table);
void add_norm_kernels(KernelTable& table);
void add_rope_kernels(KernelTable& table);
void add_mlp_kernels(KernelTable& table);
void add_router_kernels(KernelTable& table);
void add_experts_kernels(KernelTable& table);
void add_rows_kernels(KernelTable& table);
void add_loss_kernels(KernelTable& table);
void add_optimizer_kernels(KernelTable& table);
void add_elementwise_kernels(KernelTable& table);
void add_sample_kernels(KernelTable& table);
void add_hyper_connection_kernels(KernelTable& table);
void add_streams_kernels(KernelTable& table);
void add_compressor_kernels(KernelTable& table);
void add_shared_attention_kernels(KernelTable& table);
void add_indexer_kernels(KernelTable& table);
void add_muon_kernels(KernelTable& table);
void add_heads_kernels(KernelTable& table);
void add_quantisation_kernels(KernelTable& table);

/// All of the above.
KernelTable kernel_table();

}  // namespace flyover::devices::reference
