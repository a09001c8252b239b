// The CPU device's MatMul: packs operands into panels and hands pairs of panels to a micro-kernel, after Goto and van
// de Geijn, "Anatomy of high-performance matrix multiplication" (TOMS 2008) and Van Zee and van de Geijn, "BLIS" (TOMS
// 2015). Unlike there, every element's sum runs along the depth in order with one accumulator: no split of the depth
// changes it, because sums wait between blocks as they are.
#include <algorithm>

#include "base/error.h"
#include "base/threads.h"
#include "devices/cpu/families.h"
#include "devices/cpu/matmul_microkernel.h"
#include "devices/cpu/matmul_plan.h"
#include "devices/cpu/matmul_prefetch.h"

namespace flyover::devices::cpu {
namespace matmul {
namespace {

// Steps that are packed for all panels before going on: rows of the source stay in the L1 cache and the TLB where
// neighbours in memory belong to different panels.
constexpr std::int64_t kPackSteps = 32;

/// One of the operands, and where its panels are.
struct Operand {
  Source source;
  Pack pack;
  std::int64_t rows;
  int panel_rows;
  std::size_t panel_bytes;
};

Operand make_operand(const kernels::ConstView& view, const MicroKernel& kernel, int panel_rows,
                     std::size_t panel_bytes) {
  const bool depth_is_dense = view.stride(1) == 1 || view.size(1) <= 1;
  return {{view.data, depth_is_dense ? view.stride(0) : view.stride(1), view.size(1), depth_is_dense},
          depth_is_dense ? kernel.pack_dense_depth : kernel.pack_dense_rows,
          view.size(0),
          panel_rows,
          panel_bytes};
}

/// The state of one product while it runs.
struct Product {
  const kernels::MatMul& arguments;
  const MicroKernel& kernel;
  Plan plan;
  Operand a;
  Operand b;
  std::byte* shared_a;
  std::byte* shared_b;
  std::byte* thread_scratch;
};

/// Rows of a panel that exist.
int rows_in_panel(const Operand& operand, std::int64_t panel) {
  return static_cast<int>(std::min<std::int64_t>(operand.panel_rows, operand.rows - panel * operand.panel_rows));
}

/// Packs panels [first, last) of block `block` of the depth, one after the other from `panels` on. The last panel of a
/// is as wide as it has rows; those of b all have the full width.
void pack_panels(const Product& product, const Operand& operand, bool full_width, std::int64_t block,
                 std::int64_t first, std::int64_t last, std::byte* panels) {
  const std::int64_t begin = block * product.plan.block_steps;
  const std::int64_t end = std::min(begin + product.plan.block_steps, product.plan.steps);
  const std::int64_t chunk = operand.source.depth_is_dense ? std::max<std::int64_t>(end - begin, 1) : kPackSteps;
  for (std::int64_t step = begin; step < end; step += chunk) {
    for (std::int64_t panel = first; panel < last; ++panel) {
      const int count = rows_in_panel(operand, panel);
      const int width = full_width ? operand.panel_rows : count;
      auto* words =
          reinterpret_cast<std::uint32_t*>(panels + static_cast<std::size_t>(panel - first) * operand.panel_bytes);
      operand.pack(operand.source, {panel * operand.panel_rows, count, width, step, std::min(chunk, end - step)},
                   words + (step - begin) * width);
    }
  }
}

/// Packs all of an operand: block after block of the depth, panel after panel.
void pack_shared(const Product& product, const Operand& operand, bool full_width, std::int64_t panels,
                 std::byte* shared) {
  constexpr std::int64_t kPanelsPerItem = 4;
  const std::int64_t groups = (panels + kPanelsPerItem - 1) / kPanelsPerItem;
  const auto pack_item = [&](std::int64_t item) {
    const std::int64_t block = item / groups;
    const std::int64_t first = item % groups * kPanelsPerItem;
    pack_panels(product, operand, full_width, block, first, std::min(first + kPanelsPerItem, panels),
                shared + static_cast<std::size_t>(block * panels + first) * operand.panel_bytes);
  };
  base::parallel_for(product.plan.threads, product.plan.depth_blocks * groups, pack_item);
}

/// Prefetches what pack_panels will read for panels [first, last) of `block`, in `calls` calls.
Prefetcher prefetch_panels(const Product& product, const Operand& operand, std::int64_t block, std::int64_t first,
                           std::int64_t last, std::int64_t calls) {
  const auto width = static_cast<std::int64_t>(kernels::size_of(product.arguments.a.dtype));
  const std::int64_t row = first * operand.panel_rows;
  const std::int64_t rows = std::min(last * operand.panel_rows, operand.rows) - row;
  const std::int64_t block_depth = product.plan.block_steps * product.kernel.depth_per_step;
  const std::int64_t depth = block * block_depth;
  const std::int64_t depths = std::min(block_depth, operand.source.depth - depth);
  const bool dense = operand.source.depth_is_dense;
  const std::int64_t offset = dense ? row * operand.source.stride + depth : depth * operand.source.stride + row;
  return {static_cast<const std::byte*>(operand.source.data) + offset * width, operand.source.stride * width,
          dense ? rows : depths, (dense ? depths : rows) * width, calls};
}

/// The panels of a and b that are multiplied with each other, within an item.
struct Slab {
  std::int64_t row_begin, row_end;        ///< panels
  std::int64_t column_begin, column_end;  ///< panels
  std::int64_t block;                     ///< of the depth
  const std::byte* a;                     ///< panel row_begin
  const std::byte* b;                     ///< panel column_begin
  float* sums;                            ///< of the first tile of the item
  std::int64_t item_column_begin, item_column_end;
};

/// Rows of tiles, each along all the columns.
void multiply_slab(const Product& product, const Slab& slab, Prefetcher& prefetcher) {
  const Plan& plan = product.plan;
  const MicroKernel& kernel = product.kernel;
  const kernels::View& c = product.arguments.c;
  const std::size_t c_bytes = kernels::size_of(c.dtype);
  const std::int64_t begin = slab.block * plan.block_steps;
  Tile tile{};
  tile.steps = std::min(plan.block_steps, plan.steps - begin);
  tile.first = slab.block == 0;
  tile.last = slab.block + 1 == plan.depth_blocks;
  tile.c_stride = c.stride(0);
  tile.c_is_bf16 = c.dtype == kernels::DType::kBf16;
  tile.accumulate = product.arguments.accumulate;
  for (std::int64_t row = slab.row_begin; row < slab.row_end; ++row) {
    const Multiply multiply = kernel.multiply[rows_in_panel(product.a, row)];
    tile.a = reinterpret_cast<const std::uint32_t*>(slab.a + static_cast<std::size_t>(row - slab.row_begin) *
                                                                 plan.a_panel_bytes);
    for (std::int64_t column = slab.column_begin; column < slab.column_end; ++column) {
      const std::byte* b = slab.b + static_cast<std::size_t>(column - slab.column_begin) * plan.b_panel_bytes;
      const std::int64_t tile_index =
          (row - slab.row_begin) * (slab.item_column_end - slab.item_column_begin) + (column - slab.item_column_begin);
      tile.b = reinterpret_cast<const std::uint32_t*>(b);
      // The first row of tiles brings the panels of b into the L2 cache, the last tile of a row the next panel of a.
      const bool last_column = column + 1 == slab.column_end;
      const bool first_row = row == slab.row_begin;
      tile.prefetch = last_column ? reinterpret_cast<const std::byte*>(tile.a) + plan.a_panel_bytes
                                  : b + (first_row ? plan.b_panel_bytes : 0);
      tile.prefetch_step = last_column ? kernel.panel_rows * 4 : first_row ? kernel.panel_columns * 4 : 0;
      tile.sums = slab.sums + tile_index * kernel.panel_rows * kernel.panel_columns;
      tile.columns = rows_in_panel(product.b, column);
      tile.c =
          static_cast<std::byte*>(c.data) +
          static_cast<std::size_t>(row * kernel.panel_rows * tile.c_stride + column * kernel.panel_columns) * c_bytes;
      prefetcher.advance();
      multiply(tile);
    }
  }
}

/// Panels of an item: [row_begin, row_end) x [column_begin, column_end).
struct Item {
  std::int64_t row_begin, row_end, column_begin, column_end;
};

Item item_at(const Plan& plan, std::int64_t index) {
  const std::int64_t row = index % plan.row_blocks;
  const std::int64_t column = index / plan.row_blocks;
  return {block_begin(row, plan.row_blocks, plan.row_panels), block_begin(row + 1, plan.row_blocks, plan.row_panels),
          block_begin(column, plan.column_blocks, plan.column_panels),
          block_begin(column + 1, plan.column_blocks, plan.column_panels)};
}

/// Prefetches what the thread will probably pack after this slab: the next columns of b where b is not shared, else the
/// next rows of a; the next item is the one that is due when all threads are equally fast.
Prefetcher prefetch_after(const Product& product, const Slab& slab, std::int64_t index) {
  const Plan& plan = product.plan;
  const bool last_block = slab.block + 1 == plan.depth_blocks;
  const bool last_slab = slab.column_end == slab.item_column_end;
  const bool has_next = index + plan.threads < plan.row_blocks * plan.column_blocks;
  const std::int64_t tiles = (slab.row_end - slab.row_begin) * (slab.column_end - slab.column_begin);
  if (plan.share_b) {
    const std::int64_t item_tiles = (slab.row_end - slab.row_begin) * (slab.item_column_end - slab.item_column_begin);
    if (!last_block) {
      return prefetch_panels(product, product.a, slab.block + 1, slab.row_begin, slab.row_end, item_tiles);
    }
    if (has_next) {
      const Item next = item_at(plan, index + plan.threads);
      return prefetch_panels(product, product.a, 0, next.row_begin, next.row_end, item_tiles);
    }
    return {};
  }
  if (!last_slab) {
    const std::int64_t end = std::min(slab.column_end + plan.slab_panels, slab.item_column_end);
    return prefetch_panels(product, product.b, slab.block, slab.column_end, end, tiles);
  }
  if (!last_block) {
    const std::int64_t end = std::min(slab.item_column_begin + plan.slab_panels, slab.item_column_end);
    return prefetch_panels(product, product.b, slab.block + 1, slab.item_column_begin, end, tiles);
  }
  if (has_next) {
    const Item next = item_at(plan, index + plan.threads);
    const std::int64_t end = std::min(next.column_begin + plan.slab_panels, next.column_end);
    return prefetch_panels(product, product.b, 0, next.column_begin, end, tiles);
  }
  return {};
}

void multiply_item(const Product& product, std::int64_t index, int thread) {
  const Plan& plan = product.plan;
  const Item item = item_at(plan, index);
  std::byte* private_a = product.thread_scratch + static_cast<std::size_t>(thread) * plan.thread_bytes();
  std::byte* private_b = private_a + plan.private_a_bytes;
  Slab slab{};
  slab.row_begin = item.row_begin;
  slab.row_end = item.row_end;
  slab.item_column_begin = item.column_begin;
  slab.item_column_end = item.column_end;
  slab.sums = reinterpret_cast<float*>(private_b + plan.private_b_bytes);
  Prefetcher prefetcher;
  for (slab.block = 0; slab.block < plan.depth_blocks; ++slab.block) {
    slab.a = private_a;
    if (plan.share_a) {
      slab.a = product.shared_a +
               static_cast<std::size_t>(slab.block * plan.row_panels + slab.row_begin) * plan.a_panel_bytes;
    } else {
      pack_panels(product, product.a, false, slab.block, slab.row_begin, slab.row_end, private_a);
    }
    for (slab.column_begin = item.column_begin; slab.column_begin < item.column_end;
         slab.column_begin = slab.column_end) {
      slab.column_end = std::min(slab.column_begin + plan.slab_panels, item.column_end);
      slab.b = private_b;
      if (plan.share_b) {
        slab.b = product.shared_b +
                 static_cast<std::size_t>(slab.block * plan.column_panels + slab.column_begin) * plan.b_panel_bytes;
      } else {
        pack_panels(product, product.b, true, slab.block, slab.column_begin, slab.column_end, private_b);
      }
      if (!plan.share_b || slab.column_begin == item.column_begin) {
        prefetcher = prefetch_after(product, slab, index);
      }
      multiply_slab(product, slab, prefetcher);
    }
  }
}

void run(const kernels::MatMul& arguments, const MicroKernel& kernel, const LaunchContext& context) {
  const bool nothing_to_add = arguments.accumulate && arguments.a.size(1) == 0;
  if (arguments.c.elements() == 0 || nothing_to_add) {
    return;
  }
  const Plan plan = make_plan(arguments, kernel, context.threads);
  base::check(context.workspace_bytes >= plan.workspace_bytes(), "matmul: {} bytes of workspace, needs {}",
              context.workspace_bytes, plan.workspace_bytes());
  std::byte* const shared_a = context.workspace;
  std::byte* const shared_b = shared_a + plan.shared_a_bytes;
  const Product product{arguments,
                        kernel,
                        plan,
                        make_operand(arguments.a, kernel, kernel.panel_rows, plan.a_panel_bytes),
                        make_operand(arguments.b, kernel, kernel.panel_columns, plan.b_panel_bytes),
                        shared_a,
                        shared_b,
                        shared_b + plan.shared_b_bytes};
  if (plan.share_a) {
    pack_shared(product, product.a, false, plan.row_panels, shared_a);
  }
  if (plan.share_b) {
    pack_shared(product, product.b, true, plan.column_panels, shared_b);
  }
  base::parallel_for(plan.threads, plan.row_blocks * plan.column_blocks,
                     [&](std::int64_t item, int thread) { multiply_item(product, item, thread); });
}

template <InstructionSet kSet>
void launch(const kernels::MatMul& arguments, const LaunchContext& context) {
  run(arguments, micro_kernel(kSet, arguments.a.dtype), context);
}

template <InstructionSet kSet>
std::size_t workspace_bytes(const kernels::MatMul& arguments, int threads) {
  if (arguments.c.elements() == 0) {
    return 0;
  }
  return make_plan(arguments, micro_kernel(kSet, arguments.a.dtype), threads).workspace_bytes();
}

}  // namespace

const MicroKernel& micro_kernel(InstructionSet set, kernels::DType dtype) {
  base::check(dtype == kernels::DType::kF32 || dtype == kernels::DType::kBf16,
              "matmul: the cpu device multiplies f32 and bf16, not {}", kernels::name_of(dtype));
  const bool is_f32 = dtype == kernels::DType::kF32;
  switch (set) {
    case InstructionSet::kAvx2:
      return is_f32 ? kAvx2F32 : kAvx2Bf16;
    case InstructionSet::kAvx512:
      return is_f32 ? kAvx512F32 : kAvx512Bf16;
    case InstructionSet::kAvx512Bf16:
      return is_f32 ? kAvx512F32 : kAvx512Bf16Pairs;
  }
  base::check(false, "matmul: unknown instruction set");
  return kAvx2F32;
}

}  // namespace matmul

void add_matmul_kernels(KernelTable& table, InstructionSet set) {
  using kernels::MatMul;
  switch (set) {
    case InstructionSet::kAvx2:
      table.set<MatMul>(matmul::launch<InstructionSet::kAvx2>, matmul::workspace_bytes<InstructionSet::kAvx2>);
      return;
    case InstructionSet::kAvx512:
      table.set<MatMul>(matmul::launch<InstructionSet::kAvx512>, matmul::workspace_bytes<InstructionSet::kAvx512>);
      return;
    case InstructionSet::kAvx512Bf16:
      table.set<MatMul>(matmul::launch<InstructionSet::kAvx512Bf16>,
                        matmul::workspace_bytes<InstructionSet::kAvx512Bf16>);
      return;
  }
}

}  // namespace flyover::devices::cpu
