#include <span>

#include "devices/cpu/compressor_slots.h"
#include "devices/cpu/families.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/compressor.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/compressor_pool.h"
#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

constexpr std::int64_t kEntriesPerSum = 128;
/// Vectors of columns that the position gradient sums at once.
constexpr int kVectors = 4;

/// Calls body(entry, scratch) for every entry, with Pools::floats(width) of scratch.
template <typename Body>
void for_each_entry(const LaunchContext& context, std::byte* scratch, const Slots& slots, std::int64_t width,
                    const Body& body) {
  const std::int64_t per_item = rows_per_block(2 * slots.count * width);
  base::parallel_for(context.threads, blocks_of(slots.entries, per_item), [&](std::int64_t item, int thread) HWY_ATTR {
    float* const floats = reinterpret_cast<float*>(scratch) + thread * Pools::floats(width);
    const std::int64_t end = std::min(slots.entries, (item + 1) * per_item);
    for (std::int64_t entry = item * per_item; entry < end; ++entry) {
      body(entry, floats);
    }
  });
}

template <typename Kernel>
Slots slots_of(const Kernel& kernel) {
  check_is_f32(kernel.kName, kernel.values);
  return compressor::checked_slots(kernel.kName, kernel.rows, kernel.position_bias, kernel.values.size(0));
}

void compress_forward(const kernels::CompressForward& kernel, const LaunchContext& context) {
  const Slots slots = slots_of(kernel);
  const Tensors tensors{rows_of<const float>(kernel.values),
                        rows_of<const float>(kernel.gates),
                        rows_of<const float>(kernel.position_bias),
                        {},
                        {},
                        kernel.y.size(1)};
  with_element_type(kernel.kName, kernel.y.dtype, [&]<typename T>(T) {
    const auto y = rows_of<T>(kernel.y);
    for_each_entry(context, context.workspace, slots, y.width, [&](std::int64_t entry, float* scratch) HWY_ATTR {
      const Pools pools(scratch, y.width);
      pool_entry(tensors, slots, entry, pools);
      T* const to = y[entry];
      for_each_vector(y.width, [&](std::int64_t channel, auto lanes) FLYOVER_VECTOR_BODY {
        const Pool pool = pools.get(channel);
        store(hn::Div(pool.weighted, pool.sum), to + channel, lanes);
      });
    });
  });
}

/// 0 for the tokens and roles without a slot.
void clear_unused(const kernels::CompressBackward& kernel, std::span<const std::uint8_t> used, std::int64_t roles,
                  const LaunchContext& context) {
  const auto dvalues = rows_of<float>(kernel.dvalues), dgates = rows_of<float>(kernel.dgates);
  const std::int64_t width = dvalues.width / roles;
  for_each_row(context.threads, dvalues.rows, dvalues.width, [&](std::int64_t t) {
    for (std::int64_t role = 0; role < roles; ++role) {
      if (used[static_cast<std::size_t>(t * roles + role)] == 0) {
        std::fill_n(dvalues[t] + role * width, width, 0.0f);
        std::fill_n(dgates[t] + role * width, width, 0.0f);
      }
    }
  });
}

/// The gradients of some slots at one vector of channels.
template <int kCount, typename Lanes>
HWY_INLINE void slot_gradients(const Slot (&slots)[kSlotsAtOnce], int given, std::int64_t channel, Lanes lanes,
                               const Powers& powers, const Pool& pool, Vector dy) {
  const int count = kCount > 0 ? kCount : given;
  const Vector scale = hn::Div(dy, pool.sum), pooled = hn::Div(pool.weighted, pool.sum);
#pragma GCC unroll 8
  for (int s = 0; s < count; ++s) {
    const Vector dvalue = hn::Mul(powers.of[s], scale);
    const Vector difference = hn::Sub(load(slots[s].value + channel, lanes), pooled);
    store(dvalue, slots[s].dvalue + channel, lanes);
    store(hn::Mul(dvalue, difference), slots[s].dgate + channel, lanes);
  }
}

/// The gradients of an entry, from the pools of all of its slots.
template <typename T>
HWY_INLINE void entry_gradients(const Tensors& tensors, const Slots& all, std::int64_t entry, const Pools& pools,
                                const T* dy) {
  SlotReader reader(tensors, all, entry);
  Slot slots[kSlotsAtOnce];
  for (int count = reader.read(slots); count > 0; count = reader.read(slots)) {
    with_count(count, [&]<int kCount>(std::integral_constant<int, kCount>) FLYOVER_VECTOR_BODY {
      for_each_vector(tensors.width, [&](std::int64_t channel, auto lanes) FLYOVER_VECTOR_BODY {
        const Pool pool = pools.get(channel);
        // No gate is above the largest of all: the powers are relative to it.
        const Powers powers = powers_of<kCount>(slots, count, channel, lanes, pool.largest);
        slot_gradients<kCount>(slots, count, channel, lanes, powers, pool, load(dy + channel, lanes));
      });
    });
  }
}

/// The gradients of an entry of kSlotsAtOnce slots: no need to compute the powers a second time.
template <typename T>
HWY_INLINE void small_entry_gradients(const Tensors& tensors, const Slots& all, std::int64_t entry, const T* dy) {
  SlotReader reader(tensors, all, entry);
  Slot slots[kSlotsAtOnce];
  const int count = reader.read(slots);
  with_count(count, [&]<int kCount>(std::integral_constant<int, kCount>) FLYOVER_VECTOR_BODY {
    for_each_vector(tensors.width, [&](std::int64_t channel, auto lanes) FLYOVER_VECTOR_BODY {
      const Powers powers = powers_of<kCount>(slots, count, channel, lanes, lowest());
      Pool pool{powers.largest, hn::Zero(Tag()), hn::Zero(Tag())};
      add_slots<kCount>(slots, count, channel, lanes, powers, pool);
      slot_gradients<kCount>(slots, count, channel, lanes, powers, pool, load(dy + channel, lanes));
    });
  });
}

/// Bytes for used_tokens, whole cache lines.
std::size_t used_bytes(const kernels::CompressBackward& kernel) {
  const std::int64_t roles = kernel.rows.size(1) / kernel.position_bias.size(0);
  return static_cast<std::size_t>(blocks_of(kernel.values.size(0) * roles, 64) * 64);
}

void compress_backward(const kernels::CompressBackward& kernel, const LaunchContext& context) {
  const Slots slots = slots_of(kernel);
  const Tensors tensors{rows_of<const float>(kernel.values),
                        rows_of<const float>(kernel.gates),
                        rows_of<const float>(kernel.position_bias),
                        rows_of<float>(kernel.dvalues),
                        rows_of<float>(kernel.dgates),
                        kernel.dy.size(1)};
  const std::span used(reinterpret_cast<std::uint8_t*>(context.workspace), used_bytes(kernel));
  clear_unused(kernel, compressor::used_tokens(kernel.kName, slots, used), slots.roles(), context);
  with_element_type(kernel.kName, kernel.dy.dtype, [&]<typename T>(T) {
    const auto dy = rows_of<const T>(kernel.dy);
    for_each_entry(context, context.workspace + used.size(), slots, dy.width,
                   [&](std::int64_t entry, float* scratch) HWY_ATTR {
                     if (slots.count <= kSlotsAtOnce) {
                       small_entry_gradients(tensors, slots, entry, dy[entry]);
                     } else {
                       const Pools pools(scratch, dy.width);
                       pool_entry(tensors, slots, entry, pools);
                       entry_gradients(tensors, slots, entry, pools, dy[entry]);
                     }
                   });
  });
}

/// Calls body(v, column, lanes) for each vector of columns from `begin`, at most kVectors of them.
template <typename Body>
HWY_INLINE void for_each_column(std::int64_t begin, std::int64_t end, const Body& body) {
  int v = 0;
  for_each_vector(std::min(kVectors * kLanes, end - begin),
                  [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY { body(v++, begin + i, lanes); });
}

/// The sum over the entries [begin, end) at one window position and the columns of one group, added to `totals`.
HWY_INLINE void add_positions(const RowAccess<const float>& dgates, const Slots& slots, std::int64_t slot,
                              std::int64_t begin, std::int64_t end, std::int64_t column, std::int64_t last_column,
                              Vector (&totals)[kVectors]) {
  Vector sums[kVectors] = {hn::Zero(Tag()), hn::Zero(Tag()), hn::Zero(Tag()), hn::Zero(Tag())};
  for (std::int64_t e = begin; e < end; ++e) {
    if (const std::int64_t row = slots.entry(e)[slot]; row >= 0) {
      for_each_column(column, last_column, [&](int v, std::int64_t c, auto lanes) FLYOVER_VECTOR_BODY {
        sums[v] = hn::Add(sums[v], load(dgates[row] + c, lanes));
      });
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    totals[v] = hn::Add(totals[v], sums[v]);
  }
}

void compress_position_gradient(const kernels::CompressPositionGradient& kernel, const LaunchContext& context) {
  check_is_f32(kernel.kName, kernel.dgates);
  const Slots slots =
      compressor::checked_slots(kernel.kName, kernel.rows, kernel.dposition_bias, kernel.dgates.size(0));
  const auto dgates = rows_of<const float>(kernel.dgates);
  const auto dposition_bias = rows_of<float>(kernel.dposition_bias);
  const std::int64_t width = dgates.width / slots.roles(), groups = blocks_of(width, kVectors * kLanes);
  base::parallel_for(context.threads, slots.count * groups, [&](std::int64_t item) HWY_ATTR {
    const std::int64_t slot = item / groups, role = slot / slots.window;
    const std::int64_t column = role * width + item % groups * (kVectors * kLanes), last_column = (role + 1) * width;
    Vector totals[kVectors] = {hn::Zero(Tag()), hn::Zero(Tag()), hn::Zero(Tag()), hn::Zero(Tag())};
    for (std::int64_t e = 0; e < slots.entries; e += kEntriesPerSum) {
      add_positions(dgates, slots, slot, e, std::min(slots.entries, e + kEntriesPerSum), column, last_column, totals);
    }
    float* const to = dposition_bias[slot % slots.window];
    for_each_column(column, last_column, [&](int v, std::int64_t c, auto lanes) FLYOVER_VECTOR_BODY {
      store(hn::Add(load(to + c, lanes), totals[v]), to + c, lanes);
    });
  });
}

std::size_t pools_bytes(std::int64_t width, int threads) {
  return static_cast<std::size_t>(threads * Pools::floats(width)) * sizeof(float);
}

void add_kernels(KernelTable& table) {
  table.set<kernels::CompressForward>(compress_forward, [](const kernels::CompressForward& kernel, int threads) {
    return pools_bytes(kernel.y.size(1), threads);
  });
  table.set<kernels::CompressBackward>(compress_backward, [](const kernels::CompressBackward& kernel, int threads) {
    return used_bytes(kernel) + pools_bytes(kernel.dy.size(1), threads);
  });
  table.set<kernels::CompressPositionGradient>(compress_position_gradient);
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_compressor_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table) : N_AVX3::add_kernels(table);
}

}  // namespace flyover::devices::cpu
#endif
