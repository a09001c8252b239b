// Asks for memory that will be packed next while products are computed, a few lines at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace flyover::devices::cpu::matmul {

/// Walks over a region of an operand: `runs` runs of `run_bytes` bytes, in its lines from `first` on. Line i lies i
/// times `pitch` bytes behind `begin`, or lines[i] times where there are `lines`.
class Prefetcher {
 public:
  Prefetcher() = default;
  /// The region is asked for in `calls` calls of advance().
  Prefetcher(const std::byte* begin, std::int64_t pitch, const std::int32_t* lines, std::int64_t first,
             std::int64_t runs, std::int64_t run_bytes, std::int64_t calls)
      : begin_(begin),
        pitch_(pitch),
        lines_(lines),
        line_(first),
        runs_(run_bytes > 0 ? runs : 0),
        run_bytes_(run_bytes) {
    const std::int64_t cache_lines = runs_ * (run_bytes / kCacheLine + 1);
    per_call_ = cache_lines / std::max<std::int64_t>(calls, 1) + 1;
    if (runs_ > 0) {
      find_run();
    }
  }

  void advance() {
    for (std::int64_t i = 0; i < per_call_ && runs_ > 0; ++i) {
      __builtin_prefetch(run_ + offset_, 0, 2);
      offset_ += kCacheLine;
      if (offset_ >= run_bytes_ + kCacheLine - 1) {  // a run may begin in the middle of a line
        offset_ = 0;
        ++line_;
        if (--runs_ > 0) {
          find_run();
        }
      }
    }
  }

 private:
  static constexpr std::int64_t kCacheLine = 64;

  void find_run() { run_ = begin_ + (lines_ == nullptr ? line_ : lines_[line_]) * pitch_; }

  const std::byte* begin_ = nullptr;
  std::int64_t pitch_ = 0;
  const std::int32_t* lines_ = nullptr;
  std::int64_t line_ = 0;
  std::int64_t runs_ = 0;
  std::int64_t run_bytes_ = 0;
  const std::byte* run_ = nullptr;
  std::int64_t offset_ = 0;
  std::int64_t per_call_ = 0;
};

}  // namespace flyover::devices::cpu::matmul
