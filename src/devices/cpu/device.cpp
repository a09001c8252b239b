#include "devices/cpu/device.h"

#include <fmt/core.h>

#include "base/threads.h"
#include "devices/cpu/ceilings.h"
#include "devices/cpu/families.h"
#include "devices/host_device.h"

namespace flyover::devices::cpu {

KernelTable kernel_table(InstructionSet set) {
  KernelTable table;
  add_matmul_kernels(table, set);
  add_attention_kernels(table, set);
  add_norm_kernels(table, set);
  add_rope_kernels(table, set);
  add_mlp_kernels(table, set);
  add_router_kernels(table, set);
  add_experts_kernels(table, set);
  add_rows_kernels(table, set);
  add_loss_kernels(table, set);
  add_optimizer_kernels(table, set);
  add_elementwise_kernels(table, set);
  add_sample_kernels(table, set);
  add_hyper_connection_kernels(table, set);
  add_streams_kernels(table, set);
  add_compressor_kernels(table, set);
  add_shared_attention_kernels(table, set);
  add_indexer_kernels(table, set);
  add_muon_kernels(table, set);
  add_heads_kernels(table, set);
  add_quantisation_kernels(table, set);
  return table;
}

std::unique_ptr<Device> make_device(int threads, InstructionSet set) {
  const int count = threads == 0 ? base::available_cores() : threads;
  return std::make_unique<HostDevice>("cpu", fmt::format("{} thread{}, {}", count, count == 1 ? "" : "s", name_of(set)),
                                      kernel_table(set), count, [set, count] { return measure_ceilings(set, count); });
}

}  // namespace flyover::devices::cpu
