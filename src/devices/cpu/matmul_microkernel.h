// What the MatMul driver needs from an instruction set: packing of operands into panels, and the product of two panels.
// The code behind it lives in matmul_avx2.cpp, matmul_avx512.cpp and matmul_avx512_bf16.cpp.
//
// A panel holds `width` rows of an operand, `steps` long, as [step][row] of 32-bit words. A word is one f32, or two
// neighbouring bf16 along the depth where the product is vdpbf16ps. Rows of b are the columns of c.
#pragma once

#include <cstdint>

#include "devices/cpu/instruction_set.h"
#include "kernels/view.h"

namespace flyover::devices::cpu::matmul {

/// Most rows of `a` in a panel, over all instruction sets.
inline constexpr int kMaximumPanelRows = 12;

/// An operand as packing reads it: lines of neighbouring elements that lie `stride` apart. A line is a row of the
/// operand with `depth_is_dense`, otherwise a depth index.
struct Source {
  const void* data;
  std::int64_t stride;  ///< in elements
  std::int64_t rows;
  std::int64_t depth;
  bool depth_is_dense;
  const std::int32_t* lines = nullptr;  ///< which line of memory stands for each; null = they are in order

  /// Where line `index` begins, counted in elements from `data`.
  std::int64_t line(std::int64_t index) const { return (lines == nullptr ? index : lines[index]) * stride; }
};

/// Steps that are packed for all panels before going on where neighbours in memory belong to different panels: rows of
/// the source stay in the L1 cache and the TLB.
inline constexpr std::int64_t kPackSteps = 32;

/// The part of an operand that one call packs: rows [row, row + count), steps [step, step + steps).
struct PanelRegion {
  std::int64_t row;
  int count;
  int width;  ///< rows of the panel, >= count; the words of the rows beyond `count` are arbitrary
  std::int64_t step;
  std::int64_t steps;
};

/// Packs a region; `panel` is where the region's first step goes. May write up to 60 bytes behind the region.
using Pack = void (*)(const Source& source, const PanelRegion& region, std::uint32_t* panel);

/// The product of two panels, and what happens to it.
struct Tile {
  const std::uint32_t* a;  ///< [steps][rows]
  const std::uint32_t* b;  ///< [steps][panel_columns]
  std::int64_t steps;
  float* sums;  ///< [rows][panel_columns]: where sums wait between two blocks of the depth; null with one block
  bool first;   ///< sums start at zero rather than at `sums`
  bool last;    ///< sums are finished: they go to c rather than to `sums`
  void* c;
  std::int64_t c_stride;  ///< in elements
  int columns;            ///< columns of c that exist, 1 .. panel_columns
  bool c_is_bf16;
  bool accumulate;
  const std::byte* prefetch;   ///< a panel that is needed next
  std::int64_t prefetch_step;  ///< bytes of it to ask for in each step, at most 128
};

using Multiply = void (*)(const Tile& tile);

/// The code of one instruction set for one input type.
struct MicroKernel {
  int panel_rows;
  int panel_columns;
  int depth_per_step;                        ///< 1, or 2 for pairs of bf16
  Pack pack_dense_depth;                     ///< for sources with depth_is_dense
  Pack pack_dense_rows;                      ///< for the others
  Multiply multiply[kMaximumPanelRows + 1];  ///< by the number of rows, 1 .. panel_rows
};

/// dtype: f32 or bf16.
const MicroKernel& micro_kernel(InstructionSet set, kernels::DType dtype);

extern const MicroKernel kAvx2F32;
extern const MicroKernel kAvx2Bf16;
extern const MicroKernel kAvx512F32;
extern const MicroKernel kAvx512Bf16;       ///< widens bf16 to f32 while packing
extern const MicroKernel kAvx512Bf16Pairs;  ///< vdpbf16ps

}  // namespace flyover::devices::cpu::matmul
