// Asks for memory that will be packed next while products are computed, a few lines at a time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace flyover::devices::cpu::matmul {

/// Walks over a region of an operand: `runs` runs of `run_bytes` bytes, `pitch` bytes apart.
class Prefetcher {
 public:
  Prefetcher() = default;
  /// The region is asked for in `calls` calls of advance().
  Prefetcher(const std::byte* begin, std::int64_t pitch, std::int64_t runs, std::int64_t run_bytes, std::int64_t calls)
      : run_(begin), pitch_(pitch), runs_(run_bytes > 0 ? runs : 0), run_bytes_(run_bytes) {
    const std::int64_t lines = runs_ * (run_bytes / kLine + 1);
    lines_per_call_ = lines / std::max<std::int64_t>(calls, 1) + 1;
  }

  void advance() {
    for (std::int64_t i = 0; i < lines_per_call_ && runs_ > 0; ++i) {
      __builtin_prefetch(run_ + offset_, 0, 2);
      offset_ += kLine;
      if (offset_ >= run_bytes_ + kLine - 1) {  // a run may begin in the middle of a line
        offset_ = 0;
        run_ += pitch_;
        --runs_;
      }
    }
  }

 private:
  static constexpr std::int64_t kLine = 64;
  const std::byte* run_ = nullptr;
  std::int64_t pitch_ = 0;
  std::int64_t runs_ = 0;
  std::int64_t run_bytes_ = 0;
  std::int64_t offset_ = 0;
  std::int64_t lines_per_call_ = 0;
};

}  // namespace flyover::devices::cpu::matmul
