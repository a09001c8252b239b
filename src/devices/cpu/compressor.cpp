#include <span>

#include "devices/cpu/families.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/compressor.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

/// Vectors of channels that are pooled together, so that what is read of a token is a few whole cache lines.
constexpr int kVectors = 4;
/// Slots between two looks at the largest gate.
constexpr std::int64_t kSlotsPerBlock = 8;
constexpr std::int64_t kEntriesPerSum = 128;

/// The table of rows and the windows behind it.
struct Slots {
  const std::int32_t* rows;
  std::int64_t entries;
  std::int64_t count;  ///< of one entry
  std::int64_t window;

  std::int64_t roles() const { return count / window; }
  const std::int32_t* entry(std::int64_t e) const { return rows + e * count; }
};

/// Throws InternalError where a row does not exist, or an entry has none.
Slots checked_slots(std::string_view kernel, const kernels::ConstView& rows, const kernels::ConstView& position_bias,
                    std::int64_t tokens) {
  const Slots slots{static_cast<const std::int32_t*>(rows.data), rows.size(0), rows.size(1), position_bias.size(0)};
  for (std::int64_t e = 0; e < slots.entries; ++e) {
    std::int32_t largest = -1;
    for (std::int64_t s = 0; s < slots.count; ++s) {
      largest = std::max(largest, slots.entry(e)[s]);
    }
    base::check(largest < tokens, "{}: row {} in entry {} of {} tokens", kernel, largest, e, tokens);
    base::check(largest >= 0, "{}: entry {} has no row", kernel, e);
  }
  return slots;
}

/// What the slots of one entry are pooled from, at the channels of one item.
struct Channels {
  RowAccess<const float> values, gates, bias;
  Slots slots;
  std::int64_t width;  ///< channels of an entry

  std::int64_t column(std::int64_t slot, std::int64_t channel) const { return slot / slots.window * width + channel; }
  template <typename Lanes>
  HWY_INLINE Vector gate(std::int64_t row, std::int64_t slot, std::int64_t column, Lanes lanes) const {
    return hn::Add(load(gates[row] + column, lanes), load(bias[slot % slots.window] + column, lanes));
  }
};

/// A softmax over slots that are seen once, in order (Milakov and Gimelshein, "Online normalizer calculation for
/// softmax", 2018), one look at the largest gate a block of slots.
struct Pool {
  Vector largest, sum, weighted;
};

HWY_INLINE Pool empty_pool() {
  return {hn::Set(Tag(), -std::numeric_limits<float>::infinity()), hn::Zero(Tag()), hn::Zero(Tag())};
}

template <typename Lanes>
HWY_INLINE void pool_block(const Channels& from, const std::int32_t* rows, std::int64_t begin, std::int64_t end,
                           std::int64_t channel, Lanes lanes, Pool& pool) {
  Vector largest = pool.largest;
  for (std::int64_t s = begin; s < end; ++s) {
    if (rows[s] >= 0) {
      largest = hn::Max(largest, from.gate(rows[s], s, from.column(s, channel), lanes));
    }
  }
  if (begin > 0) {
    // Where no slot has been seen yet there is nothing to scale (and infinities would make a NaN of it).
    const auto seen = hn::Ne(pool.largest, hn::Set(Tag(), -std::numeric_limits<float>::infinity()));
    const Vector factor = hn::IfThenElseZero(seen, exponential(hn::Sub(pool.largest, largest)));
    pool.sum = hn::Mul(pool.sum, factor);
    pool.weighted = hn::Mul(pool.weighted, factor);
  }
  pool.largest = largest;
  for (std::int64_t s = begin; s < end; ++s) {
    if (rows[s] >= 0) {
      const std::int64_t column = from.column(s, channel);
      const Vector power = exponential(hn::Sub(from.gate(rows[s], s, column, lanes), largest));
      pool.sum = hn::Add(pool.sum, power);
      pool.weighted = hn::MulAdd(power, load(from.values[rows[s]] + column, lanes), pool.weighted);
    }
  }
}

/// Calls body(v, channel, lanes) for each vector of channels from `begin`, at most kVectors of them.
template <typename Body>
HWY_INLINE void for_each_channel(std::int64_t begin, std::int64_t width, const Body& body) {
  int v = 0;
  for_each_vector(std::min(kVectors * kLanes, width - begin),
                  [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY { body(v++, begin + i, lanes); });
}

HWY_INLINE void pool_entry(const Channels& from, std::int64_t entry, std::int64_t begin, Pool (&pools)[kVectors]) {
  for (Pool& pool : pools) {
    pool = empty_pool();
  }
  const std::int32_t* const rows = from.slots.entry(entry);
  for (std::int64_t s = 0; s < from.slots.count; s += kSlotsPerBlock) {
    const std::int64_t end = std::min(s + kSlotsPerBlock, from.slots.count);
    for_each_channel(begin, from.width, [&](int v, std::int64_t channel, auto lanes) FLYOVER_VECTOR_BODY {
      pool_block(from, rows, s, end, channel, lanes, pools[v]);
    });
  }
}

/// Calls body(entry, first_channel) for all channels of all entries, in groups of kVectors vectors.
template <typename Body>
void for_each_group(int threads, const Slots& slots, std::int64_t width, const Body& body) {
  const std::int64_t per_item = rows_per_block(2 * slots.count * width);
  base::parallel_for(threads, blocks_of(slots.entries, per_item), [&](std::int64_t item) HWY_ATTR {
    const std::int64_t end = std::min(slots.entries, (item + 1) * per_item);
    for (std::int64_t entry = item * per_item; entry < end; ++entry) {
      for (std::int64_t channel = 0; channel < width; channel += kVectors * kLanes) {
        body(entry, channel);
      }
    }
  });
}

template <typename Kernel>
Channels channels_of(const Kernel& kernel, std::int64_t width) {
  check_is_f32(kernel.kName, kernel.values);
  return {rows_of<const float>(kernel.values), rows_of<const float>(kernel.gates),
          rows_of<const float>(kernel.position_bias),
          checked_slots(kernel.kName, kernel.rows, kernel.position_bias, kernel.values.size(0)), width};
}

void compress_forward(const kernels::CompressForward& kernel, const LaunchContext& context) {
  const Channels from = channels_of(kernel, kernel.y.size(1));
  with_element_type(kernel.kName, kernel.y.dtype, [&]<typename T>(T) {
    const auto y = rows_of<T>(kernel.y);
    for_each_group(context.threads, from.slots, from.width, [&](std::int64_t entry, std::int64_t begin) HWY_ATTR {
      Pool pools[kVectors];
      pool_entry(from, entry, begin, pools);
      for_each_channel(begin, from.width, [&](int v, std::int64_t channel, auto lanes) FLYOVER_VECTOR_BODY {
        store(hn::Div(pools[v].weighted, pools[v].sum), y[entry] + channel, lanes);
      });
    });
  });
}

/// For every token and role whether it has a slot. Throws InternalError where it has two.
std::span<const std::uint8_t> used_tokens(std::string_view kernel, const Slots& slots, std::span<std::uint8_t> used) {
  std::fill(used.begin(), used.end(), std::uint8_t{0});
  for (std::int64_t e = 0; e < slots.entries; ++e) {
    for (std::int64_t s = 0; s < slots.count; ++s) {
      if (const std::int64_t row = slots.entry(e)[s]; row >= 0) {
        std::uint8_t& place = used[static_cast<std::size_t>(row * slots.roles() + s / slots.window)];
        base::check(place == 0, "{}: token {} has two slots of role {}", kernel, row, s / slots.window);
        place = 1;
      }
    }
  }
  return used;
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

void compress_backward(const kernels::CompressBackward& kernel, const LaunchContext& context) {
  const Channels from = channels_of(kernel, kernel.dy.size(1));
  const auto used = used_tokens(kernel.kName, from.slots,
                                {reinterpret_cast<std::uint8_t*>(context.workspace),
                                 static_cast<std::size_t>(kernel.values.size(0) * from.slots.roles())});
  clear_unused(kernel, used, from.slots.roles(), context);
  with_element_type(kernel.kName, kernel.dy.dtype, [&]<typename T>(T) {
    const auto dy = rows_of<const T>(kernel.dy);
    const auto dvalues = rows_of<float>(kernel.dvalues), dgates = rows_of<float>(kernel.dgates);
    for_each_group(context.threads, from.slots, from.width, [&](std::int64_t entry, std::int64_t begin) HWY_ATTR {
      Pool pools[kVectors];
      pool_entry(from, entry, begin, pools);
      Vector scale[kVectors], pooled[kVectors];
      for_each_channel(begin, from.width, [&](int v, std::int64_t channel, auto lanes) FLYOVER_VECTOR_BODY {
        pooled[v] = hn::Div(pools[v].weighted, pools[v].sum);
        scale[v] = hn::Div(load(dy[entry] + channel, lanes), pools[v].sum);
      });
      const std::int32_t* const rows = from.slots.entry(entry);
      for (std::int64_t s = 0; s < from.slots.count; ++s) {
        const std::int64_t row = rows[s];
        if (row < 0) {
          continue;
        }
        for_each_channel(begin, from.width, [&](int v, std::int64_t channel, auto lanes) FLYOVER_VECTOR_BODY {
          const std::int64_t column = from.column(s, channel);
          const Vector power = exponential(hn::Sub(from.gate(row, s, column, lanes), pools[v].largest));
          const Vector dvalue = hn::Mul(power, scale[v]);
          const Vector difference = hn::Sub(load(from.values[row] + column, lanes), pooled[v]);
          store(dvalue, dvalues[row] + column, lanes);
          store(hn::Mul(dvalue, difference), dgates[row] + column, lanes);
        });
      }
    });
  });
}

/// The sum over the entries [begin, end) at one window position and the columns of one group, added to `totals`.
HWY_INLINE void add_positions(const RowAccess<const float>& dgates, const Slots& slots, std::int64_t slot,
                              std::int64_t begin, std::int64_t end, std::int64_t column, std::int64_t last_column,
                              Vector (&totals)[kVectors]) {
  Vector sums[kVectors] = {hn::Zero(Tag()), hn::Zero(Tag()), hn::Zero(Tag()), hn::Zero(Tag())};
  for (std::int64_t e = begin; e < end; ++e) {
    if (const std::int64_t row = slots.entry(e)[slot]; row >= 0) {
      for_each_channel(column, last_column, [&](int v, std::int64_t c, auto lanes) FLYOVER_VECTOR_BODY {
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
  const Slots slots = checked_slots(kernel.kName, kernel.rows, kernel.dposition_bias, kernel.dgates.size(0));
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
    for_each_channel(column, last_column, [&](int v, std::int64_t c, auto lanes) FLYOVER_VECTOR_BODY {
      store(hn::Add(load(to + c, lanes), totals[v]), to + c, lanes);
    });
  });
}

void add_kernels(KernelTable& table) {
  table.set<kernels::CompressForward>(compress_forward);
  table.set<kernels::CompressBackward>(compress_backward, [](const kernels::CompressBackward& kernel, int) {
    return static_cast<std::size_t>(kernel.values.size(0) * (kernel.rows.size(1) / kernel.position_bias.size(0)));
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
