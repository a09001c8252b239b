// The parts of the router's kernels that are plain counting: tables of experts, how often a document chose each of
// them, and the selection bias.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "devices/kernel_table.h"

namespace flyover::devices::cpu {

/// Throws InternalError unless all of a [tokens, choices] table are experts.
void check_experts(std::string_view kernel, const kernels::ConstView& experts, std::int64_t count);

/// What RouterBalance keeps of the documents, in its workspace.
struct BalanceDocuments {
  float* frequencies;      ///< [documents, experts]: f
  float* factors;          ///< [documents]: coefficient * weight / tokens
  float* means;            ///< [tokens]: sum_i f_i s_i / sum_j s_j, set by the caller
  std::int32_t* of_token;  ///< [tokens]; -1 = in no document
};

std::size_t balance_workspace(const kernels::RouterBalance& kernel, int threads);

/// Fills all but the means. Throws InternalError for an expert or a document that does not exist.
BalanceDocuments count_choices(const kernels::RouterBalance& kernel, const LaunchContext& context);

/// Adds to the loss what the means come to, tokens and documents in order.
void add_balance_loss(const kernels::RouterBalance& kernel, const BalanceDocuments& documents);

void update_bias(const kernels::RouterBiasUpdate& kernel, const LaunchContext& context);

}  // namespace flyover::devices::cpu
