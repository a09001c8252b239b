// Choosing experts by their scores: plain comparisons, the same for every instruction set.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/error.h"
#include "kernels/router.h"

namespace flyover::devices::cpu {

/// Keeps the largest `count` (at least 1) of the values that it is offered, best first, of equal ones the earlier.
template <std::int64_t kCapacity>
class Best {
 public:
  explicit Best(std::int64_t count) : count_(count) {}

  void offer(float value, std::int64_t index) {
    if (size_ == count_ && !(value > values_[last()])) {
      return;
    }
    size_ += size_ < count_ ? 1 : 0;
    std::size_t place = last();
    for (; place > 0 && value > values_[place - 1]; --place) {
      values_[place] = values_[place - 1];
      indices_[place] = indices_[place - 1];
    }
    values_[place] = value;
    indices_[place] = static_cast<std::int32_t>(index);
  }

  std::int64_t size() const { return size_; }
  float value(std::int64_t rank) const { return values_[static_cast<std::size_t>(rank)]; }
  std::int32_t index(std::int64_t rank) const { return indices_[static_cast<std::size_t>(rank)]; }

 private:
  std::size_t last() const { return static_cast<std::size_t>(size_ - 1); }
  std::array<float, kCapacity> values_;
  std::array<std::int32_t, kCapacity> indices_;
  std::int64_t size_ = 0;
  std::int64_t count_;
};

/// Marks the groups with the largest sum of their two best values.
inline void mark_chosen_groups(const kernels::RouterRule& rule, const float* values, std::int64_t group_size,
                               std::array<bool, kernels::kMaximumExperts>& is_chosen) {
  Best<kernels::kMaximumExperts> groups(rule.chosen_groups);
  for (std::int64_t group = 0; group < rule.groups; ++group) {
    Best<2> two(2);
    for (std::int64_t i = group * group_size; i < (group + 1) * group_size; ++i) {
      two.offer(values[i], i);
    }
    const float sum = two.size() == 2 ? two.value(0) + two.value(1) : two.value(0);
    groups.offer(std::isnan(sum) ? std::numeric_limits<float>::infinity() : sum, group);
    is_chosen[static_cast<std::size_t>(group)] = false;
  }
  for (std::int64_t i = 0; i < rule.chosen_groups; ++i) {
    is_chosen[static_cast<std::size_t>(groups.index(i))] = true;
  }
}

/// The `choices` experts with the largest values, none of which is NaN, best first.
inline void choose_experts(const kernels::RouterRule& rule, const float* values, std::int64_t experts,
                           std::int64_t choices, std::int32_t* chosen) {
  Best<kernels::kMaximumChoices> best(choices);
  const std::int64_t group_size = experts / rule.groups;
  std::array<bool, kernels::kMaximumExperts> is_chosen;
  const bool all_groups = rule.chosen_groups == rule.groups;
  if (!all_groups) {
    mark_chosen_groups(rule, values, group_size, is_chosen);
  }
  for (std::int64_t group = 0; group < rule.groups; ++group) {
    if (all_groups || is_chosen[static_cast<std::size_t>(group)]) {
      for (std::int64_t i = group * group_size; i < (group + 1) * group_size; ++i) {
        best.offer(values[i], i);
      }
    }
  }
  for (std::int64_t i = 0; i < choices; ++i) {
    chosen[i] = best.index(i);
  }
}

/// Throws InternalError unless all of a [tokens, choices] table are experts.
inline void check_experts(std::string_view kernel, const kernels::ConstView& experts, std::int64_t count) {
  const auto* const chosen = static_cast<const std::int32_t*>(experts.data);
  // A negative expert is a large one.
  std::uint32_t largest = 0;
  for (std::int64_t i = 0; i < experts.elements(); ++i) {
    largest = std::max(largest, static_cast<std::uint32_t>(chosen[i]));
  }
  base::check(experts.elements() == 0 || static_cast<std::int64_t>(largest) < count, "{}: expert {} of {}", kernel,
              static_cast<std::int32_t>(largest), count);
}

}  // namespace flyover::devices::cpu
