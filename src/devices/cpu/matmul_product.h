// A product of panels while it runs: its operands, their packing, and the slabs of tiles that micro-kernels compute.
// How the product is cut into items is decided elsewhere (matmul.cpp, experts_matmul.cpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "devices/cpu/matmul_microkernel.h"
#include "devices/cpu/matmul_plan.h"
#include "devices/cpu/matmul_prefetch.h"
#include "kernels/matmul.h"

namespace flyover::devices::cpu::matmul {

/// One of the operands, and how its panels are packed.
struct Operand {
  Source source;
  Pack pack;
  int panel_rows;
  std::size_t panel_bytes;
};

struct Product {
  kernels::MatMul arguments;
  const MicroKernel& kernel;
  DepthBlocks depth;
  Operand a;
  Operand b;
};

/// Which rows or depth indices of memory are those of an operand; null = they are in order.
struct Lines {
  const std::int32_t* numbers = nullptr;
  bool are_rows = false;  ///< rather than depth indices
};

/// Where lines are given, the operand's view has the shape of the product and begins with line 0 of memory.
Product make_product(const kernels::MatMul& arguments, const MicroKernel& kernel, const DepthBlocks& depth,
                     const Lines& a_lines = {}, const Lines& b_lines = {});

/// Packs panels [first, last) of block `block` of the depth, one after the other from `panels` on. The last panel of a
/// is as wide as it has rows; those of b all have the full width.
void pack_panels_of_a(const Product& product, std::int64_t block, std::int64_t first, std::int64_t last,
                      std::byte* panels);
void pack_panels_of_b(const Product& product, std::int64_t block, std::int64_t first, std::int64_t last,
                      std::byte* panels);

/// Prefetches what packing panels [first, last) of `block` of an operand of the product will read, in `calls` calls.
Prefetcher prefetch_panels(const Product& product, const Operand& operand, std::int64_t block, std::int64_t first,
                           std::int64_t last, std::int64_t calls);

/// Panels that one thread multiplies: [row_begin, row_end) x [column_begin, column_end).
struct Item {
  std::int64_t row_begin, row_end, column_begin, column_end;
};

/// The panels of a and b that are multiplied with each other, within an item.
struct Slab {
  std::int64_t column_begin, column_end;  ///< panels
  std::int64_t block;                     ///< of the depth
  const std::byte* a;                     ///< panel item.row_begin
  const std::byte* b;                     ///< panel column_begin
  float* sums;                            ///< of the first tile of the item, where the depth has several blocks
};

/// All rows of the item times the columns of the slab: rows of tiles, each along all the columns.
void multiply_slab(const Product& product, const Item& item, const Slab& slab, Prefetcher& prefetcher);

}  // namespace flyover::devices::cpu::matmul
