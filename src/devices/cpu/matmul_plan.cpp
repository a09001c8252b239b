#include "devices/cpu/matmul_plan.h"

#include <algorithm>
#include <array>

namespace flyover::devices::cpu::matmul {
namespace {

// Sizes for cores with 32 KB or more of L1, 1 MB of L2 and a few MB of L3 each (Zen 4, Zen 5).
constexpr std::size_t kSharedBytes = 10u << 20;     // the most that is packed ahead
constexpr std::size_t kSumsBytes = 1u << 20;        // the most sums that wait between blocks of the depth, per thread
constexpr std::size_t kPrivateABytes = 320u << 10;  // rows of an item; with a slab of b they share the L2
constexpr std::size_t kSlabBytes = 400u << 10;
constexpr std::int64_t kItemsPerThread = 4;          // so that a slow thread costs a quarter of its share at most
constexpr std::int64_t kSerialOperations = 200'000;  // below, starting threads costs more than it gives
constexpr std::int64_t kSquareRows = 576;            // item where neither operand can be shared
constexpr std::int64_t kSquareColumns = 576;
constexpr int kThreadsToBalance = 16;  // with more threads or items the choice of items is not searched
constexpr std::int64_t kBlocksToBalance = 48;

constexpr std::int64_t divide_up(std::int64_t value, std::int64_t by) {
  return (value + by - 1) / by;
}

/// Panels of the thread that gets most, when each of `blocks` items goes to the thread that is free first.
std::int64_t largest_share(std::int64_t panels, std::int64_t blocks, int threads) {
  std::array<std::int64_t, kThreadsToBalance> shares{};
  const auto end = shares.begin() + threads;
  for (std::int64_t i = 0; i < blocks; ++i) {
    *std::min_element(shares.begin(), end) += block_begin(i + 1, blocks, panels) - block_begin(i, blocks, panels);
  }
  return *std::max_element(shares.begin(), end);
}

/// Items into which `panels` are cut: at most `largest` panels each, several per thread unless they get smaller than
/// `smallest`, and so many that all threads end at about the same time.
std::int64_t choose_blocks(std::int64_t panels, std::int64_t smallest, std::int64_t largest, int threads) {
  const std::int64_t needed = divide_up(panels, std::max<std::int64_t>(largest, 1));
  const std::int64_t wanted = std::max<std::int64_t>(std::min(kItemsPerThread * threads, panels / smallest), needed);
  std::int64_t best = std::min(divide_up(std::max<std::int64_t>(wanted, 1), threads) * threads, panels);
  if (threads == 1 || threads > kThreadsToBalance || best > kBlocksToBalance) {
    return best;
  }
  std::int64_t best_share = largest_share(panels, best, threads);
  for (std::int64_t blocks = best + threads; blocks >= std::max<std::int64_t>(needed, threads); --blocks) {
    const std::int64_t share = blocks <= panels ? largest_share(panels, blocks, threads) : panels;
    if (share < best_share) {
      best = blocks;
      best_share = share;
    }
  }
  return best;
}

/// Share of the threads' time that is used when `panels` are dealt to them.
double balance(std::int64_t panels, int threads) {
  return static_cast<double>(panels) / static_cast<double>(divide_up(panels, threads) * threads);
}

}  // namespace

DepthBlocks cut_depth(std::int64_t depth, const MicroKernel& kernel) {
  DepthBlocks blocks;
  blocks.steps = divide_up(depth, kernel.depth_per_step);
  blocks.count = std::max<std::int64_t>(divide_up(blocks.steps, kBlockSteps), 1);
  blocks.block_steps = std::min(divide_up(divide_up(blocks.steps, blocks.count), 16) * 16, blocks.steps);
  blocks.a_panel_bytes = panel_bytes(kernel.panel_rows, blocks.block_steps);
  blocks.b_panel_bytes = panel_bytes(kernel.panel_columns, blocks.block_steps);
  return blocks;
}

Plan make_plan(const kernels::MatMul& product, const MicroKernel& kernel, int threads) {
  const std::int64_t rows = product.a.size(0);
  const std::int64_t columns = product.b.size(0);
  const std::int64_t depth = product.a.size(1);
  Plan plan;
  plan.threads = 2 * rows * columns * depth < kSerialOperations ? 1 : std::max(threads, 1);
  plan.depth = cut_depth(depth, kernel);
  plan.row_panels = divide_up(rows, kernel.panel_rows);
  plan.column_panels = divide_up(columns, kernel.panel_columns);

  const std::size_t whole_a = static_cast<std::size_t>(plan.depth.count * plan.row_panels) * plan.depth.a_panel_bytes;
  const std::size_t whole_b =
      static_cast<std::size_t>(plan.depth.count * plan.column_panels) * plan.depth.b_panel_bytes;
  const std::size_t tile_bytes = 4 * static_cast<std::size_t>(kernel.panel_rows * kernel.panel_columns);
  const auto tiles_between_blocks =
      plan.depth.count > 1 ? static_cast<std::int64_t>(kSumsBytes / tile_bytes) : INT64_MAX;
  const auto slab = static_cast<std::int64_t>(kSlabBytes / plan.depth.b_panel_bytes);
  const auto tall = static_cast<std::int64_t>(kPrivateABytes / plan.depth.a_panel_bytes);

  // The smaller operand is shared and the other one's panels are dealt to the threads, so that each is packed once.
  bool split_columns = whole_a <= whole_b;
  const double columns_balance = balance(plan.column_panels, plan.threads);
  const double rows_balance = balance(plan.row_panels, plan.threads);
  if (split_columns ? rows_balance > 1.03 * columns_balance : columns_balance > 1.03 * rows_balance) {
    split_columns = !split_columns;
  }
  if (split_columns && whole_a > kSharedBytes && whole_b <= kSharedBytes) {
    split_columns = false;
  } else if (!split_columns && whole_b > kSharedBytes && whole_a <= kSharedBytes) {
    split_columns = true;
  }
  plan.row_blocks = 1;
  plan.column_blocks = 1;
  plan.slab_panels = slab;
  if (split_columns && whole_a <= kSharedBytes) {
    plan.share_a = true;
    const std::int64_t largest = std::min(slab, std::max<std::int64_t>(tiles_between_blocks / plan.row_panels, 1));
    plan.column_blocks = choose_blocks(plan.column_panels, 2, largest, plan.threads);
    if (rows <= kernel.panel_rows) {
      plan.slab_panels = 1;  // a panel of b is used once: straight from the L1 cache
    }
  } else if (!split_columns && whole_b <= kSharedBytes) {
    plan.share_b = true;
    const std::int64_t largest = std::min(tall, std::max<std::int64_t>(tiles_between_blocks / plan.column_panels, 1));
    plan.row_blocks = choose_blocks(plan.row_panels, 4, largest, plan.threads);
  } else {
    plan.row_blocks = divide_up(plan.row_panels, kSquareRows / kernel.panel_rows);
    plan.column_blocks = divide_up(plan.column_panels, kSquareColumns / kernel.panel_columns);
    if (plan.row_blocks * plan.column_blocks % plan.threads != 0) {
      plan.column_blocks = std::min(divide_up(plan.column_blocks, plan.threads) * plan.threads, plan.column_panels);
    }
  }

  const std::int64_t item_rows = divide_up(plan.row_panels, plan.row_blocks);
  const std::int64_t item_columns = divide_up(plan.column_panels, plan.column_blocks);
  plan.slab_panels = std::clamp<std::int64_t>(plan.slab_panels, 1, item_columns);
  (plan.share_a ? plan.shared_a_bytes : plan.private_a_bytes) =
      plan.share_a ? whole_a : static_cast<std::size_t>(item_rows) * plan.depth.a_panel_bytes;
  (plan.share_b ? plan.shared_b_bytes : plan.private_b_bytes) =
      plan.share_b ? whole_b : static_cast<std::size_t>(plan.slab_panels) * plan.depth.b_panel_bytes;
  plan.sums_bytes = plan.depth.count > 1 ? static_cast<std::size_t>(item_rows * item_columns) * tile_bytes : 0;
  return plan;
}

}  // namespace flyover::devices::cpu::matmul
