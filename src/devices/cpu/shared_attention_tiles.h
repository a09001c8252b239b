// Key tiles of the shared attention and of the indexer: packed once as keys and as values, from consecutive rows or
// from those of a list. Included between HWY_PUSH_ATTRIBUTES and HWY_POP_ATTRIBUTES.
#pragma once

namespace flyover::devices::cpu::shared_attention {

using attention::Into;
using attention::multiply;
using attention::Operands;
using attention::pack_rows;
using attention::padded_depth_words;
using attention::padded_head_dim;
using attention::transpose_words;

/// The rows of a [rows, width] view that a list names, as HeadRows walks.
template <typename T>
struct ListedRows {
  const T* data;  ///< the current row
  const T* base;
  std::int64_t stride;
  const std::int32_t* next_entry;
  const std::int32_t* end;

  void next() {
    if (next_entry < end) {
      data = base + *next_entry++ * stride;
    }
  }
};

template <typename T>
ListedRows<T> listed_rows(const kernels::ConstView& view, std::int64_t first_row, const std::int32_t* list,
                          std::int64_t count) {
  ListedRows<T> rows{nullptr, static_cast<const T*>(view.data) + first_row * view.stride(0), view.stride(0), list,
                     list + count};
  rows.next();
  return rows;
}

/// Consecutive rows of a [rows, width] view.
template <typename T>
HeadRows<const T> matrix_rows(const kernels::ConstView& view, std::int64_t row) {
  return {static_cast<const T*>(view.data) + row * view.stride(0), view.stride(0), 0, 1, 0};
}

/// A packed tile.
template <class E>
struct PackedTile {
  float* rows;     ///< [kTile, padded_depth_words]: each key along its elements
  float* columns;  ///< [padded_depth_words, kTile]: the same transposed, for q . key
  float* summed;   ///< [kTile / kDepth, padded_head_dim]: keys as values, which are summed over; `rows` itself without
                   ///< pairs

  PackedTile(const Shape& shape, Arena& arena) {
    rows = arena.floats(kTile * padded_depth_words<E>(shape));
    columns = arena.floats(kTile * padded_depth_words<E>(shape));
    summed = E::kPairs ? arena.floats(kTile / E::kDepth * padded_head_dim(shape)) : rows;
  }
};

/// Packs keys [seen.begin, seen.end) as `rows` gives them, the others as zeros, without the form for sums.
template <class E, class Rows>
void pack_keys(const Rows& rows, const KeyRange& seen, const Shape& shape, const PackedTile<E>& to) {
  const std::int64_t words = padded_depth_words<E>(shape);
  std::fill_n(to.rows, seen.begin * words, 0.0f);
  pack_rows<E>(rows, seen.end - seen.begin, kTile - seen.begin, shape, 0, to.rows + seen.begin * words);
  transpose_words<E>(to.rows, kTile, words, words, to.columns, kTile);
}

/// The form for sums, from the packed rows. Says whether an element is not finite.
template <class E>
bool pack_values(const Shape& shape, const PackedTile<E>& tile) {
  using Isa = typename E::Isa;
  const std::int64_t words = padded_depth_words<E>(shape);
  if constexpr (E::kPairs) {
    const HeadRows<const typename E::Element> rows{reinterpret_cast<const typename E::Element*>(tile.rows), 2 * words,
                                                   0, 1, 0};
    return attention::pack_summed_rows<E>(rows, kTile, kTile, shape, tile.summed);
  } else {
    auto sum = Isa::zero();
    for (std::int64_t at = 0; at < kTile * words; at += Isa::kLanes) {
      sum = Isa::multiply_add(Isa::load(tile.rows + at), Isa::zero(), sum);
    }
    return Isa::any_not_finite(sum);
  }
}

/// Packs the keys of a tile of a document: `tokens` for tokens, else `entries`.
template <class E>
void pack_tile(const KeyTile& tile, const SharedDocument& document, const kernels::SharedVisibility& visibility,
               const kernels::ConstView& tokens, const std::optional<kernels::ConstView>& entries, const Shape& shape,
               const PackedTile<E>& to) {
  using T = typename E::Element;
  switch (tile.kind) {
    case KeyTile::Kind::kTokens: {
      const std::int64_t row = visibility.ring > 0 ? tile.first % visibility.ring : tile.first;
      return pack_keys<E>(matrix_rows<T>(tokens, document.first_key + row + tile.seen.begin), tile.seen, shape, to);
    }
    case KeyTile::Kind::kEntries:
      return pack_keys<E>(matrix_rows<T>(*entries, document.first_entry + tile.first), tile.seen, shape, to);
    case KeyTile::Kind::kList:
      return pack_keys<E>(listed_rows<T>(*entries, document.first_entry, tile.list, tile.seen.end), tile.seen, shape,
                          to);
  }
}

/// The rows of `sums` that a tile's list names += the rows of `terms`.
template <class E>
void add_listed_rows(const KeyTile& tile, std::int64_t columns, const float* terms, float* sums) {
  using Isa = typename E::Isa;
  for (std::int64_t key = 0; key < tile.seen.end; ++key) {
    const float* const from = terms + key * columns;
    float* const to = sums + tile.list[key] * columns;
    for (std::int64_t column = 0; column < columns; column += Isa::kLanes) {
      Isa::store(to + column, Isa::add(Isa::load(to + column), Isa::load(from + column)));
    }
  }
}

template <class E>
void finish_rows(const FinishedRows& rows) {
  using Isa = typename E::Isa;
  const std::int64_t width = rows.gradient->size(1), columns = round_up(std::max<std::int64_t>(1, width), 16);
  for (std::int64_t i = 0; i < rows.rows; ++i) {
    auto* const to = static_cast<typename E::Element*>(rows.gradient->data) + (rows.row + i) * rows.gradient->stride(0);
    for (std::int64_t column = 0; column < width; column += Isa::kLanes) {
      auto sum = Isa::load(rows.sums[0] + i * columns + column);
      for (int item = 1; item < rows.count; ++item) {
        sum = Isa::add(sum, Isa::load(rows.sums[item] + i * columns + column));
      }
      Isa::store_first(to + column, sum, width - column);
    }
  }
}

/// What softmax asks of a strip, see attention_softmax.h.
template <class E>
[[gnu::always_inline]] inline typename E::Isa::Float seen_lanes(const RangeStrip& strip, std::int64_t row,
                                                                std::int64_t vector, typename E::Isa::Float value,
                                                                typename E::Isa::Float other) {
  using Isa = typename E::Isa;
  const std::int64_t key = vector * Isa::kLanes;
  return Isa::first_lanes(strip.seen[row].begin - key, other,
                          Isa::first_lanes(strip.seen[row].end - key, value, other));
}

}  // namespace flyover::devices::cpu::shared_attention
