// Learning-rate schedules: a pure function of the step.
#pragma once

#include <cstdint>

namespace flyover::optim {

enum class Decay : std::uint8_t { kConstant, kLinear, kCosine };

/// Linear warm-up over `warmup_steps`, then decay to `minimum_ratio` of the peak at `total_steps`.
struct Schedule {
  Decay decay = Decay::kCosine;
  std::int64_t warmup_steps = 0;
  std::int64_t total_steps = 1;
  double minimum_ratio = 0.0;
};

/// Factor on the peak learning rate for the step with this index (0 = the first). The first of w warm-up steps has
/// 1 / w, the last has 1.
double learning_rate_factor(const Schedule& schedule, std::int64_t step);

}  // namespace flyover::optim
