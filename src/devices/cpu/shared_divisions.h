// How the backward passes of the shared attention and of the indexer cut documents. A document's queries are summed
// over in order, in divisions that have sums of their own for the keys that they see; these are added up in order. The
// cut depends on the document alone.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "base/threads.h"
#include "devices/cpu/shared_attention_code.h"
#include "devices/kernel_table.h"

namespace flyover::devices::cpu {

/// Documents up to this long are one division.
inline constexpr std::int64_t kUndividedTokens = 1024;
/// Longer ones are at most this many, of at least kUndividedTokens: sums for the entries stay linear in their number.
inline constexpr std::int64_t kMostDivisions = 8;

/// Queries of a division of a document (but for its last): a whole number of key tiles where there are several.
constexpr std::int64_t division_tokens(std::int64_t tokens) {
  return tokens <= kUndividedTokens
             ? std::max<std::int64_t>(1, tokens)
             : std::max(kUndividedTokens, attention::round_up(attention::divide_up(tokens, kMostDivisions), 64));
}

constexpr std::int64_t divisions_of(std::int64_t tokens) {
  return attention::divide_up(tokens, division_tokens(tokens));
}

/// At least the divisions of all documents of a launch, whatever their lengths.
constexpr std::int64_t most_divisions(std::int64_t tokens, std::int64_t documents) {
  return documents + tokens / kUndividedTokens;
}

/// Rows of the sums for the entries of a document's first `count` divisions.
inline std::int64_t entry_sums_before(std::int64_t tokens, std::int64_t ratio, std::int64_t count) {
  std::int64_t rows = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    rows += shared_attention::entry_sum_rows(ratio, std::min(tokens, (i + 1) * division_tokens(tokens)));
  }
  return rows;
}

/// At least that of all divisions of all documents. Divisions of d tokens end after d, 2 d, ..: with eight of them
/// together that is less than five times the document.
constexpr std::int64_t most_entry_sums(std::int64_t entries, std::int64_t tokens, std::int64_t documents) {
  const std::int64_t times = tokens <= kUndividedTokens ? 1 : 5;
  return times * (entries + documents) + 63 * most_divisions(tokens, documents);
}

/// Rows of the sums for the tokens of a document's first `count` divisions.
inline std::int64_t token_sums_before(std::int64_t tokens, const kernels::SharedVisibility& visibility,
                                      std::int64_t count) {
  std::int64_t rows = 0;
  const std::int64_t length = division_tokens(tokens);
  for (std::int64_t i = 0; i < count; ++i) {
    const shared_attention::KeyRange range =
        shared_attention::token_sum_range(visibility, i * length, std::min(length, tokens - i * length));
    rows += range.end - range.begin;
  }
  return rows;
}

/// At least that of all divisions of all documents: every token once, and what a window reaches back from a division.
constexpr std::int64_t most_token_sums(std::int64_t tokens, std::int64_t documents, std::int64_t window) {
  const std::int64_t cuts = tokens / kUndividedTokens;
  const std::int64_t reach =
      std::min(cuts * (std::min(window, tokens) + 63), (kMostDivisions - 1) * tokens + 63 * cuts);
  return tokens + 63 * documents + reach;
}

/// Where the parts of a document begin among those of all documents of a launch.
struct DocumentParts {
  std::int64_t first_item;
  std::int64_t first_token_sum;
  std::int64_t first_entry_sum;
};

/// The document that has this item. parts: [documents + 1].
inline std::int64_t document_of(std::span<const DocumentParts> parts, std::int64_t item) {
  return std::ranges::upper_bound(parts, item, {}, &DocumentParts::first_item) - parts.begin() - 1;
}

/// Scratch memory of each thread.
struct ThreadScratch {
  std::byte* memory = nullptr;
  std::size_t bytes = 0;  ///< of one thread
  std::byte* operator[](int thread) const { return memory + static_cast<std::size_t>(thread) * bytes; }
};

/// Hands out parts of a workspace; with a null one it only counts.
class WorkspaceParts {
 public:
  explicit WorkspaceParts(std::byte* memory) : memory_(memory) {}
  template <typename T>
  std::span<T> take(std::int64_t count) {
    const std::size_t offset = used_;
    used_ += (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return memory_ == nullptr ? std::span<T>()
                              : std::span(reinterpret_cast<T*>(memory_ + offset), static_cast<std::size_t>(count));
  }
  ThreadScratch take_scratch(int threads, std::size_t bytes) {
    const std::size_t padded = (bytes + 63) / 64 * 64;
    return {take<std::byte>(std::max(1, threads) * static_cast<std::int64_t>(padded)).data(), padded};
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* memory_;
  std::size_t used_ = 0;
};

inline void check_workspace(std::string_view kernel, const LaunchContext& context, std::size_t bytes) {
  base::check(context.workspace_bytes >= bytes, "{}: a workspace of {} bytes, but {} are needed", kernel,
              context.workspace_bytes, bytes);
}

inline void check_lists(std::string_view kernel, const std::atomic<bool>& bad_list) {
  base::check(!bad_list, "{}: a list in `selected` is not rising or has an entry that its query does not see", kernel);
}

/// Sets `count` rows of a view to zeros from row `first` on, whatever the type.
inline void clear_rows(const kernels::View& view, std::int64_t first, std::int64_t count) {
  const auto size = static_cast<std::int64_t>(kernels::size_of(view.dtype));
  const std::int64_t middle = view.rank() == 3 ? view.size(1) : 1, width = view.size(view.rank() - 1);
  for (std::int64_t row = first; row < first + count; ++row) {
    for (std::int64_t i = 0; i < middle; ++i) {
      const std::int64_t offset = row * view.stride(0) + (view.rank() == 3 ? i * view.stride(1) : 0);
      std::fill_n(static_cast<std::byte*>(view.data) + offset * size, width * size, std::byte{0});
    }
  }
}

/// The same for all rows.
inline void clear_all_rows(const kernels::View& view, int threads) {
  constexpr std::int64_t kRows = 64;
  base::parallel_for(threads, attention::divide_up(view.size(0), kRows), [&](std::int64_t block) {
    clear_rows(view, block * kRows, std::min(kRows, view.size(0) - block * kRows));
  });
}

}  // namespace flyover::devices::cpu
