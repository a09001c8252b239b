// Time for measuring.
#pragma once

#include <chrono>

namespace flyover::base {

/// Seconds of a clock that never goes back; only differences mean anything.
inline double monotonic_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace flyover::base
