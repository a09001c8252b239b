// Gram matrices on the packing and the micro-kernels of MatMul: tiles on and below the diagonal are computed, the rest
// is copied. An element and its mirror image are the same sum, term by term, so that this changes no bit.
#include "devices/cpu/muon_gram.h"

#include <algorithm>
#include <cstring>

#include <emmintrin.h>

#include "base/error.h"
#include "base/threads.h"
#include "devices/cpu/matmul_product.h"
#include "kernels/muon.h"

namespace flyover::devices::cpu {
namespace matmul {
namespace {

// Sizes for cores with 1 MB of L2 (see matmul_plan.cpp).
constexpr std::int64_t kItemRows = 768;
constexpr std::int64_t kItemColumns = 576;
constexpr std::int64_t kSmallestItemRows = 96;
constexpr std::int64_t kItemsPerThread = 4;
constexpr std::size_t kSlabBytes = 512u << 10;
constexpr std::int64_t kBandPanels =
    2;  // rows of tiles that end at the same column: less is cut off above the diagonal
constexpr std::int64_t kSerialOperations = 200'000;  // below, starting threads costs more than it gives
constexpr std::int64_t kMirrorRows = 64;

constexpr std::int64_t divide_up(std::int64_t value, std::int64_t by) {
  return (value + by - 1) / by;
}

/// How each matrix is cut into items, row_blocks x column_blocks of which some lie above the diagonal, and the scratch
/// memory of a thread.
struct GramPlan {
  DepthBlocks depth;
  std::int64_t row_panels = 0;
  std::int64_t column_panels = 0;
  std::int64_t row_blocks = 1;
  std::int64_t column_blocks = 1;
  std::int64_t slab_panels = 1;
  std::size_t a_bytes = 0;
  std::size_t b_bytes = 0;
  std::size_t sums_bytes = 0;

  std::int64_t items() const { return row_blocks * column_blocks; }
  std::size_t thread_bytes() const { return a_bytes + b_bytes + sums_bytes; }
};

GramPlan make_plan(const kernels::GramMatrices& arguments, const MicroKernel& kernel, int threads) {
  const std::int64_t matrices = arguments.a.size(0), rows = std::max<std::int64_t>(1, arguments.a.size(1));
  GramPlan plan;
  plan.depth = cut_depth(arguments.a.size(2), kernel);
  plan.row_panels = divide_up(rows, kernel.panel_rows);
  plan.column_panels = divide_up(rows, kernel.panel_columns);
  plan.row_blocks = divide_up(plan.row_panels, kItemRows / kernel.panel_rows);
  plan.column_blocks = divide_up(plan.column_panels, kItemColumns / kernel.panel_columns);
  const std::int64_t wanted = threads == 1 ? 1 : threads * kItemsPerThread;
  while (matrices * plan.items() < wanted && rows / (2 * plan.row_blocks) >= kSmallestItemRows) {
    plan.row_blocks = std::min(2 * plan.row_blocks, plan.row_panels);
  }
  const std::int64_t item_rows = divide_up(plan.row_panels, plan.row_blocks);
  const std::int64_t item_columns = divide_up(plan.column_panels, plan.column_blocks);
  plan.slab_panels =
      std::clamp<std::int64_t>(static_cast<std::int64_t>(kSlabBytes / plan.depth.b_panel_bytes), 1, item_columns);
  plan.a_bytes = static_cast<std::size_t>(item_rows) * plan.depth.a_panel_bytes;
  plan.b_bytes = static_cast<std::size_t>(plan.slab_panels) * plan.depth.b_panel_bytes;
  if (plan.depth.count > 1) {
    plan.sums_bytes = static_cast<std::size_t>(item_rows * item_columns) * 4 *
                      static_cast<std::size_t>(kernel.panel_rows * kernel.panel_columns);
  }
  return plan;
}

/// The product of matrix `index` with itself.
kernels::MatMul product_of(const kernels::GramMatrices& arguments, std::int64_t index) {
  const kernels::ConstView& a = arguments.a;
  const kernels::View& c = arguments.c;
  const auto size = static_cast<std::int64_t>(kernels::size_of(a.dtype));
  const kernels::ConstView matrix{static_cast<const std::byte*>(a.data) + index * a.stride(0) * size,
                                  a.dtype,
                                  {a.size(1), a.size(2)},
                                  {a.stride(1), a.stride(2)}};
  const kernels::View result{static_cast<std::byte*>(c.data) + index * c.stride(0) * size,
                             c.dtype,
                             {c.size(1), c.size(2)},
                             {c.stride(1), c.stride(2)}};
  return {matrix, matrix, result, false};
}

/// The item's tiles on and below the diagonal, and those above it that share a band with the diagonal.
void multiply_item(const Product& product, const Item& item, const GramPlan& plan, std::byte* memory) {
  const MicroKernel& kernel = product.kernel;
  const std::int64_t tile_sums = static_cast<std::int64_t>(kernel.panel_rows) * kernel.panel_columns;
  std::byte* const panels_of_a = memory;
  std::byte* const panels_of_b = memory + plan.a_bytes;
  auto* const sums = reinterpret_cast<float*>(panels_of_b + plan.b_bytes);
  const auto columns_of = [&](std::int64_t last_row_panel) {
    return std::min(item.column_end, divide_up(last_row_panel * kernel.panel_rows, kernel.panel_columns));
  };
  Prefetcher none;
  for (std::int64_t block = 0; block < plan.depth.count; ++block) {
    pack_panels_of_a(product, block, item.row_begin, item.row_end, panels_of_a);
    for (std::int64_t column = item.column_begin; column < columns_of(item.row_end); column += plan.slab_panels) {
      const std::int64_t column_end = std::min(column + plan.slab_panels, columns_of(item.row_end));
      pack_panels_of_b(product, block, column, column_end, panels_of_b);
      for (std::int64_t row = item.row_begin; row < item.row_end; row += kBandPanels) {
        const std::int64_t row_end = std::min(row + kBandPanels, item.row_end);
        const Item band{row, row_end, item.column_begin, item.column_end};
        const std::int64_t first_tile = (row - item.row_begin) * (item.column_end - item.column_begin);
        Slab slab{};
        slab.column_begin = column;
        slab.column_end = std::min(column_end, columns_of(row_end));
        slab.block = block;
        slab.a = panels_of_a + static_cast<std::size_t>(row - item.row_begin) * plan.depth.a_panel_bytes;
        slab.b = panels_of_b;
        slab.sums = sums + first_tile * tile_sums;
        multiply_slab(product, band, slab, none);
      }
    }
  }
}

/// A square of 16 bytes each way, transposed.
void transpose_square(const std::uint16_t* from, std::uint16_t* to, std::int64_t stride) {
  __m128i rows[8], pairs[8], fours[8];
  for (int i = 0; i < 8; ++i) {
    rows[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i * stride));
  }
  for (int i = 0; i < 4; ++i) {
    pairs[2 * i] = _mm_unpacklo_epi16(rows[i], rows[i + 4]);
    pairs[2 * i + 1] = _mm_unpackhi_epi16(rows[i], rows[i + 4]);
  }
  for (int i = 0; i < 4; ++i) {
    fours[2 * i] = _mm_unpacklo_epi16(pairs[i], pairs[i + 4]);
    fours[2 * i + 1] = _mm_unpackhi_epi16(pairs[i], pairs[i + 4]);
  }
  for (int i = 0; i < 4; ++i) {
    auto* const line = reinterpret_cast<__m128i*>(to + 2 * i * stride);
    auto* const next = reinterpret_cast<__m128i*>(to + (2 * i + 1) * stride);
    _mm_storeu_si128(line, _mm_unpacklo_epi16(fours[i], fours[i + 4]));
    _mm_storeu_si128(next, _mm_unpackhi_epi16(fours[i], fours[i + 4]));
  }
}
void transpose_square(const float* from, float* to, std::int64_t stride) {
  __m128 rows[4] = {_mm_loadu_ps(from), _mm_loadu_ps(from + stride), _mm_loadu_ps(from + 2 * stride),
                    _mm_loadu_ps(from + 3 * stride)};
  _MM_TRANSPOSE4_PS(rows[0], rows[1], rows[2], rows[3]);
  for (int i = 0; i < 4; ++i) {
    _mm_storeu_ps(to + i * stride, rows[i]);
  }
}

/// Copies what lies below the diagonal in columns [first, last) to above it: rows [first, last).
template <typename T>
void mirror(T* matrix, std::int64_t rows, std::int64_t stride, std::int64_t first, std::int64_t last) {
  constexpr auto kSquare = static_cast<std::int64_t>(16 / sizeof(T));
  for (std::int64_t block = first; block < rows; block += kMirrorRows) {
    const std::int64_t block_end = std::min(block + kMirrorRows, rows);
    for (std::int64_t i = first; i < last; i += kSquare) {
      for (std::int64_t j = block; j < block_end; j += kSquare) {
        if (j >= i + kSquare && i + kSquare <= last && j + kSquare <= block_end) {
          transpose_square(matrix + j * stride + i, matrix + i * stride + j, stride);
          continue;
        }
        for (std::int64_t row = i; row < std::min(i + kSquare, last); ++row) {
          for (std::int64_t column = std::max(j, row + 1); column < std::min(j + kSquare, block_end); ++column) {
            matrix[row * stride + column] = matrix[column * stride + row];
          }
        }
      }
    }
  }
}

/// Rows [first, last) of matrix `index`.
void mirror_rows(const kernels::View& c, std::int64_t index, std::int64_t first, std::int64_t last) {
  const std::int64_t offset = index * c.stride(0);
  for (std::int64_t row = first; row < last; row += kMirrorRows) {
    const std::int64_t end = std::min(row + kMirrorRows, last);
    if (c.dtype == kernels::DType::kBf16) {
      mirror(static_cast<std::uint16_t*>(c.data) + offset, c.size(1), c.stride(1), row, end);
    } else {
      mirror(static_cast<float*>(c.data) + offset, c.size(1), c.stride(1), row, end);
    }
  }
}

void run(const kernels::GramMatrices& arguments, const MicroKernel& kernel, const LaunchContext& context) {
  if (arguments.c.elements() == 0) {
    return;
  }
  const GramPlan plan = make_plan(arguments, kernel, context.threads);
  const std::size_t needed = static_cast<std::size_t>(context.threads) * plan.thread_bytes();
  base::check(context.workspace_bytes >= needed, "gram_matrices: {} bytes of workspace, needs {}",
              context.workspace_bytes, needed);
  const int threads = arguments.cost().flops < kSerialOperations ? 1 : context.threads;
  const std::int64_t items = plan.items();
  base::parallel_for(threads, arguments.a.size(0) * items, [&](std::int64_t index, int thread) {
    const kernels::MatMul matmul = product_of(arguments, index / items);
    const Product product = make_product(matmul, kernel, plan.depth);
    // The last rows have most to do: they come first.
    const std::int64_t row = plan.row_blocks - 1 - index % plan.row_blocks;
    const std::int64_t column = index % items / plan.row_blocks;
    const Item item{block_begin(row, plan.row_blocks, plan.row_panels),
                    block_begin(row + 1, plan.row_blocks, plan.row_panels),
                    block_begin(column, plan.column_blocks, plan.column_panels),
                    block_begin(column + 1, plan.column_blocks, plan.column_panels)};
    multiply_item(product, item, plan, context.workspace + static_cast<std::size_t>(thread) * plan.thread_bytes());
    if (items == 1) {
      mirror_rows(arguments.c, index, 0, arguments.c.size(1));
    }
  });
  if (items > 1) {
    const std::int64_t rows = arguments.c.size(1), blocks = divide_up(rows, kMirrorRows);
    base::parallel_for(threads, arguments.c.size(0) * blocks, [&](std::int64_t index) {
      const std::int64_t first = index % blocks * kMirrorRows;
      mirror_rows(arguments.c, index / blocks, first, std::min(first + kMirrorRows, rows));
    });
  }
}

template <InstructionSet kSet>
void set_kernel(KernelTable& table) {
  table.set<kernels::GramMatrices>(
      [](const kernels::GramMatrices& arguments, const LaunchContext& context) {
        run(arguments, micro_kernel(kSet, arguments.a.dtype), context);
      },
      [](const kernels::GramMatrices& arguments, int threads) {
        return static_cast<std::size_t>(threads) *
               make_plan(arguments, micro_kernel(kSet, arguments.a.dtype), threads).thread_bytes();
      });
}

}  // namespace
}  // namespace matmul

void add_gram_kernel(KernelTable& table, InstructionSet set) {
  switch (set) {
    case InstructionSet::kAvx2:
      return matmul::set_kernel<InstructionSet::kAvx2>(table);
    case InstructionSet::kAvx512:
      return matmul::set_kernel<InstructionSet::kAvx512>(table);
    case InstructionSet::kAvx512Bf16:
      return matmul::set_kernel<InstructionSet::kAvx512Bf16>(table);
  }
}

}  // namespace flyover::devices::cpu
