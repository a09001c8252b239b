// The rows of the `sequences` table of the shared attention and of the indexer, as the host devices read them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string_view>

#include "base/error.h"
#include "kernels/shared_attention.h"

namespace flyover::devices {

/// One document: kernels::SharedColumn.
struct SharedDocument {
  std::int64_t first_query;
  std::int64_t queries;
  std::int64_t first_key;
  std::int64_t keys;
  std::int64_t first_entry;

  /// Position in the document of one of its queries.
  std::int64_t position_of(std::int64_t query) const { return keys - queries + query; }
};

/// What the documents of a launch must lie within.
struct SharedLimits {
  std::int64_t queries;  ///< rows of q
  std::int64_t keys;     ///< rows of keys; none given: no_limit
  std::int64_t entries;  ///< rows of entries
  kernels::SharedVisibility visibility;

  static constexpr std::int64_t no_limit = std::numeric_limits<std::int64_t>::max();
};

/// Row `index` of the table. Throws InternalError if it does not lie within the limits, or a ring is too short for it.
inline SharedDocument shared_document(std::string_view kernel, const kernels::ConstView& sequences, std::int64_t index,
                                      const SharedLimits& limits) {
  const auto* const row = static_cast<const std::int32_t*>(sequences.data) + index * kernels::kSharedColumns;
  const SharedDocument document{row[kernels::kSharedFirstQuery], row[kernels::kSharedQueries],
                                row[kernels::kSharedFirstKey], row[kernels::kSharedKeys],
                                row[kernels::kSharedFirstEntry]};
  const auto& [window, ratio, ring] = limits.visibility;
  base::check(document.first_query >= 0 && document.queries >= 0 && document.queries <= document.keys &&
                  document.first_query + document.queries <= limits.queries,
              "{}: document {} has queries {}+{} of {}, and {} keys", kernel, index, document.first_query,
              document.queries, limits.queries, document.keys);
  const std::int64_t key_rows = ring > 0 ? std::min(ring, document.keys) : document.keys;
  base::check(document.first_key >= 0 && key_rows <= limits.keys - document.first_key,
              "{}: document {} has keys {}+{} of {}", kernel, index, document.first_key, key_rows, limits.keys);
  base::check(ring == 0 || std::min(document.keys, window + document.queries - 1) <= ring,
              "{}: the {} queries of document {} with a window of {} need more than a ring of {}", kernel,
              document.queries, index, window, ring);
  const std::int64_t entries = ratio > 0 ? document.keys / ratio : 0;
  base::check(entries == 0 || (document.first_entry >= 0 && document.first_entry + entries <= limits.entries),
              "{}: document {} has entries {}+{} of {}", kernel, index, document.first_entry, entries, limits.entries);
  return document;
}

/// The limits of a launch of the attention.
template <typename Kernel>
SharedLimits attention_limits(const Kernel& kernel) {
  return {kernel.q.size(0), kernel.keys.size(0), kernel.entries.has_value() ? kernel.entries->size(0) : 0,
          kernel.visibility};
}

/// The limits of a launch of the indexer; `rows`: its entries. first_key is not looked at.
template <typename Kernel>
SharedLimits indexer_limits(const Kernel& kernel, const kernels::ConstView& rows) {
  return {kernel.q.size(0), SharedLimits::no_limit, rows.size(0), {0, kernel.ratio, 0}};
}

}  // namespace flyover::devices
