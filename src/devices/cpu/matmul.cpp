// The CPU device's MatMul: packs operands into panels and hands pairs of panels to a micro-kernel, after Goto and van
// de Geijn, "Anatomy of high-performance matrix multiplication" (TOMS 2008) and Van Zee and van de Geijn, "BLIS" (TOMS
// 2015). Unlike there, every element's sum runs along the depth in order with one accumulator: no split of the depth
// changes it, because sums wait between blocks as they are.
#include <algorithm>

#include "base/error.h"
#include "base/threads.h"
#include "devices/cpu/families.h"
#include "devices/cpu/matmul_plan.h"
#include "devices/cpu/matmul_product.h"

namespace flyover::devices::cpu {
namespace matmul {
namespace {

/// A product that is cut by a plan, and its workspace.
struct PlannedProduct {
  Product product;
  Plan plan;
  std::byte* shared_a;
  std::byte* shared_b;
  std::byte* thread_scratch;
};

using PackPanels = decltype(pack_panels_of_a);

/// Packs all of an operand: block after block of the depth, panel after panel.
void pack_shared(const PlannedProduct& planned, PackPanels pack, std::int64_t panels, std::size_t panel_bytes,
                 std::byte* shared) {
  constexpr std::int64_t kPanelsPerItem = 4;
  const std::int64_t groups = (panels + kPanelsPerItem - 1) / kPanelsPerItem;
  const auto pack_item = [&](std::int64_t item) {
    const std::int64_t block = item / groups;
    const std::int64_t first = item % groups * kPanelsPerItem;
    pack(planned.product, block, first, std::min(first + kPanelsPerItem, panels),
         shared + static_cast<std::size_t>(block * panels + first) * panel_bytes);
  };
  base::parallel_for(planned.plan.threads, planned.plan.depth.count * groups, pack_item);
}

Item item_at(const Plan& plan, std::int64_t index) {
  const std::int64_t row = index % plan.row_blocks;
  const std::int64_t column = index / plan.row_blocks;
  return {block_begin(row, plan.row_blocks, plan.row_panels), block_begin(row + 1, plan.row_blocks, plan.row_panels),
          block_begin(column, plan.column_blocks, plan.column_panels),
          block_begin(column + 1, plan.column_blocks, plan.column_panels)};
}

/// Prefetches what the thread will probably pack after this slab: the next columns of b where b is not shared, else the
/// next rows of a; the next item is the one that is due when all threads are equally fast.
Prefetcher prefetch_after(const PlannedProduct& planned, const Item& item, const Slab& slab, std::int64_t index) {
  const Plan& plan = planned.plan;
  const Product& product = planned.product;
  const bool last_block = slab.block + 1 == plan.depth.count;
  const bool last_slab = slab.column_end == item.column_end;
  const bool has_next = index + plan.threads < plan.row_blocks * plan.column_blocks;
  const std::int64_t tiles = (item.row_end - item.row_begin) * (slab.column_end - slab.column_begin);
  if (plan.share_b) {
    const std::int64_t item_tiles = (item.row_end - item.row_begin) * (item.column_end - item.column_begin);
    if (!last_block) {
      return prefetch_panels(product, product.a, slab.block + 1, item.row_begin, item.row_end, item_tiles);
    }
    if (has_next) {
      const Item next = item_at(plan, index + plan.threads);
      return prefetch_panels(product, product.a, 0, next.row_begin, next.row_end, item_tiles);
    }
    return {};
  }
  if (!last_slab) {
    const std::int64_t end = std::min(slab.column_end + plan.slab_panels, item.column_end);
    return prefetch_panels(product, product.b, slab.block, slab.column_end, end, tiles);
  }
  if (!last_block) {
    const std::int64_t end = std::min(item.column_begin + plan.slab_panels, item.column_end);
    return prefetch_panels(product, product.b, slab.block + 1, item.column_begin, end, tiles);
  }
  if (has_next) {
    const Item next = item_at(plan, index + plan.threads);
    const std::int64_t end = std::min(next.column_begin + plan.slab_panels, next.column_end);
    return prefetch_panels(product, product.b, 0, next.column_begin, end, tiles);
  }
  return {};
}

void multiply_item(const PlannedProduct& planned, std::int64_t index, int thread) {
  const Plan& plan = planned.plan;
  const Product& product = planned.product;
  const Item item = item_at(plan, index);
  std::byte* private_a = planned.thread_scratch + static_cast<std::size_t>(thread) * plan.thread_bytes();
  std::byte* private_b = private_a + plan.private_a_bytes;
  Slab slab{};
  slab.sums = reinterpret_cast<float*>(private_b + plan.private_b_bytes);
  Prefetcher prefetcher;
  for (slab.block = 0; slab.block < plan.depth.count; ++slab.block) {
    slab.a = private_a;
    if (plan.share_a) {
      slab.a = planned.shared_a +
               static_cast<std::size_t>(slab.block * plan.row_panels + item.row_begin) * plan.depth.a_panel_bytes;
    } else {
      pack_panels_of_a(product, slab.block, item.row_begin, item.row_end, private_a);
    }
    for (slab.column_begin = item.column_begin; slab.column_begin < item.column_end;
         slab.column_begin = slab.column_end) {
      slab.column_end = std::min(slab.column_begin + plan.slab_panels, item.column_end);
      slab.b = private_b;
      if (plan.share_b) {
        slab.b = planned.shared_b + static_cast<std::size_t>(slab.block * plan.column_panels + slab.column_begin) *
                                        plan.depth.b_panel_bytes;
      } else {
        pack_panels_of_b(product, slab.block, slab.column_begin, slab.column_end, private_b);
      }
      if (!plan.share_b || slab.column_begin == item.column_begin) {
        prefetcher = prefetch_after(planned, item, slab, index);
      }
      multiply_slab(product, item, slab, prefetcher);
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
  const PlannedProduct planned{make_product(arguments, kernel, plan.depth), plan, shared_a, shared_b,
                               shared_b + plan.shared_b_bytes};
  if (plan.share_a) {
    pack_shared(planned, pack_panels_of_a, plan.row_panels, plan.depth.a_panel_bytes, shared_a);
  }
  if (plan.share_b) {
    pack_shared(planned, pack_panels_of_b, plan.column_panels, plan.depth.b_panel_bytes, shared_b);
  }
  base::parallel_for(plan.threads, plan.row_blocks * plan.column_blocks,
                     [&](std::int64_t item, int thread) { multiply_item(planned, item, thread); });
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
