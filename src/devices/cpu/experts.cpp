#include "devices/cpu/experts.h"

#include "devices/cpu/families.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/experts.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

/// A sum that has not begun, of the shape of what load() gives.
HWY_INLINE Vector zero_like(Vector) {
  return hn::Zero(Tag());
}
HWY_INLINE VectorPair zero_like(VectorPair) {
  return {hn::Zero(Tag()), hn::Zero(Tag())};
}

void gather_sum(const kernels::GatherSum& kernel, const LaunchContext& context) {
  const std::int32_t* const rows = checked_rows(kernel.kName, kernel.rows, kernel.x).data();
  const std::int64_t terms = kernel.rows.size(1);
  with_element_type(kernel.kName, kernel.x.dtype, [&]<typename T>(T) HWY_ATTR {
    const auto x = rows_of<const T>(kernel.x);
    const auto y = rows_of<T>(kernel.y);
    for_each_row(context.threads, y.rows, y.width * (terms + 1), [&](std::int64_t i) HWY_ATTR {
      const std::int32_t* const of_row = rows + i * terms;
      // The hardware cannot foresee which rows come next.
      const std::int32_t* const of_next = i + 1 < y.rows ? of_row + terms : of_row;
      T* const to = y[i];
      for_each_vector_or_pair<T>(y.width, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
        const auto add = [](Vector a, Vector b) FLYOVER_VECTOR_BODY { return hn::Add(a, b); };
        using Values = decltype(load(to + j, lanes));
        Values sum = zero_like(Values{});
        for (std::int64_t term = 0; term < terms; ++term) {
          fetch(x[of_next[term]] + j, 0);
          sum = apply(add, sum, load(x[of_row[term]] + j, lanes));
        }
        store(kernel.accumulate ? apply(add, load(to + j, lanes), sum) : sum, to + j, lanes);
      });
    });
  });
}

void add_kernels(KernelTable& table) {
  table.set<kernels::GatherSum>(gather_sum);
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_experts_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table) : N_AVX3::add_kernels(table);
  add_expert_sort_kernel(table);
  add_grouped_matmul_kernels(table, set);
}

}  // namespace flyover::devices::cpu
#endif
