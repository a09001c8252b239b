// The backward pass of attention over the queries of one item (Dao, "FlashAttention-2", 2023, algorithm 2, with the
// queries in the outer loop: with grouped heads dk and dv are smaller than dq). Included between HWY_PUSH_ATTRIBUTES
// and HWY_POP_ATTRIBUTES.
//
// Blocks of queries come in order; a block meets the key tiles in order. dk and dv of a tile are summed over the rows
// (query, head of the group) of a block in order, block after block, as matrices [head_dim, keys].
#pragma once

namespace flyover::devices::cpu::attention {

/// Keys in which the tile on the diagonal is cut for the products over queries.
inline constexpr std::int64_t kDiagonalKeys = 32;

/// Scratch memory of an item. Rows are (query, head of the group) of a block of queries.
template <class E>
struct BackwardScratch {
  std::int64_t rows;    ///< most rows of a block, a whole number of vectors of pairs
  float* q;             ///< [rows, padded_depth_words]
  float* dy;            ///< as q, of the values' width
  float* q_by_column;   ///< [padded_head_dim, rows / kDepth]
  float* dy_by_column;  ///< as q_by_column, of the values' width
  float* summed_rows;   ///< [rows / kDepth, the wider padded_head_dim]
  float* dq;            ///< [rows, padded_head_dim] f32
  float* log_sum_exp;   ///< [rows], in units of log2
  float* delta;         ///< [rows]
  float* p;             ///< [rows / kDepth, kTile]
  float* ds;            ///< as p
  float* k_rows;        ///< [kTile, the wider padded_depth_words]
  float* k;             ///< [padded_depth_words, kTile]
  float* v;             ///< as k, of the values' width
  float* summed_k;      ///< [kTile / kDepth, padded_head_dim]
  float* scores;        ///< [kStrip, kTile]
  float* dp;            ///< [kStrip, kTile]
  float* ds_by_row;     ///< [kStrip, kTile / kDepth]
  float* key_sums;      ///< of an undivided document: [tiles, key_sums_floats]
  float* finished;      ///< [kTile, the wider padded_head_dim]
  std::size_t bytes;

  BackwardScratch(const Shapes& shapes, std::byte* memory) {
    Arena arena(memory);
    rows = round_up(backward_queries(shapes) * shapes.keys.group, 16 * E::kDepth);
    const std::int64_t words = padded_depth_words<E>(shapes.keys), columns = padded_head_dim(shapes.keys);
    const std::int64_t value_words = padded_depth_words<E>(shapes.values),
                       value_columns = padded_head_dim(shapes.values);
    q = arena.floats(rows * words);
    dy = arena.floats(rows * value_words);
    q_by_column = arena.floats(columns * (rows / E::kDepth));
    dy_by_column = arena.floats(value_columns * (rows / E::kDepth));
    summed_rows = arena.floats(rows / E::kDepth * std::max(columns, value_columns));
    dq = arena.floats(rows * columns);
    log_sum_exp = arena.floats(rows);
    delta = arena.floats(rows);
    p = arena.floats(rows / E::kDepth * kTile);
    ds = arena.floats(rows / E::kDepth * kTile);
    k_rows = arena.floats(kTile * std::max(words, value_words));
    k = arena.floats(kTile * words);
    v = arena.floats(kTile * value_words);
    summed_k = arena.floats(kTile / E::kDepth * columns);
    scores = arena.floats(kStrip * kTile);
    dp = arena.floats(kStrip * kTile);
    ds_by_row = arena.floats(kStrip * (kTile / E::kDepth));
    key_sums = arena.floats(kUndividedLength / kTile * key_sums_floats(shapes));
    finished = arena.floats(kTile * std::max(columns, value_columns));
    bytes = arena.used();
  }
};

/// A block of queries of an item.
struct QueryBlock {
  std::int64_t first;  ///< in the document
  std::int64_t rows;   ///< (query, head) pairs that exist
  std::int64_t padded_rows;
};

template <class E>
void load_query_block(const BackwardItem& item, const QueryBlock& block, const Shapes& shapes,
                      const BackwardScratch<E>& scratch) {
  using T = const typename E::Element;
  const kernels::AttentionBackward& kernel = *item.kernel;
  const std::int64_t token = item.document.first_query + block.first, group = shapes.keys.group;
  const std::int64_t head = item.kv_head * group, summed_rows = round_up(block.rows, 16 * E::kDepth);
  const auto q = head_rows<T>(kernel.q, token, head, group);
  auto dy = head_rows<T>(kernel.dy, token, head, group);
  auto y = head_rows<T>(kernel.y, token, head, group);
  pack_rows<E>(q, block.rows, block.padded_rows, shapes.keys, sign_flip<E>(kernel.scale), scratch.q);
  pack_rows<E>(dy, block.rows, block.padded_rows, shapes.values, 0, scratch.dy);
  const auto by_column = [&](const HeadRows<T>& rows, const Shape& shape, float* to) {
    const std::int64_t columns = padded_head_dim(shape);
    pack_summed_rows<E>(rows, block.rows, summed_rows, shape, scratch.summed_rows);
    transpose_words<E>(scratch.summed_rows, summed_rows / E::kDepth, columns, columns, to, scratch.rows / E::kDepth);
  };
  by_column(q, shapes.keys, scratch.q_by_column);
  by_column(dy, shapes.values, scratch.dy_by_column);
  const auto* log_sum_exp = static_cast<const float*>(kernel.log_sum_exp.data) + token * kernel.q.size(1) + head;
  for (std::int64_t row = 0; row < block.rows; ++row, dy.next(), y.next()) {
    scratch.log_sum_exp[row] = static_cast<float>(static_cast<double>(log_sum_exp[y.head]) * kLog2E);
    log_sum_exp += y.head + 1 == group ? kernel.q.size(1) : 0;
    scratch.delta[row] = delta_of<E>(dy.data, y.data, shapes.values.head_dim);
  }
  for (std::int64_t row = block.rows; row < block.padded_rows; ++row) {
    scratch.log_sum_exp[row] = std::numeric_limits<float>::infinity();  // probabilities of zero
    scratch.delta[row] = 0;
  }
}

template <class E>
void load_key_tile(const BackwardItem& item, std::int64_t first_key, const Shapes& shapes,
                   const BackwardScratch<E>& scratch) {
  using T = const typename E::Element;
  const std::int64_t keys = std::min(kTile, item.document.keys - first_key);
  const auto k = head_rows<T>(item.kernel->k, item.document.first_key + first_key, item.kv_head, 1);
  const auto v = head_rows<T>(item.kernel->v, item.document.first_key + first_key, item.kv_head, 1);
  const auto transposed = [&](const HeadRows<T>& rows, const Shape& shape, float* to) {
    const std::int64_t words = padded_depth_words<E>(shape);
    pack_rows<E>(rows, keys, kTile, shape, 0, scratch.k_rows);
    transpose_words<E>(scratch.k_rows, kTile, words, words, to, kTile);
  };
  transposed(k, shapes.keys, scratch.k);
  transposed(v, shapes.values, scratch.v);
  pack_summed_rows<E>(k, keys, kTile, shapes.keys, scratch.summed_k);
}

/// p and ds of the rows from `first_row` on, and what the tile adds to their dq.
template <class E>
void strips_of_block(const BackwardItem& item, const QueryBlock& block, std::int64_t first_key, std::int64_t first_row,
                     const Shapes& shapes, const BackwardScratch<E>& scratch) {
  using Isa = typename E::Isa;
  const float factor = score_factor(item.kernel->scale);
  const std::int64_t depth = depth_words<E>(shapes.keys), words = padded_depth_words<E>(shapes.keys);
  const std::int64_t value_depth = depth_words<E>(shapes.values), value_words = padded_depth_words<E>(shapes.values);
  const std::int64_t columns = padded_head_dim(shapes.keys);
  const std::int64_t strips = divide_up(block.padded_rows - first_row, kStrip), next_key = first_key + kTile;
  const std::int64_t next_keys = std::min(kTile, item.document.keys - next_key);
  Prefetch next_k = prefetch_rows(item.kernel->k, item.document.first_key + next_key, item.kv_head, next_keys, strips);
  Prefetch next_v = prefetch_rows(item.kernel->v, item.document.first_key + next_key, item.kv_head, next_keys, strips);
  for (std::int64_t row = first_row; row < block.padded_rows; row += kStrip) {
    next_k.next();
    next_v.next();
    std::int64_t visible[kStrip];
    Strip strip{std::min(kStrip, block.padded_rows - row), 0, visible, false};
    const std::int64_t most = see_keys(strip, block.first + 1 - first_key, row, shapes.keys.group);
    strip.vectors = round_up(most, kDiagonalKeys) / Isa::kLanes;
    multiply<E, Into::kReplace>(
        {scratch.q + row * words, words, scratch.k, kTile, scratch.scores, kTile, nullptr, depth}, strip.rows,
        strip.vectors * Isa::kLanes);
    multiply<E, Into::kReplace>(
        {scratch.dy + row * value_words, value_words, scratch.v, kTile, scratch.dp, kTile, nullptr, value_depth},
        strip.rows, strip.vectors * Isa::kLanes);
    float* const ds_by_key = scratch.ds + row / E::kDepth * kTile;
    const float* const ds_by_row = E::kPairs ? scratch.ds_by_row : ds_by_key;
    backward_softmax<E>(strip, factor, 1.0f, scratch.log_sum_exp + row, scratch.delta + row, scratch.scores, scratch.dp,
                        {scratch.p + row / E::kDepth * kTile, ds_by_key, scratch.ds_by_row});
    const Operands product{ds_by_row, kTile / E::kDepth, scratch.summed_k,          columns, scratch.dq + row * columns,
                           columns,   nullptr,           divide_up(most, E::kDepth)};
    if (first_key == 0) {
      multiply<E, Into::kReplace>(product, strip.rows, columns);
    } else {
      multiply<E, Into::kAdd>(product, strip.rows, columns);
    }
  }
}

/// dk and dv of a tile += what the block's rows add, or = where they are fresh: [head_dim, keys] = q' ds and dy' p.
template <class E>
void add_to_key_sums(const QueryBlock& block, std::int64_t first_key, bool fresh, const Shapes& shapes,
                     const BackwardScratch<E>& scratch, float* key_sums) {
  const std::int64_t stride = scratch.rows / E::kDepth;
  const auto product = [&](const float* a, const float* b, float* c, const Shape& shape, std::int64_t columns,
                           std::int64_t depth) {
    const Operands operands{a, stride, b, kTile, c, kTile, nullptr, depth};
    if (fresh) {
      multiply<E, Into::kReplace>(operands, shape.head_dim, columns);
    } else {
      multiply<E, Into::kAdd>(operands, shape.head_dim, columns);
    }
  };
  float* const value_sums = key_sums + padded_head_dim(shapes.keys) * kTile;
  const bool diagonal = first_key + kTile > block.first + 1;
  const std::int64_t step = diagonal ? kDiagonalKeys : kTile;
  for (std::int64_t key = 0; key < kTile; key += step) {
    // The first row that sees one of these keys starts a query, hence a pair. Where none does, fresh sums become zero.
    const std::int64_t first_row =
        std::min(block.padded_rows, std::max<std::int64_t>(0, first_key + key - block.first) * shapes.keys.group);
    const std::int64_t from = first_row / E::kDepth, depth = block.padded_rows / E::kDepth - from;
    product(scratch.q_by_column + from, scratch.ds + from * kTile + key, key_sums + key, shapes.keys, step, depth);
    product(scratch.dy_by_column + from, scratch.p + from * kTile + key, value_sums + key, shapes.values, step, depth);
  }
}

template <class E>
void write_dq(const BackwardItem& item, const QueryBlock& block, const Shape& shape,
              const BackwardScratch<E>& scratch) {
  using Isa = typename E::Isa;
  auto dq = head_rows<typename E::Element>(item.kernel->dq, item.document.first_query + block.first,
                                           item.kv_head * shape.group, shape.group);
  const auto scale = Isa::set(item.kernel->scale);
  for (std::int64_t row = 0; row < block.rows; ++row, dq.next()) {
    const float* const sums = scratch.dq + row * padded_head_dim(shape);
    for (std::int64_t column = 0; column < shape.head_dim; column += Isa::kLanes) {
      Isa::store_first(dq.data + column, Isa::multiply(Isa::load(sums + column), scale), shape.head_dim - column);
    }
  }
}

/// Adds up the sums of a tile in order, and writes dk and dv.
template <class E>
void finish_key_tile(const KeySums& keys, float* finished) {
  using Isa = typename E::Isa;
  const Shapes shapes = shapes_of(*keys.kernel);
  const std::int64_t token = keys.document.first_key + keys.tile * kTile;
  const std::int64_t count = std::min(kTile, keys.document.keys - keys.tile * kTile);
  for (const bool is_dk : {true, false}) {
    const Shape& shape = is_dk ? shapes.keys : shapes.values;
    const std::int64_t columns = padded_head_dim(shape), offset = is_dk ? 0 : padded_head_dim(shapes.keys) * kTile;
    float* const sums = keys.sums[0] + offset;
    auto rows = head_rows<typename E::Element>(is_dk ? keys.kernel->dk : keys.kernel->dv, token, keys.kv_head, 1);
    const auto scale = Isa::set(is_dk ? keys.kernel->scale : 1.0f);
    for (int i = 1; i < keys.count; ++i) {
      for (std::int64_t at = 0; at < shape.head_dim * kTile; at += Isa::kLanes) {
        Isa::store(sums + at, Isa::add(Isa::load(sums + at), Isa::load(keys.sums[i] + offset + at)));
      }
    }
    transpose_words<E>(sums, columns, kTile, kTile, finished, columns);
    for (std::int64_t key = 0; key < count; ++key, rows.next()) {
      for (std::int64_t column = 0; column < shape.head_dim; column += Isa::kLanes) {
        Isa::store_first(rows.data + column, Isa::multiply(Isa::load(finished + key * columns + column), scale),
                         shape.head_dim - column);
      }
    }
  }
}

template <class E>
void finish_keys(const KeySums& keys, std::byte* memory) {
  finish_key_tile<E>(keys, BackwardScratch<E>(shapes_of(*keys.kernel), memory).finished);
}

template <class E>
void backward_item(const BackwardItem& item, std::byte* memory) {
  const Shapes shapes = shapes_of(*item.kernel);
  const BackwardScratch<E> scratch(shapes, memory);
  float* const key_sums = item.key_sums != nullptr ? item.key_sums : scratch.key_sums;
  const std::int64_t end = item.first + item.count, tile_floats = key_sums_floats(shapes);
  std::int64_t fresh_from = 0;  // tiles from here on have no sums yet
  for (std::int64_t first = item.first; first < end; first += backward_queries(shapes)) {
    const std::int64_t queries = std::min(backward_queries(shapes), end - first), rows = queries * shapes.keys.group;
    const QueryBlock block{first, rows, round_up(rows, E::kDepth)};
    load_query_block<E>(item, block, shapes, scratch);
    std::int64_t tile = 0;
    for (std::int64_t first_key = 0; first_key < first + queries; first_key += kTile, ++tile) {
      load_key_tile<E>(item, first_key, shapes, scratch);
      const std::int64_t first_row = std::max<std::int64_t>(0, first_key - first) * shapes.keys.group;
      strips_of_block<E>(item, block, first_key, first_row, shapes, scratch);
      add_to_key_sums<E>(block, first_key, tile >= fresh_from, shapes, scratch, key_sums + tile * tile_floats);
    }
    fresh_from = std::max(fresh_from, tile);
    write_dq<E>(item, block, shapes.keys, scratch);
  }
  if (item.key_sums == nullptr) {
    for (std::int64_t tile = 0; tile < divide_up(item.document.keys, kTile); ++tile) {
      float* const sums = key_sums + tile * tile_floats;
      finish_key_tile<E>({item.kernel, item.document, item.kv_head, tile, &sums, 1}, scratch.finished);
    }
  }
}

template <class E>
std::size_t backward_bytes(const Shapes& shapes) {
  return BackwardScratch<E>(shapes, nullptr).bytes;
}

}  // namespace flyover::devices::cpu::attention
