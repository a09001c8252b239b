#include "base/threads.h"

#include <algorithm>

#include <sched.h>

#include "base/thread_pool.h"

namespace flyover::base {

void parallel_for(int threads, std::int64_t count, LoopBody body) {
  if (threads <= 1 || count <= 1) {
    for (std::int64_t i = 0; i < count; ++i) {
      body(i, 0);
    }
    return;
  }
  static ThreadPool pool;
  pool.run(threads, count, body);
}

int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) {
    return 1;
  }
  return std::max(1, CPU_COUNT(&set));
}

}  // namespace flyover::base
