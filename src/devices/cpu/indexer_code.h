// What the driver of the indexer (indexer.cpp) needs from an instruction set, and how a launch is cut into items. The
// code behind it is in indexer_<instruction set>.cpp; it builds on that of the shared attention.
#pragma once

#include "devices/cpu/shared_attention_code.h"
#include "kernels/indexer.h"

namespace flyover::devices::cpu::indexer {

using attention::Arena;
using attention::divide_up;
using attention::head_rows;
using attention::HeadRows;
using attention::kLog2E;
using attention::kStrip;
using attention::kTile;
using attention::round_up;
using attention::Shape;
using shared_attention::BlockRows;
using shared_attention::KeyRange;
using shared_attention::KeyTile;
using shared_attention::QueryRange;
using shared_attention::RangeStrip;

/// Queries [first, first + count) of a document; at most queries_of_item.
struct SelectItem {
  const kernels::IndexerSelect* kernel;
  SharedDocument document;
  std::int64_t first;
  std::int64_t count;
};

struct TargetItem {
  const kernels::IndexerTarget* kernel;
  SharedDocument document;
  std::int64_t first;
  std::int64_t count;
  std::atomic<bool>* bad_list;  ///< set if a list is not rising or names an entry that its query does not see
};

/// A division of a document (shared_divisions.h).
struct LossItem {
  const kernels::IndexerLoss* kernel;
  SharedDocument document;
  std::int64_t first;
  std::int64_t count;
  float* entry_sums;  ///< [entry_sum_rows, padded_head_dim], not yet initialised
  double* loss_sum;   ///< not yet initialised
  bool finishes;      ///< the item is the document's only one, and writes dk
  std::atomic<bool>* bad_list;
};

/// The code of one instruction set for one input type.
struct Code {
  std::size_t (*select_bytes)(const kernels::IndexerSelect& kernel);
  void (*select)(const SelectItem& item, std::byte* scratch);
  std::size_t (*target_bytes)(const kernels::IndexerTarget& kernel);
  void (*target)(const TargetItem& item, std::byte* scratch);
  std::size_t (*loss_bytes)(const kernels::IndexerLoss& kernel);
  void (*loss)(const LossItem& item, std::byte* scratch);
  void (*finish)(const shared_attention::FinishedRows& rows);
};

extern const Code kAvx2F32;
extern const Code kAvx2Bf16;  ///< widens bf16 to f32 while packing
extern const Code kAvx512F32;
extern const Code kAvx512Bf16;       ///< widens bf16 to f32 while packing
extern const Code kAvx512Bf16Pairs;  ///< vdpbf16ps

template <typename Kernel>
Shape shape_of(const Kernel& kernel) {
  return {kernel.q.size(2), kernel.q.size(1)};
}

/// Queries that meet a packed tile together.
constexpr std::int64_t queries_of_item(const Shape& shape) {
  return std::clamp<std::int64_t>(512 / shape.group, 1, kTile);
}

/// The list of a query among `selected`.
inline const std::int32_t* list_of(const kernels::ConstView& selected, std::int64_t row) {
  return static_cast<const std::int32_t*>(selected.data) + row * selected.size(1);
}

/// Calls body(tile, queries) for the tiles that hold the chosen entries of a block's queries: shared ones where each
/// query has chosen all that it sees, else one query after the other. Such tiles count places in the lists.
/// `visibility` has the ratio.
template <typename Body>
void for_each_chosen_tile(const kernels::ConstView& selected, const kernels::SharedVisibility& visibility,
                          std::int64_t first_row, std::int64_t first_position, std::int64_t count,
                          std::atomic<bool>& bad_list, const Body& body) {
  if (shared_attention::all_chosen(selected, visibility.ratio, first_row, first_position, count)) {
    return shared_attention::for_each_entry_tile(visibility, first_position, count, body);
  }
  for (std::int64_t query = 0; query < count; ++query) {
    const std::int32_t* const entries = list_of(selected, first_row + query);
    const shared_attention::EntryList list =
        shared_attention::read_list(entries, selected.size(1), (first_position + query + 1) / visibility.ratio);
    if (!list.rising) {
      bad_list = true;
    }
    shared_attention::for_each_list_tile(entries, list.count, [&](const KeyTile& tile) {
      body(tile, QueryRange{query, query + 1});
    });
  }
}

}  // namespace flyover::devices::cpu::indexer
