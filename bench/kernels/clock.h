// The clock of the benchmarks.
#pragma once

#include <time.h>

namespace flyover::bench {

/// Seconds since some moment: of this thread's CPU time for one thread, so that other programs on the machine disturb
/// less; of the wall clock otherwise.
inline double now(int threads) {
  timespec time{};
  ::clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace flyover::bench
