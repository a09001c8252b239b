#include "devices/reference/families.h"

namespace flyover::devices::reference {

KernelTable kernel_table() {
  KernelTable table;
  add_matmul_kernels(table);
  add_attention_kernels(table);
  add_norm_kernels(table);
  add_rope_kernels(table);
  add_mlp_kernels(table);
  add_router_kernels(table);
  add_experts_kernels(table);
  add_rows_kernels(table);
  add_loss_kernels(table);
  add_optimizer_kernels(table);
  add_elementwise_kernels(table);
  add_sample_kernels(table);
  add_hyper_connection_kernels(table);
  add_streams_kernels(table);
  add_compressor_kernels(table);
  add_shared_attention_kernels(table);
  add_indexer_kernels(table);
  add_muon_kernels(table);
  add_heads_kernels(table);
  add_quantisation_kernels(table);
  return table;
}

}  // namespace flyover::devices::reference
