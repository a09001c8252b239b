// The threads behind parallel_for.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "base/threads.h"

namespace flyover::base {

/// Threads that wait for loops. The calling thread works too and never waits for a helper that has not begun an item:
/// on a machine whose cores others use as well, a loop takes no longer than the caller alone would need (plus one
/// item).
class ThreadPool {
 public:
  ThreadPool() = default;
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  /// As parallel_for. Throws Error where the system refuses a thread. A loop that begins while another runs (from
  /// another thread, or from within) runs on its caller.
  void run(int threads, std::int64_t count, LoopBody body);

 private:
  void grow(int helpers);
  void help(int thread);
  void work(std::uint32_t loop, int thread);

  // `cursor_` holds the number of the loop (upper half) and the next item (lower half) in one word, so that an item can
  // be taken only of the loop that the taker knows. Between loops the next item is kClosed.
  static constexpr std::uint32_t kClosed = UINT32_MAX;
  alignas(64) std::atomic<std::uint64_t> cursor_{kClosed};
  alignas(64) std::atomic<std::int64_t> finished_{0};
  alignas(64) std::atomic<std::uint32_t> loop_{0};  ///< what idle helpers watch
  std::atomic<int> sleeping_{0};
  std::atomic<std::int64_t> count_{0};
  std::atomic<int> threads_{0};
  std::atomic<const LoopBody*> body_{nullptr};
  std::atomic<bool> stopping_{false};
  std::mutex busy_;
  std::vector<std::thread> helpers_;
};

}  // namespace flyover::base
