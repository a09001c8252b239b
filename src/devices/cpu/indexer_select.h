// The scores of the indexer and what learns from them in the attention: IndexerSelect and IndexerTarget over the
// queries of one item. Included between HWY_PUSH_ATTRIBUTES and HWY_POP_ATTRIBUTES.
#pragma once

namespace flyover::devices::cpu::indexer {

using attention::Into;
using attention::multiply;
using attention::padded_depth_words;
using attention::padded_head_dim;
using shared_attention::PackedTile;

/// Scratch memory of what multiplies queries with key tiles. Rows are (query, head).
template <class E>
struct ProductScratch {
  PackedTile<E> tile;
  float* q;       ///< [rows, padded_depth_words]
  float* scores;  ///< [kStrip, kTile]

  ProductScratch(const Shape& shape, Arena& arena) : tile(shape, arena) {
    q = arena.floats(queries_of_item(shape) * shape.group * padded_depth_words<E>(shape));
    scores = arena.floats(kStrip * kTile);
  }
};

template <class E>
void load_queries(const kernels::ConstView& q, std::int64_t row, std::int64_t count, const Shape& shape,
                  const ProductScratch<E>& scratch) {
  const std::int64_t rows = count * shape.group;
  attention::pack_rows<E>(head_rows<const typename E::Element>(q, row, 0, shape.group), rows, rows, shape, 0,
                          scratch.q);
}

/// body(row, strip) for strips of the rows of some queries of a block, with the products of a packed tile in `scores`.
template <class E, typename Body>
void for_each_product(const KeyTile& tile, const kernels::SharedVisibility& visibility, std::int64_t position,
                      const QueryRange& queries, const Shape& shape, const ProductScratch<E>& scratch,
                      const Body& body) {
  using Isa = typename E::Isa;
  const std::int64_t words = padded_depth_words<E>(shape), end = queries.end * shape.group;
  for (std::int64_t row = queries.begin * shape.group; row < end; row += kStrip) {
    KeyRange seen[kStrip];
    const RangeStrip strip = shared_attention::make_strip(tile, visibility, {position, shape.group, shape.group}, row,
                                                          std::min(kStrip, end - row), 16, Isa::kLanes, seen);
    multiply<E, Into::kReplace>({scratch.q + row * words, words, scratch.tile.columns, kTile, scratch.scores, kTile,
                                 nullptr, attention::depth_words<E>(shape)},
                                strip.rows, strip.vectors * Isa::kLanes);
    body(row, strip);
  }
}

/// Scratch memory of an item of IndexerSelect.
template <class E>
struct SelectScratch {
  ProductScratch<E> products;
  float* sums;  ///< [queries, kTile]: scores of the entries of a tile
  std::int64_t capacity;
  std::int32_t* ranks;    ///< [queries, capacity]
  std::int32_t* entries;  ///< [queries, capacity]
  Selection* selections;  ///< [queries]
  std::size_t bytes;

  SelectScratch(const kernels::IndexerSelect& kernel, std::byte* memory) : SelectScratch(kernel, Arena(memory)) {}
  SelectScratch(const kernels::IndexerSelect& kernel, Arena arena) : products(shape_of(kernel), arena) {
    const std::int64_t queries = queries_of_item(shape_of(kernel));
    capacity = selection_capacity(kernel.selected.size(1), kernel.k.size(0));
    sums = arena.floats(queries * kTile);
    ranks = reinterpret_cast<std::int32_t*>(arena.floats(queries * capacity));
    entries = reinterpret_cast<std::int32_t*>(arena.floats(queries * capacity));
    selections = reinterpret_cast<Selection*>(
        arena.floats(queries * static_cast<std::int64_t>(divide_up(sizeof(Selection), sizeof(float)))));
    bytes = arena.used();
  }
};

/// sums [queries, kTile]: the scores of a packed tile.
template <class E>
void score_tile(const SelectItem& item, const KeyTile& tile, const QueryRange& queries, const Shape& shape,
                const SelectScratch<E>& scratch) {
  using Isa = typename E::Isa;
  const std::int64_t heads = shape.group;
  const auto* const weights =
      static_cast<const float*>(item.kernel->weights.data) + (item.document.first_query + item.first) * heads;
  std::fill_n(scratch.sums + queries.begin * kTile, (queries.end - queries.begin) * kTile, 0.0f);
  for_each_product<E>(tile, {0, item.kernel->ratio, 0}, item.document.position_of(item.first), queries, shape,
                      scratch.products, [&](std::int64_t row, const RangeStrip& strip) {
                        for (std::int64_t i = 0; i < strip.rows; ++i) {
                          const auto weight = Isa::set(weights[row + i]);
                          const float* const products = scratch.products.scores + i * kTile;
                          float* const sums = scratch.sums + (row + i) / heads * kTile;
                          for (std::int64_t at = 0; at < strip.vectors * Isa::kLanes; at += Isa::kLanes) {
                            // A NaN, which maximum() would drop if it came first, stays one.
                            const auto positive = Isa::maximum(Isa::zero(), Isa::load(products + at));
                            Isa::store(sums + at, Isa::multiply_add(weight, positive, Isa::load(sums + at)));
                          }
                        }
                      });
}

template <class E>
void write_selection(const SelectItem& item, std::int64_t query, const Selection& selection) {
  const kernels::IndexerSelect& kernel = *item.kernel;
  const std::int64_t limit = kernel.selected.size(1), row = item.document.first_query + item.first + query;
  auto* const selected = static_cast<std::int32_t*>(kernel.selected.data) + row * limit;
  std::copy_n(selection.entries, selection.count, selected);
  std::fill_n(selected + selection.count, limit - selection.count, -1);
  if (kernel.scores.has_value()) {
    auto* const scores = static_cast<float*>(kernel.scores->data) + row * limit;
    for (std::int64_t i = 0; i < limit; ++i) {
      scores[i] = i < selection.count ? score_of<E>(selection.ranks[i]) : 0.0f;
    }
  }
}

/// Queries that see no more entries than they may choose choose them all.
inline void choose_all(const SelectItem& item) {
  const kernels::IndexerSelect& kernel = *item.kernel;
  const std::int64_t limit = kernel.selected.size(1);
  for (std::int64_t query = item.first; query < item.first + item.count; ++query) {
    const std::int64_t visible = (item.document.position_of(query) + 1) / kernel.ratio;
    auto* const selected =
        static_cast<std::int32_t*>(kernel.selected.data) + (item.document.first_query + query) * limit;
    for (std::int64_t i = 0; i < limit; ++i) {
      selected[i] = i < visible ? static_cast<std::int32_t>(i) : -1;
    }
  }
}

template <class E>
void select_item(const SelectItem& item, std::byte* memory) {
  const kernels::IndexerSelect& kernel = *item.kernel;
  const Shape shape = shape_of(kernel);
  const kernels::SharedVisibility visibility{0, kernel.ratio, 0};
  const SelectScratch<E> scratch(kernel, memory);
  const std::int64_t position = item.document.position_of(item.first), limit = kernel.selected.size(1);
  if (limit == 0 || (!kernel.scores.has_value() && (position + item.count) / kernel.ratio <= limit)) {
    return choose_all(item);
  }
  for (std::int64_t query = 0; query < item.count; ++query) {
    const std::int64_t offset = query * scratch.capacity;
    scratch.selections[query] = {scratch.ranks + offset, scratch.entries + offset, scratch.capacity, limit};
  }
  load_queries<E>(kernel.q, item.document.first_query + item.first, item.count, shape, scratch.products);
  shared_attention::for_each_entry_tile(
      visibility, position, item.count, [&](const KeyTile& tile, const QueryRange& queries) {
        shared_attention::pack_tile<E>(tile, item.document, visibility, kernel.k, kernel.k, shape,
                                       scratch.products.tile);
        score_tile<E>(item, tile, queries, shape, scratch);
        for (std::int64_t query = queries.begin; query < queries.end; ++query) {
          const KeyRange seen = shared_attention::seen_by(tile, visibility, position + query);
          add_scores<E>(scratch.selections[query], scratch.sums + query * kTile, tile.first, seen.end);
        }
      });
  for (std::int64_t query = 0; query < item.count; ++query) {
    keep_largest<E>(scratch.selections[query]);
    write_selection<E>(item, query, scratch.selections[query]);
  }
}

template <class E>
std::size_t select_bytes(const kernels::IndexerSelect& kernel) {
  return SelectScratch<E>(kernel, nullptr).bytes;
}

/// target += the probabilities of a packed tile's entries, for each of some queries.
template <class E>
void add_probabilities(const TargetItem& item, const KeyTile& tile, const QueryRange& queries, const Shape& shape,
                       const ProductScratch<E>& scratch) {
  using Isa = typename E::Isa;
  using Exact = attention::Engine<Isa, float, false>;  // the probabilities are not rounded to bf16
  const kernels::IndexerTarget& kernel = *item.kernel;
  const std::int64_t heads = shape.group, first = item.document.first_query + item.first;
  const auto* const log_sum_exp = static_cast<const float*>(kernel.log_sum_exp.data) + first * heads;
  const auto factor = Isa::set(static_cast<float>(static_cast<double>(kernel.scale) * kLog2E));
  for_each_product<E>(
      tile, {0, kernel.ratio, 0}, item.document.position_of(item.first), queries, shape, scratch,
      [&](std::int64_t row, const RangeStrip& strip) {
        for (std::int64_t i = 0; i < strip.rows; ++i) {
          const auto offset = Isa::set(static_cast<float>(static_cast<double>(log_sum_exp[row + i]) * -kLog2E));
          const std::int64_t query = first + (row + i) / heads;
          float* const target = static_cast<float*>(kernel.target.data) + query * kernel.target.size(1) + tile.first;
          for (std::int64_t at = 0; at < strip.seen[i].end; at += Isa::kLanes) {
            const auto product = Isa::load(scratch.scores + i * kTile + at);
            const auto p = attention::power_of_two<Exact>(Isa::multiply_add(product, factor, offset));
            const std::int64_t lanes = strip.seen[i].end - at;
            Isa::store_first(target + at, Isa::add(Isa::load_first(target + at, lanes), p), lanes);
          }
        }
      });
}

/// Divides a row by its sum, unless that is zero.
template <class E>
void normalise(float* row, std::int64_t width) {
  using Isa = typename E::Isa;
  auto sums = Isa::zero();
  for (std::int64_t at = 0; at < width; at += Isa::kLanes) {
    sums = Isa::add(sums, Isa::load_first(row + at, width - at));
  }
  const float sum = Isa::reduce_add(sums);
  if (sum != 0.0f) {
    const auto inverse = Isa::set(1.0f / sum);
    for (std::int64_t at = 0; at < width; at += Isa::kLanes) {
      Isa::store_first(row + at, Isa::multiply(Isa::load_first(row + at, width - at), inverse), width - at);
    }
  }
}

template <class E>
void target_item(const TargetItem& item, std::byte* memory) {
  const kernels::IndexerTarget& kernel = *item.kernel;
  const Shape shape = shape_of(kernel);
  Arena arena(memory);
  const ProductScratch<E> scratch(shape, arena);
  const kernels::SharedVisibility visibility{0, kernel.ratio, 0};
  const std::int64_t row = item.document.first_query + item.first, width = kernel.target.size(1);
  float* const target = static_cast<float*>(kernel.target.data) + row * width;
  std::fill_n(target, item.count * width, 0.0f);
  load_queries<E>(kernel.q, row, item.count, shape, scratch);
  for_each_chosen_tile(kernel.selected, visibility, row, item.document.position_of(item.first), item.count,
                       *item.bad_list, [&](const KeyTile& tile, const QueryRange& queries) {
                         shared_attention::pack_tile<E>(tile, item.document, visibility, kernel.entries, kernel.entries,
                                                        shape, scratch.tile);
                         add_probabilities<E>(item, tile, queries, shape, scratch);
                       });
  for (std::int64_t query = 0; query < item.count; ++query) {
    normalise<E>(target + query * width, width);
  }
}

template <class E>
std::size_t target_bytes(const kernels::IndexerTarget& kernel) {
  Arena arena(nullptr);
  static_cast<void>(ProductScratch<E>(shape_of(kernel), arena));
  return arena.used();
}

}  // namespace flyover::devices::cpu::indexer
