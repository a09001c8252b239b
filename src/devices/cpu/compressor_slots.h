// Which tokens the compressor pools into which entries.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/error.h"
#include "devices/cpu/row_access.h"
#include "kernels/view.h"

namespace flyover::devices::cpu::compressor {

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
inline Slots checked_slots(std::string_view kernel, const kernels::ConstView& rows,
                           const kernels::ConstView& position_bias, std::int64_t tokens) {
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

/// For every token and role whether it has a slot. Throws InternalError where it has two.
inline std::span<const std::uint8_t> used_tokens(std::string_view kernel, const Slots& slots,
                                                 std::span<std::uint8_t> used) {
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

/// Slots that are pooled at once, their gates in registers.
inline constexpr int kSlotsAtOnce = 8;
/// Where the numbers of one slot begin.
struct Slot {
  const float *gate, *bias, *value;
  float *dvalue, *dgate;  ///< null in the forward pass
};

/// The tensors that slots lie in.
struct Tensors {
  RowAccess<const float> values, gates, bias;
  RowAccess<float> dvalues, dgates;
  std::int64_t width;  ///< channels of an entry
};

/// The slots of one entry that have a token, a few at a time.
class SlotReader {
 public:
  SlotReader(const Tensors& tensors, const Slots& slots, std::int64_t entry)
      : tensors_(tensors), rows_(slots.entry(entry)), window_(slots.window), roles_(slots.roles()) {}

  /// The next ones; returns how many, fewer than kSlotsAtOnce only at the end.
  int read(Slot (&slots)[kSlotsAtOnce]) {
    int count = 0;
    for (; role_ < roles_; position_ = 0, ++role_) {
      for (; position_ < window_; ++position_) {
        const std::int64_t row = rows_[role_ * window_ + position_], column = role_ * tensors_.width;
        if (row < 0) {
          continue;
        }
        if (count == kSlotsAtOnce) {
          return count;
        }
        const bool back = tensors_.dvalues.data != nullptr;
        slots[count++] = {tensors_.gates[row] + column, tensors_.bias[position_] + column,
                          tensors_.values[row] + column, back ? tensors_.dvalues[row] + column : nullptr,
                          back ? tensors_.dgates[row] + column : nullptr};
      }
    }
    return count;
  }

 private:
  const Tensors& tensors_;
  const std::int32_t* rows_;
  std::int64_t window_, roles_;
  std::int64_t role_ = 0, position_ = 0;
};

}  // namespace flyover::devices::cpu::compressor
