#include "kernels/heads.h"

#include <algorithm>

#include "devices/cpu/families.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/heads.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

/// The elements of head `head` of token `t`.
template <typename T, typename ViewType>
HWY_INLINE T* head_of(const ViewType& view, std::int64_t t, std::int64_t head) {
  return static_cast<T*>(view.data) + t * view.stride(0) + head * view.stride(1);
}

void join_heads(const kernels::JoinHeads& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.y.dtype, [&]<typename T>(T) HWY_ATTR {
    const std::int64_t heads = kernel.y.size(1), own_width = kernel.own.size(2);
    const auto shared = rows_of<const T>(kernel.shared);
    for_each_row(context.threads, kernel.y.size(0), heads * kernel.y.size(2), [&](std::int64_t t) HWY_ATTR {
      for (std::int64_t head = 0; head < heads; ++head) {
        T* const y = head_of<T>(kernel.y, t, head);
        std::copy_n(head_of<const T>(kernel.own, t, head), own_width, y);
        std::copy_n(shared[t], shared.width, y + own_width);
      }
    });
  });
}

void join_heads_backward(const kernels::JoinHeadsBackward& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.dy.dtype, [&]<typename T>(T) HWY_ATTR {
    const std::int64_t heads = kernel.dy.size(1), own_width = kernel.down.size(2);
    const auto dshared = rows_of<T>(kernel.dshared);
    for_each_row(context.threads, kernel.dy.size(0), heads * kernel.dy.size(2), [&](std::int64_t t) HWY_ATTR {
      for (std::int64_t head = 0; head < heads; ++head) {
        std::copy_n(head_of<const T>(kernel.dy, t, head), own_width, head_of<T>(kernel.down, t, head));
      }
      for_each_vector(dshared.width, [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
        Vector sum = hn::Zero(Tag());
        for (std::int64_t head = 0; head < heads; ++head) {
          sum = hn::Add(sum, load(head_of<const T>(kernel.dy, t, head) + own_width + i, lanes));
        }
        store(sum, dshared[t] + i, lanes);
      });
    });
  });
}

void add_kernels(KernelTable& table) {
  table.set<kernels::JoinHeads>(join_heads);
  table.set<kernels::JoinHeadsBackward>(join_heads_backward);
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_heads_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table) : N_AVX3::add_kernels(table);
}

}  // namespace flyover::devices::cpu
#endif
