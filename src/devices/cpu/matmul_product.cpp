#include "devices/cpu/matmul_product.h"

#include <algorithm>

namespace flyover::devices::cpu::matmul {
namespace {

Operand make_operand(const kernels::ConstView& view, const Lines& lines, const MicroKernel& kernel, int panel_rows,
                     std::size_t panel_bytes) {
  const bool in_order = lines.numbers == nullptr;
  const bool depth_is_dense = in_order ? view.stride(1) == 1 || view.size(1) <= 1 : lines.are_rows;
  return {{view.data, depth_is_dense ? view.stride(0) : view.stride(1), view.size(0), view.size(1), depth_is_dense,
           lines.numbers},
          depth_is_dense ? kernel.pack_dense_depth : kernel.pack_dense_rows,
          panel_rows,
          panel_bytes};
}

/// Rows of a panel that exist.
int rows_in_panel(const Operand& operand, std::int64_t panel) {
  return static_cast<int>(std::min<std::int64_t>(operand.panel_rows, operand.source.rows - panel * operand.panel_rows));
}

void pack_panels(const Product& product, const Operand& operand, bool full_width, std::int64_t block,
                 std::int64_t first, std::int64_t last, std::byte* panels) {
  const std::int64_t begin = block * product.depth.block_steps;
  const std::int64_t end = std::min(begin + product.depth.block_steps, product.depth.steps);
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

}  // namespace

Product make_product(const kernels::MatMul& arguments, const MicroKernel& kernel, const DepthBlocks& depth,
                     const Lines& a_lines, const Lines& b_lines) {
  return {arguments, kernel, depth, make_operand(arguments.a, a_lines, kernel, kernel.panel_rows, depth.a_panel_bytes),
          make_operand(arguments.b, b_lines, kernel, kernel.panel_columns, depth.b_panel_bytes)};
}

void pack_panels_of_a(const Product& product, std::int64_t block, std::int64_t first, std::int64_t last,
                      std::byte* panels) {
  pack_panels(product, product.a, false, block, first, last, panels);
}

void pack_panels_of_b(const Product& product, std::int64_t block, std::int64_t first, std::int64_t last,
                      std::byte* panels) {
  pack_panels(product, product.b, true, block, first, last, panels);
}

Prefetcher prefetch_panels(const Product& product, const Operand& operand, std::int64_t block, std::int64_t first,
                           std::int64_t last, std::int64_t calls) {
  const auto width = static_cast<std::int64_t>(kernels::size_of(product.arguments.a.dtype));
  const std::int64_t row = first * operand.panel_rows;
  const std::int64_t rows = std::min(last * operand.panel_rows, operand.source.rows) - row;
  const std::int64_t block_depth = product.depth.block_steps * product.kernel.depth_per_step;
  const std::int64_t depth = block * block_depth;
  const std::int64_t depths = std::min(block_depth, operand.source.depth - depth);
  const Source& source = operand.source;
  const std::int64_t first_line = source.depth_is_dense ? row : depth, within = source.depth_is_dense ? depth : row;
  return {static_cast<const std::byte*>(source.data) + within * width,
          source.stride * width,
          source.lines,
          first_line,
          source.depth_is_dense ? rows : depths,
          (source.depth_is_dense ? depths : rows) * width,
          calls};
}

void multiply_slab(const Product& product, const Item& item, const Slab& slab, Prefetcher& prefetcher) {
  const DepthBlocks& depth = product.depth;
  const MicroKernel& kernel = product.kernel;
  const kernels::View& c = product.arguments.c;
  const std::size_t c_bytes = kernels::size_of(c.dtype);
  const std::int64_t begin = slab.block * depth.block_steps;
  Tile tile{};
  tile.steps = std::min(depth.block_steps, depth.steps - begin);
  tile.first = slab.block == 0;
  tile.last = slab.block + 1 == depth.count;
  tile.c_stride = c.stride(0);
  tile.c_is_bf16 = c.dtype == kernels::DType::kBf16;
  tile.accumulate = product.arguments.accumulate;
  for (std::int64_t row = item.row_begin; row < item.row_end; ++row) {
    const Multiply multiply = kernel.multiply[rows_in_panel(product.a, row)];
    tile.a = reinterpret_cast<const std::uint32_t*>(slab.a + static_cast<std::size_t>(row - item.row_begin) *
                                                                 depth.a_panel_bytes);
    for (std::int64_t column = slab.column_begin; column < slab.column_end; ++column) {
      const std::byte* b = slab.b + static_cast<std::size_t>(column - slab.column_begin) * depth.b_panel_bytes;
      const std::int64_t tile_index =
          (row - item.row_begin) * (item.column_end - item.column_begin) + (column - item.column_begin);
      tile.b = reinterpret_cast<const std::uint32_t*>(b);
      // The first row of tiles brings the panels of b into the L2 cache, the last tile of a row the next panel of a.
      const bool last_column = column + 1 == slab.column_end;
      const bool first_row = row == item.row_begin;
      tile.prefetch = last_column ? reinterpret_cast<const std::byte*>(tile.a) + depth.a_panel_bytes
                                  : b + (first_row ? depth.b_panel_bytes : 0);
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

}  // namespace flyover::devices::cpu::matmul
