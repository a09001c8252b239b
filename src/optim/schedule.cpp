#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace flyover::optim {

double learning_rate_factor(const Schedule& schedule, std::int64_t step) {
  if (step < schedule.warmup_steps) {
    return static_cast<double>(step + 1) / static_cast<double>(schedule.warmup_steps);
  }
  const std::int64_t length = std::max<std::int64_t>(schedule.total_steps - schedule.warmup_steps, 1);
  const double progress =
      std::clamp(static_cast<double>(step - schedule.warmup_steps) / static_cast<double>(length), 0.0, 1.0);
  const double range = 1.0 - schedule.minimum_ratio;
  switch (schedule.decay) {
    case Decay::kConstant:
      return 1.0;
    case Decay::kLinear:
      return 1.0 - range * progress;
    case Decay::kCosine:
      return schedule.minimum_ratio + range * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  }
  return 1.0;
}

}  // namespace flyover::optim
