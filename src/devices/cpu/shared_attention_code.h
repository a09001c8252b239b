// What the driver of the shared attention (shared_attention.cpp) needs from an instruction set, how a launch is cut
// into items, and which keys a tile shows to whom. The code behind it is in shared_attention_<instruction set>.cpp; it
// builds on that of attention_code.h, with all query heads as the group of one key-value head.
#pragma once

#include <atomic>

#include "devices/cpu/attention_code.h"
#include "devices/shared_documents.h"
#include "kernels/shared_attention.h"

namespace flyover::devices::cpu::shared_attention {

using attention::Arena;
using attention::divide_up;
using attention::head_rows;
using attention::HeadRows;
using attention::kLog2E;
using attention::kStrip;
using attention::kTile;
using attention::round_up;
using attention::Shape;
static_assert(kTile == kernels::kSharedKeyTile);

/// Queries [first, first + count) of a document, with all heads.
struct ForwardItem {
  const kernels::SharedAttentionForward* kernel;
  SharedDocument document;
  std::int64_t first;
  std::int64_t count;
  std::atomic<bool>* bad_list;  ///< set if a list is not rising or names an entry that its query does not see
};

/// The same for the backward pass: dq of these queries, and what they add to the gradients of keys, entries and sink.
struct BackwardItem {
  const kernels::SharedAttentionBackward* kernel;
  SharedDocument document;
  std::int64_t first;
  std::int64_t count;
  float* token_sums;  ///< [token_sum_range, padded_head_dim], not yet initialised
  float* entry_sums;  ///< [entry_sum_rows, padded_head_dim], not yet initialised
  double* sink_sums;  ///< [heads], not yet initialised
  bool finishes;      ///< the item is the document's only one, and writes the gradients
  std::atomic<bool>* bad_list;
};

/// Rows of a gradient: the sums of consecutive items of the document, added up in order.
struct FinishedRows {
  const kernels::View* gradient;
  std::int64_t row;  ///< in the gradient
  std::int64_t rows;
  const float* const* sums;  ///< [rows, padded_head_dim] of each item that has the rows
  int count;
};

/// The code of one instruction set for one input type.
struct Code {
  std::size_t (*forward_bytes)(const Shape& shape);
  void (*forward)(const ForwardItem& item, std::byte* scratch);
  std::size_t (*backward_bytes)(const Shape& shape);
  void (*backward)(const BackwardItem& item, std::byte* scratch);
  void (*finish)(const FinishedRows& rows);
};

extern const Code kAvx2F32;
extern const Code kAvx2Bf16;  ///< widens bf16 to f32 while packing
extern const Code kAvx512F32;
extern const Code kAvx512Bf16;       ///< widens bf16 to f32 while packing
extern const Code kAvx512Bf16Pairs;  ///< vdpbf16ps

/// Queries of an item of the forward pass: as many as amortise the packing of a key tile.
constexpr std::int64_t queries_of_item(const Shape& shape) {
  const std::int64_t queries = std::max<std::int64_t>(1, 512 / shape.group);
  return queries < kTile ? queries : queries / kTile * kTile;
}

/// Queries that the backward pass handles at once against a key tile.
constexpr std::int64_t queries_of_block(const Shape& shape) {
  const std::int64_t queries = std::max<std::int64_t>(1, 256 / shape.group);
  return queries < kTile ? queries : queries / kTile * kTile;
}

/// Keys [begin, end) of a tile.
struct KeyRange {
  std::int64_t begin;
  std::int64_t end;
};

/// Up to kTile keys: tokens, entries, or the chosen entries of one query.
struct KeyTile {
  enum class Kind { kTokens, kEntries, kList } kind;
  std::int64_t first;        ///< token, entry or place in the list of the tile's first key
  const std::int32_t* list;  ///< kList: the entries from `first` on
  KeyRange seen;             ///< keys that a query of the block sees; the memory of the others is not read
};

/// What the query at a position sees of a tile.
inline KeyRange seen_by(const KeyTile& tile, const kernels::SharedVisibility& visibility, std::int64_t position) {
  const auto within = [&](std::int64_t key) { return std::clamp<std::int64_t>(key - tile.first, 0, kTile); };
  switch (tile.kind) {
    case KeyTile::Kind::kTokens:
      return {within(position - visibility.window + 1), within(position + 1)};
    case KeyTile::Kind::kEntries:
      return {0, within((position + 1) / visibility.ratio)};
    case KeyTile::Kind::kList:
      break;
  }
  return tile.seen;
}

/// Consecutive queries of a block.
struct QueryRange {
  std::int64_t begin;
  std::int64_t end;
};

/// body(tile, queries of the block that see it) for the tiles of entries that a block sees whose queries stand at the
/// positions first .. first + count - 1.
template <typename Body>
void for_each_entry_tile(const kernels::SharedVisibility& visibility, std::int64_t first, std::int64_t count,
                         const Body& body) {
  const std::int64_t entries = (first + count) / visibility.ratio;
  for (std::int64_t entry = 0; entry < entries; entry += kTile) {
    const KeyTile tile{KeyTile::Kind::kEntries, entry, nullptr, {0, std::min(kTile, entries - entry)}};
    // Entry e is seen from position (e + 1) ratio - 1 on.
    body(tile, QueryRange{std::max<std::int64_t>(0, (entry + 1) * visibility.ratio - 1 - first), count});
  }
}

/// The same for the tiles of tokens.
template <typename Body>
void for_each_token_tile(const kernels::SharedVisibility& visibility, std::int64_t first, std::int64_t count,
                         const Body& body) {
  const std::int64_t begin = std::max<std::int64_t>(0, first - visibility.window + 1), end = first + count;
  for (std::int64_t token = begin / kTile * kTile; token < end; token += kTile) {
    const KeyTile tile{KeyTile::Kind::kTokens,
                       token,
                       nullptr,
                       {std::max<std::int64_t>(0, begin - token), std::min(kTile, end - token)}};
    // Token t is seen by the positions t .. t + window - 1.
    const std::int64_t last = std::min(end - 1, token + kTile - 1 + visibility.window - 1);
    body(tile, QueryRange{std::max<std::int64_t>(0, token - first), last - first + 1});
  }
}

/// The queries among `queries` of a block, the first of the block standing at position `first`, that see one of the
/// keys of a range of a tile.
inline QueryRange seeing_queries(const KeyTile& tile, const kernels::SharedVisibility& visibility, std::int64_t first,
                                 const QueryRange& queries, const KeyRange& keys) {
  std::int64_t begin = queries.begin, end = queries.end;
  if (tile.kind == KeyTile::Kind::kTokens) {
    begin = tile.first + keys.begin - first;
    end = tile.first + keys.end - 1 + visibility.window - first;
  } else if (tile.kind == KeyTile::Kind::kEntries) {
    begin = (tile.first + keys.begin + 1) * visibility.ratio - 1 - first;
  }
  begin = std::max(begin, queries.begin);
  return {begin, std::max(begin, std::min(end, queries.end))};
}

/// body(tile) for the tiles of a list.
template <typename Body>
void for_each_list_tile(const std::int32_t* list, std::int64_t count, const Body& body) {
  for (std::int64_t place = 0; place < count; place += kTile) {
    body(KeyTile{KeyTile::Kind::kList, place, list + place, {0, std::min(kTile, count - place)}});
  }
}

/// The chosen entries of a query.
struct EntryList {
  std::int64_t count;
  bool rising;  ///< and seen by the query, as it must be
  bool all;     ///< of the entries that the query sees
};

inline EntryList read_list(const std::int32_t* list, std::int64_t limit, std::int64_t visible) {
  std::int64_t count = 0, last = -1;
  bool rising = true;
  for (; count < limit && list[count] >= 0; ++count) {
    rising = rising && list[count] > last;
    last = list[count];
  }
  rising = rising && last < visible;
  return {rising ? count : 0, rising, rising && count == visible};
}

/// Whether every query of a block has chosen all entries that it sees: then they share tiles, to the same bits.
inline bool all_chosen(const kernels::ConstView& selected, std::int64_t ratio, std::int64_t first_row,
                       std::int64_t first_position, std::int64_t count) {
  const auto* list = static_cast<const std::int32_t*>(selected.data) + first_row * selected.size(1);
  for (std::int64_t i = 0; i < count; ++i, list += selected.size(1)) {
    if (!read_list(list, selected.size(1), (first_position + i + 1) / ratio).all) {
      return false;
    }
  }
  return true;
}

/// Tokens [begin, end) whose gradients queries [first, first + count) of a document in training add to, in whole tiles.
inline KeyRange token_sum_range(const kernels::SharedVisibility& visibility, std::int64_t first, std::int64_t count) {
  return {std::max<std::int64_t>(0, first - visibility.window + 1) / kTile * kTile, round_up(first + count, kTile)};
}

/// Entries from the document's first on that queries up to `end` add to, in whole tiles.
inline std::int64_t entry_sum_rows(std::int64_t ratio, std::int64_t end) {
  return ratio > 0 ? round_up(end / ratio, kTile) : 0;
}

/// A strip of rows (query, head) against a key tile whose rows see ranges of it.
struct RangeStrip {
  std::int64_t rows;          ///< at most kStrip
  std::int64_t first_vector;  ///< computed columns of the scores, in vectors; the keys around them are masked
  std::int64_t vectors;
  const KeyRange* seen;  ///< [rows]
  KeyRange hull;         ///< of all rows
  bool full;             ///< every row sees every key
};

/// Rows of a block: `group` for each query, of which those from `heads` on do not exist and see nothing.
struct BlockRows {
  std::int64_t position;  ///< of the block's first query
  std::int64_t heads;
  std::int64_t group;
};

/// Sets what the rows `row` and on of a block see. `seen` has room for them; columns are computed in multiples of
/// `step`, which is one of `lanes`.
inline RangeStrip make_strip(const KeyTile& tile, const kernels::SharedVisibility& visibility, const BlockRows& block,
                             std::int64_t row, std::int64_t rows, std::int64_t step, std::int64_t lanes,
                             KeyRange* seen) {
  const auto [first_position, heads, group] = block;
  std::int64_t position = first_position + row / group, head = row % group;
  RangeStrip strip{rows, 0, 0, seen, {kTile, 0}, true};
  KeyRange range = seen_by(tile, visibility, position);
  for (std::int64_t i = 0; i < rows; ++i) {
    seen[i] = head < heads ? range : KeyRange{0, 0};
    strip.full = strip.full && seen[i].begin == 0 && seen[i].end == kTile;
    if (head < heads) {
      strip.hull = {std::min(strip.hull.begin, range.begin), std::max(strip.hull.end, range.end)};
    }
    if (++head == group) {
      head = 0;
      range = seen_by(tile, visibility, ++position);
    }
  }
  strip.first_vector = strip.hull.begin / step * (step / lanes);
  strip.vectors = divide_up(strip.hull.end, step) * (step / lanes);
  return strip;
}

}  // namespace flyover::devices::cpu::shared_attention
