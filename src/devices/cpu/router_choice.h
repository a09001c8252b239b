// Choosing experts by their values. Like vector_math.h compiled once for each instruction set; include after it and
// every general header.

#if defined(FLYOVER_DEVICES_CPU_ROUTER_CHOICE) == defined(HWY_TARGET_TOGGLE)
#ifdef FLYOVER_DEVICES_CPU_ROUTER_CHOICE
#undef FLYOVER_DEVICES_CPU_ROUTER_CHOICE
#else
#define FLYOVER_DEVICES_CPU_ROUTER_CHOICE
#endif

#include <algorithm>
#include <array>
#include <limits>

#include "devices/cpu/vector_math.h"
#include "kernels/router.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

/// Values from which the largest are taken one after the other.
struct Candidates {
  static constexpr float kTaken = -std::numeric_limits<float>::infinity();
  alignas(64) float values[kernels::kMaximumExperts];
  std::int64_t vectors = 0;

  /// Makes room for `count` values, which the caller writes; what fills the last vector is not to be taken.
  HWY_INLINE void resize(std::int64_t count) {
    vectors = (count + kLanes - 1) / kLanes;
    std::fill(values + count, values + vectors * kLanes, kTaken);
  }

  /// Order for values that are not numbers, the largest, and for those that are no larger than taken ones.
  static HWY_INLINE Vector ordered(Vector value) {
    const Vector largest = hn::Set(Tag(), std::numeric_limits<float>::infinity());
    const Vector lowest = hn::Set(Tag(), std::numeric_limits<float>::lowest());
    return hn::IfThenElse(hn::IsNaN(value), largest, hn::Max(value, lowest));
  }
  static float ordered(float value) {
    return value != value ? std::numeric_limits<float>::infinity()
                          : std::max(value, std::numeric_limits<float>::lowest());
  }

  /// The index of the largest value that has not been taken, of equal ones the lower. There must be one.
  HWY_INLINE std::int32_t take() {
    Vector best = hn::Load(Tag(), values);
    for (std::int64_t i = 1; i < vectors; ++i) {
      best = hn::Max(best, hn::Load(Tag(), values + i * kLanes));
    }
    best = hn::MaxOfLanes(Tag(), best);
    std::int64_t first = 0;
    for (; first + 1 < vectors; ++first) {
      if (!hn::AllFalse(Tag(), hn::Eq(best, hn::Load(Tag(), values + first * kLanes)))) {
        break;
      }
    }
    const auto equal = hn::Eq(best, hn::Load(Tag(), values + first * kLanes));
    const std::int64_t index = first * kLanes + static_cast<std::int64_t>(hn::FindKnownFirstTrue(Tag(), equal));
    values[index] = kTaken;
    return static_cast<std::int32_t>(index);
  }
};

/// The sum of the two largest values, or the only one.
inline float sum_of_two_best(const float* values, std::int64_t count) {
  float best = values[0], second = count == 1 ? 0.0f : values[1];
  if (second > best && count > 1) {
    std::swap(best, second);
  }
  for (std::int64_t i = 2; i < count; ++i) {
    second = std::max(second, std::min(best, values[i]));
    best = std::max(best, values[i]);
  }
  return best + second;
}

/// Takes the experts of all groups but those with the largest sums.
HWY_INLINE void drop_groups(const kernels::RouterRule& rule, std::int64_t experts, Candidates& candidates) {
  const std::int64_t group_size = experts / rule.groups;
  Candidates groups;
  groups.resize(rule.groups);
  std::array<bool, kernels::kMaximumExperts> is_chosen;
  for (std::int64_t group = 0; group < rule.groups; ++group) {
    groups.values[group] = Candidates::ordered(sum_of_two_best(candidates.values + group * group_size, group_size));
    is_chosen[static_cast<std::size_t>(group)] = false;
  }
  for (std::int64_t i = 0; i < rule.chosen_groups; ++i) {
    is_chosen[static_cast<std::size_t>(groups.take())] = true;
  }
  for (std::int64_t group = 0; group < rule.groups; ++group) {
    if (!is_chosen[static_cast<std::size_t>(group)]) {
      std::fill_n(candidates.values + group * group_size, group_size, Candidates::kTaken);
    }
  }
}

/// The `choices` experts with the largest score + bias, best first.
HWY_INLINE void choose_experts(const kernels::RouterRule& rule, const float* scores, const float* bias,
                               std::int64_t experts, std::int64_t choices, std::int32_t* chosen) {
  Candidates candidates;
  candidates.resize(experts);
  for_each_vector(experts, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
    const Vector score = load(scores + j, lanes);
    const Vector value = bias == nullptr ? score : hn::Add(score, load(bias + j, lanes));
    store(Candidates::ordered(value), candidates.values + j, lanes);
  });
  if (rule.chosen_groups < rule.groups) {
    drop_groups(rule, experts, candidates);
  }
  for (std::int64_t i = 0; i < choices; ++i) {
    chosen[i] = candidates.take();
  }
}

#endif  // HWY_TARGET

}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLYOVER_DEVICES_CPU_ROUTER_CHOICE
