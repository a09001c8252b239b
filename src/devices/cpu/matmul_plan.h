// How a matrix product is cut into blocks. Results do not depend on it: every element's sum runs along the whole depth
// in order, whatever the blocks are.
#pragma once

#include <cstddef>
#include <cstdint>

#include "devices/cpu/matmul_microkernel.h"
#include "kernels/matmul.h"

namespace flyover::devices::cpu::matmul {

/// How the depth of a product is cut, and how large panels of one block of it are. At most kBlockSteps in a block.
struct DepthBlocks {
  std::int64_t steps = 0;        ///< depth in words of the panels
  std::int64_t block_steps = 0;  ///< of one block
  std::int64_t count = 0;        ///< of blocks: 1 even where the depth is 0
  std::size_t a_panel_bytes = 0;
  std::size_t b_panel_bytes = 0;
};

inline constexpr std::int64_t kBlockSteps = 768;  ///< a panel of a is 36 KB, of b 96 KB (Zen 4, Zen 5)

DepthBlocks cut_depth(std::int64_t depth, const MicroKernel& kernel);

/// Bytes of a panel of `width` rows and so many steps; a multiple of 64.
constexpr std::size_t panel_bytes(std::int64_t width, std::int64_t steps) {
  const auto words = static_cast<std::size_t>(width * steps);
  return (words * 4 + 63) / 64 * 64 + 64;  // packing may write 60 bytes behind a panel
}

/// Blocks of a product. Operands are packed into panels (matmul_microkernel.h) of one block of the depth. The product
/// is a grid of row_blocks x column_blocks items that threads take one by one. An operand is either packed as a whole
/// before the items start (shared), or each item packs the part that it needs for itself.
struct Plan {
  int threads = 1;
  DepthBlocks depth;
  std::int64_t row_panels = 0;
  std::int64_t column_panels = 0;
  std::int64_t row_blocks = 0;
  std::int64_t column_blocks = 0;
  bool share_a = false;
  bool share_b = false;
  std::int64_t slab_panels = 0;  ///< column panels that an item works on at a time, so that they stay in the L2 cache

  // Workspace, in bytes; all multiples of 64.
  std::size_t shared_a_bytes = 0;
  std::size_t shared_b_bytes = 0;
  std::size_t private_a_bytes = 0;  ///< of each thread
  std::size_t private_b_bytes = 0;  ///< of each thread
  std::size_t sums_bytes = 0;       ///< of each thread

  std::size_t thread_bytes() const { return private_a_bytes + private_b_bytes + sums_bytes; }
  std::size_t workspace_bytes() const {
    return shared_a_bytes + shared_b_bytes + static_cast<std::size_t>(threads) * thread_bytes();
  }
};

/// Panels of block `index` when `panels` are dealt evenly to `blocks`: [begin(index), begin(index + 1)).
constexpr std::int64_t block_begin(std::int64_t index, std::int64_t blocks, std::int64_t panels) {
  return index * panels / blocks;
}

/// The blocks for a product with at least one row and one column.
Plan make_plan(const kernels::MatMul& product, const MicroKernel& kernel, int threads);

}  // namespace flyover::devices::cpu::matmul
