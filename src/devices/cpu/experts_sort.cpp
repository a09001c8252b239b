// Pairs of token and choice sorted by expert: a counting sort over blocks of pairs.
#include <algorithm>

#include "base/error.h"
#include "base/threads.h"
#include "devices/cpu/experts.h"
#include "kernels/experts.h"

namespace flyover::devices::cpu {
namespace {

// Pairs in a block: fewer are counted sooner than a thread is started.
constexpr std::int64_t kPairsPerBlock = 8192;

std::int64_t blocks_of_pairs(const kernels::ExpertSort& kernel) {
  return (kernel.experts.elements() + kPairsPerBlock - 1) / kPairsPerBlock;
}

/// Scratch: for each block, how many of its pairs each expert has; then the row of its next one.
std::size_t workspace_bytes(const kernels::ExpertSort& kernel, int) {
  return static_cast<std::size_t>(blocks_of_pairs(kernel) * (kernel.offsets.size(0) - 1)) * sizeof(std::int32_t);
}

void check_experts(const std::int32_t* experts, std::int64_t pairs, std::int64_t count) {
  // A negative expert is a large one.
  std::uint32_t largest = 0;
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    largest = std::max(largest, static_cast<std::uint32_t>(experts[pair]));
  }
  base::check(pairs == 0 || static_cast<std::int64_t>(largest) < count, "expert_sort: expert {} of {}",
              static_cast<std::int32_t>(largest), count);
}

/// Turns the blocks' counts into the rows of their first pairs, and writes the offsets and the load.
void assign_rows(const kernels::ExpertSort& kernel, std::int32_t* counts, std::int64_t blocks) {
  const std::int64_t experts = kernel.offsets.size(0) - 1;
  auto* const offsets = static_cast<std::int32_t*>(kernel.offsets.data);
  auto* const load = kernel.load.has_value() ? static_cast<float*>(kernel.load->data) : nullptr;
  std::int32_t row = 0;
  for (std::int64_t expert = 0; expert < experts; ++expert) {
    offsets[expert] = row;
    for (std::int64_t block = 0; block < blocks; ++block) {
      std::int32_t& count = counts[block * experts + expert];
      const std::int32_t first = row;
      row += count;
      count = first;
    }
    if (load != nullptr) {
      load[expert] += static_cast<float>(row - offsets[expert]);
    }
  }
  offsets[experts] = row;
}

void expert_sort(const kernels::ExpertSort& kernel, const LaunchContext& context) {
  const auto* const chosen = static_cast<const std::int32_t*>(kernel.experts.data);
  auto* const pair_of_row = static_cast<std::int32_t*>(kernel.pair_of_row.data);
  auto* const token_of_row = static_cast<std::int32_t*>(kernel.token_of_row.data);
  auto* const row_of_pair = static_cast<std::int32_t*>(kernel.row_of_pair.data);
  auto* const counts = reinterpret_cast<std::int32_t*>(context.workspace);
  const std::int64_t pairs = kernel.experts.elements(), experts = kernel.offsets.size(0) - 1;
  const std::int64_t blocks = blocks_of_pairs(kernel);
  check_experts(chosen, pairs, experts);
  base::parallel_for(context.threads, blocks, [&](std::int64_t block) {
    std::int32_t* const count = counts + block * experts;
    std::fill_n(count, experts, 0);
    for (std::int64_t pair = block * kPairsPerBlock; pair < std::min(pairs, (block + 1) * kPairsPerBlock); ++pair) {
      ++count[chosen[pair]];
    }
  });
  assign_rows(kernel, counts, blocks);
  const std::int64_t choices = std::max<std::int64_t>(kernel.experts.size(1), 1);
  base::parallel_for(context.threads, blocks, [&](std::int64_t block) {
    std::int32_t* const next_row = counts + block * experts;
    const std::int64_t begin = block * kPairsPerBlock, end = std::min(pairs, begin + kPairsPerBlock);
    auto token = static_cast<std::int32_t>(begin / choices);
    std::int64_t choice = begin % choices;
    for (std::int64_t pair = begin; pair < end; ++pair) {
      const std::int32_t row = next_row[chosen[pair]]++;
      row_of_pair[pair] = row;
      pair_of_row[row] = static_cast<std::int32_t>(pair);
      token_of_row[row] = token;
      if (++choice == choices) {
        choice = 0;
        ++token;
      }
    }
  });
}

}  // namespace

void add_expert_sort_kernel(KernelTable& table) {
  table.set<kernels::ExpertSort>(expert_sort, workspace_bytes);
}

}  // namespace flyover::devices::cpu
