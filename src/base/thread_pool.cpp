#include "base/thread_pool.h"

#include <system_error>

#include "base/error.h"

namespace flyover::base {
namespace {

/// How often an idle helper looks for work before it sleeps: about 50 us, longer than the host needs between the
/// kernels of a step.
constexpr int kIdleLooks = 2000;
/// How often the caller looks whether the last items are finished before it offers its core to those who run them.
constexpr int kPatientLooks = 4000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadPool::~ThreadPool() {
  stopping_.store(true);
  loop_.fetch_add(1);
  loop_.notify_all();
  for (std::thread& helper : helpers_) {
    helper.join();
  }
}

void ThreadPool::grow(int helpers) {
  while (static_cast<int>(helpers_.size()) < helpers) {
    const int thread = static_cast<int>(helpers_.size()) + 1;
    try {
      helpers_.emplace_back([this, thread] { help(thread); });
    } catch (const std::system_error& error) {
      fail(
          "cannot start thread {} of {}: {}: use fewer threads (threads, --threads), or allow this user and process "
          "more (ulimit -u, ulimit -v)",
          thread + 1, helpers + 1, error.code().message());
    }
  }
}

void ThreadPool::run(int threads, std::int64_t count, LoopBody body) {
  std::unique_lock lock(busy_, std::try_to_lock);
  if (!lock.owns_lock() || count >= kClosed) {
    for (std::int64_t i = 0; i < count; ++i) {
      body(i, 0);
    }
    return;
  }
  grow(threads - 1);
  body_.store(&body, std::memory_order_relaxed);
  count_.store(count, std::memory_order_relaxed);
  threads_.store(threads, std::memory_order_relaxed);
  finished_.store(0, std::memory_order_relaxed);
  const std::uint32_t loop = loop_.load(std::memory_order_relaxed) + 1;
  cursor_.store(std::uint64_t{loop} << 32, std::memory_order_release);
  loop_.store(loop);
  if (sleeping_.load() > 0) {
    loop_.notify_all();
  }
  work(loop, 0);
  for (int looks = 0; finished_.load(std::memory_order_acquire) < count; ++looks) {
    looks < kPatientLooks ? relax() : std::this_thread::yield();
  }
  // Nobody can take an item with what it knows of this loop once the next one is prepared.
  cursor_.store((std::uint64_t{loop} << 32) | kClosed, std::memory_order_release);
}

void ThreadPool::help(int thread) {
  std::uint32_t seen = 0;
  while (!stopping_.load(std::memory_order_relaxed)) {
    std::uint32_t loop = loop_.load(std::memory_order_acquire);
    for (int looks = 0; loop == seen && looks < kIdleLooks; ++looks) {
      relax();
      loop = loop_.load(std::memory_order_acquire);
    }
    if (loop == seen) {
      sleeping_.fetch_add(1);
      loop_.wait(seen);
      sleeping_.fetch_sub(1);
      continue;
    }
    seen = loop;
    work(loop, thread);
  }
}

void ThreadPool::work(std::uint32_t loop, int thread) {
  std::uint64_t cursor = cursor_.load(std::memory_order_acquire);
  for (;;) {
    const auto item = static_cast<std::uint32_t>(cursor);
    const auto* const body = body_.load(std::memory_order_relaxed);
    if (cursor >> 32 != loop || item >= count_.load(std::memory_order_relaxed) ||
        thread >= threads_.load(std::memory_order_relaxed)) {
      return;
    }
    // Succeeds only while this loop is open: then body and count were its own.
    if (cursor_.compare_exchange_weak(cursor, cursor + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
      (*body)(item, thread);
      finished_.fetch_add(1, std::memory_order_release);
      cursor = cursor_.load(std::memory_order_acquire);
    }
  }
}

}  // namespace flyover::base
