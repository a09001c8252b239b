// Sums over the rows of a matrix in an order fixed by their number: blocks of rows in parallel, their sums added in
// order. Like vector_math.h compiled once for each instruction set; include after it and every general header.

#if defined(FLYOVER_DEVICES_CPU_ROW_SUMS) == defined(HWY_TARGET_TOGGLE)
#ifdef FLYOVER_DEVICES_CPU_ROW_SUMS
#undef FLYOVER_DEVICES_CPU_ROW_SUMS
#else
#define FLYOVER_DEVICES_CPU_ROW_SUMS
#endif

#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_math.h"
#include "devices/kernel_table.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

inline constexpr std::int64_t kRowsPerSum = 128;
inline constexpr std::int64_t kColumnsPerSum = 1024;

/// Scratch for the sums of all blocks: [blocks, width] f32.
inline std::size_t row_sums_workspace(std::int64_t rows, std::int64_t width) {
  return static_cast<std::size_t>(blocks_of(rows, kRowsPerSum) * width) * sizeof(float);
}

/// sum[j] += sum over the rows i of a term. add(partial, i, j, lanes) returns the vector `partial` plus the terms of
/// row i at the columns from j.
template <typename AddTerm>
void add_row_sums(std::int64_t rows, std::int64_t width, float* sum, const LaunchContext& context, const AddTerm& add) {
  float* const partial_sums = reinterpret_cast<float*>(context.workspace);
  const std::int64_t blocks = blocks_of(rows, kRowsPerSum);
  base::parallel_for(context.threads, blocks, [&](std::int64_t block) HWY_ATTR {
    float* const partial = partial_sums + block * width;
    std::fill_n(partial, width, 0.0f);
    const std::int64_t end = std::min(rows, (block + 1) * kRowsPerSum);
    for (std::int64_t row = block * kRowsPerSum; row < end; ++row) {
      for_each_vector(width, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
        store(add(load(partial + j, lanes), row, j, lanes), partial + j, lanes);
      });
    }
  });
  base::parallel_for(context.threads, blocks_of(width, kColumnsPerSum), [&](std::int64_t item) HWY_ATTR {
    const std::int64_t begin = item * kColumnsPerSum;
    for_each_vector(std::min(kColumnsPerSum, width - begin), [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
      Vector total = hn::Zero(Tag());
      for (std::int64_t block = 0; block < blocks; ++block) {
        total = hn::Add(total, load(partial_sums + block * width + begin + j, lanes));
      }
      store(hn::Add(load(sum + begin + j, lanes), total), sum + begin + j, lanes);
    });
  });
}

#endif  // HWY_TARGET

}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLYOVER_DEVICES_CPU_ROW_SUMS
