// The backward pass of the shared attention over the queries of one item. Included between HWY_PUSH_ATTRIBUTES and
// HWY_POP_ATTRIBUTES.
//
// Blocks of queries come in order; a block meets entries, then tokens. A key is summed over, and is what queries are
// multiplied with: its gradient is ds' q + p' dy, summed over the rows (query, head) of a block in order, block after
// block.
#pragma once

namespace flyover::devices::cpu::shared_attention {

/// Keys that are summed over the same rows: those that see one of them.
inline constexpr std::int64_t kKeyGroup = 16;

/// Rows of a query: its heads, made even for pairs by a row that sees nothing.
template <class E>
std::int64_t rows_of_query(const Shape& shape) {
  return round_up(shape.group, E::kDepth);
}

/// Scratch memory of an item. Rows are those of a block of queries.
template <class E>
struct BackwardScratch {
  PackedTile<E> tile;
  std::int64_t words_of_rows;  ///< stride of what is summed over rows
  float* q;                    ///< [rows, padded_depth_words]
  float* dy;                   ///< as q
  float* summed_q;             ///< [rows / kDepth, padded_head_dim]; q itself without pairs
  float* summed_dy;            ///< as summed_q
  float* dq;                   ///< [rows, padded_head_dim] f32
  float* log_sum_exp;          ///< [rows], in units of log2
  float* delta;                ///< [rows], times the scale
  float* sink;                 ///< [rows], in units of log2
  float* p;                    ///< [rows / kDepth + 16, kTile]: transposed by whole vectors
  float* ds;                   ///< as p
  float* p_by_key;             ///< [kTile, words_of_rows]
  float* ds_by_key;            ///< as p_by_key
  float* scores;               ///< [kStrip, kTile]
  float* dp;                   ///< [kStrip, kTile]
  float* ds_by_row;            ///< [kStrip, kTile / kDepth]
  float* query_rows;           ///< [2 rows of a query / kDepth, padded_head_dim]: q, then dy of one query
  float* listed;               ///< [kTile, padded_head_dim]: what one query adds to its chosen entries
  std::size_t bytes;

  BackwardScratch(const Shape& shape, std::byte* memory) : BackwardScratch(shape, Arena(memory)) {}
  BackwardScratch(const Shape& shape, Arena arena) : tile(shape, arena) {
    // A query's transposed words reach a vector beyond its own (see add_to_listed).
    const std::int64_t group = rows_of_query<E>(shape),
                       rows = round_up(queries_of_block(shape) * group, 16 * E::kDepth);
    const std::int64_t columns = padded_head_dim(shape);
    words_of_rows = std::max(rows / E::kDepth, round_up(2 * group / E::kDepth, 16)) + 16;
    const auto block = [&](std::int64_t stride) { return arena.floats(rows * stride); };
    q = block(padded_depth_words<E>(shape));
    dy = block(padded_depth_words<E>(shape));
    summed_q = E::kPairs ? block(columns / E::kDepth) : q;
    summed_dy = E::kPairs ? block(columns / E::kDepth) : dy;
    dq = block(columns);
    log_sum_exp = block(1);
    delta = block(1);
    sink = block(1);
    p = arena.floats((rows / E::kDepth + 16) * kTile);
    ds = arena.floats((rows / E::kDepth + 16) * kTile);
    p_by_key = arena.floats(kTile * words_of_rows);
    ds_by_key = arena.floats(kTile * words_of_rows);
    scores = arena.floats(kStrip * kTile);
    dp = arena.floats(kStrip * kTile);
    ds_by_row = arena.floats(kStrip * kTile / E::kDepth);
    query_rows = arena.floats(2 * group / E::kDepth * columns);
    listed = arena.floats(kTile * columns);
    bytes = arena.used();
  }
};

/// Queries [first, first + count) of the document.
struct QueryBlock {
  std::int64_t first;
  std::int64_t count;
};

/// Packs the rows of a block's queries for both kinds of products.
template <class E>
void pack_block(const kernels::ConstView& view, std::int64_t token, std::int64_t queries, const Shape& shape, float* to,
                float* summed) {
  using T = typename E::Element;
  const std::int64_t group = rows_of_query<E>(shape), words = padded_depth_words<E>(shape);
  for (std::int64_t query = 0; query < queries; ++query) {
    pack_rows<E>(head_rows<const T>(view, token + query, 0, shape.group), shape.group, group, shape, 0,
                 to + query * group * words);
  }
  if constexpr (E::kPairs) {
    const HeadRows<const T> rows{reinterpret_cast<const T*>(to), 2 * words, 0, 1, 0};
    attention::pack_summed_rows<E>(rows, queries * group, queries * group, shape, summed);
  }
}

/// sink_sums -= the block's exp(sink - log_sum_exp) delta; delta is not yet scaled.
template <class E>
void add_to_sink_sums(const QueryBlock& block, const Shape& shape, const BackwardScratch<E>& scratch, double* sums) {
  using Isa = typename E::Isa;
  using Exact = attention::Engine<Isa, float, false>;
  const std::int64_t group = rows_of_query<E>(shape), rows = block.count * group;
  float* const terms = scratch.dq;  // not yet in use
  for (std::int64_t row = 0; row < rows; row += Isa::kLanes) {
    const auto exponent = Isa::subtract(Isa::load(scratch.sink + row), Isa::load(scratch.log_sum_exp + row));
    const auto term = Isa::multiply(attention::power_of_two<Exact>(exponent), Isa::load(scratch.delta + row));
    Isa::store_first(terms + row, term, rows - row);
  }
  for (std::int64_t row = 0; row < rows; row += group) {
    for (std::int64_t head = 0; head < shape.group; ++head) {
      sums[head] -= static_cast<double>(terms[row + head]);
    }
  }
}

template <class E>
void load_block(const BackwardItem& item, const QueryBlock& block, const Shape& shape,
                const BackwardScratch<E>& scratch) {
  using T = const typename E::Element;
  const kernels::SharedAttentionBackward& kernel = *item.kernel;
  const std::int64_t token = item.document.first_query + block.first, group = rows_of_query<E>(shape);
  pack_block<E>(kernel.q, token, block.count, shape, scratch.q, scratch.summed_q);
  pack_block<E>(kernel.dy, token, block.count, shape, scratch.dy, scratch.summed_dy);
  const auto* log_sum_exp = static_cast<const float*>(kernel.log_sum_exp.data) + token * shape.group;
  auto dy = head_rows<T>(kernel.dy, token, 0, shape.group), y = head_rows<T>(kernel.y, token, 0, shape.group);
  for (std::int64_t row = 0; row < block.count * group; ++row) {
    const bool exists = row % group < shape.group;
    scratch.log_sum_exp[row] = exists ? static_cast<float>(static_cast<double>(*log_sum_exp++) * kLog2E) : 0.0f;
    scratch.delta[row] = exists ? attention::delta_of<E>(dy.data, y.data, shape.head_dim) : 0.0f;
    if (exists) {
      dy.next();
      y.next();
    }
  }
  if (kernel.sink.has_value()) {
    add_to_sink_sums<E>(block, shape, scratch, item.sink_sums);
  }
  for (std::int64_t row = 0; row < block.count * group; ++row) {
    scratch.delta[row] *= kernel.scale;
  }
  std::fill_n(scratch.dq, block.count * group * padded_head_dim(shape), 0.0f);
}

/// p and ds of the queries that see a packed tile, and what it adds to their dq.
template <class E>
void rows_meet_tile(const BackwardItem& item, const QueryBlock& block, const KeyTile& tile, const QueryRange& queries,
                    const Shape& shape, const BackwardScratch<E>& scratch) {
  using Isa = typename E::Isa;
  const kernels::SharedAttentionBackward& kernel = *item.kernel;
  const float factor = static_cast<float>(static_cast<double>(kernel.scale) * kLog2E);
  const std::int64_t depth = attention::depth_words<E>(shape), words = padded_depth_words<E>(shape);
  const std::int64_t columns = padded_head_dim(shape), group = rows_of_query<E>(shape);
  const BlockRows rows{block.first, shape.group, group};
  for (std::int64_t row = queries.begin * group; row < queries.end * group; row += kStrip) {
    KeyRange seen[kStrip];
    const RangeStrip strip = make_strip(tile, kernel.visibility, rows, row, std::min(kStrip, queries.end * group - row),
                                        kKeyGroup, Isa::kLanes, seen);
    const std::int64_t first = strip.first_vector * Isa::kLanes, computed = strip.vectors * Isa::kLanes - first;
    const auto multiply_keys = [&](const float* a, float* c) {
      multiply<E, Into::kReplace>(
          {a + row * words, words, scratch.tile.columns + first, kTile, c + first, kTile, nullptr, depth}, strip.rows,
          computed);
    };
    multiply_keys(scratch.q, scratch.scores);
    multiply_keys(scratch.dy, scratch.dp);
    float* const ds_of_strip = scratch.ds + row / E::kDepth * kTile;
    attention::backward_softmax<E>(strip, factor, kernel.scale, scratch.log_sum_exp + row, scratch.delta + row,
                                   scratch.scores, scratch.dp,
                                   {scratch.p + row / E::kDepth * kTile, ds_of_strip, scratch.ds_by_row});
    const std::int64_t word = strip.hull.begin / E::kDepth;
    const float* const ds = (E::kPairs ? scratch.ds_by_row : ds_of_strip) + word;
    multiply<E, Into::kAdd>({ds, kTile / E::kDepth, scratch.tile.summed + word * columns, columns,
                             scratch.dq + row * columns, columns, nullptr, divide_up(strip.hull.end, E::kDepth) - word},
                            strip.rows, columns);
  }
}

/// sums [kTile, padded_head_dim] += what the rows of the queries that see a tile add to its keys.
template <class E>
void add_to_key_sums(const BackwardItem& item, const QueryBlock& block, const KeyTile& tile, const QueryRange& queries,
                     const Shape& shape, const BackwardScratch<E>& scratch, float* sums) {
  using Isa = typename E::Isa;
  const std::int64_t columns = padded_head_dim(shape), words = rows_of_query<E>(shape) / E::kDepth;
  const std::int64_t from = queries.begin * words / Isa::kLanes * Isa::kLanes;
  const std::int64_t transposed = round_up(queries.end * words - from, Isa::kLanes), stride = scratch.words_of_rows;
  transpose_words<E>(scratch.ds + from * kTile, transposed, kTile, kTile, scratch.ds_by_key + from, stride);
  transpose_words<E>(scratch.p + from * kTile, transposed, kTile, kTile, scratch.p_by_key + from, stride);
  for (std::int64_t key = tile.seen.begin / kKeyGroup * kKeyGroup; key < tile.seen.end; key += kKeyGroup) {
    const QueryRange seeing =
        seeing_queries(tile, item.kernel->visibility, block.first, queries, {key, key + kKeyGroup});
    const std::int64_t first = seeing.begin * words, depth = (seeing.end - seeing.begin) * words;
    const auto add = [&](const float* a, const float* b) {
      multiply<E, Into::kAdd>({a + key * stride + first, stride, b + first * columns, columns, sums + key * columns,
                               columns, nullptr, depth},
                              kKeyGroup, columns);
    };
    add(scratch.ds_by_key, scratch.summed_q);
    add(scratch.p_by_key, scratch.summed_dy);
  }
}

/// The same for the chosen entries of one query, which lie anywhere.
template <class E>
void add_to_listed(const KeyTile& tile, std::int64_t query, const Shape& shape, const BackwardScratch<E>& scratch,
                   float* entry_sums) {
  using Isa = typename E::Isa;
  const std::int64_t columns = padded_head_dim(shape), words = rows_of_query<E>(shape) / E::kDepth;
  const std::int64_t whole = round_up(words, Isa::kLanes), stride = scratch.words_of_rows;
  // p after ds, over what ds left behind its own words.
  transpose_words<E>(scratch.ds + query * words * kTile, whole, kTile, kTile, scratch.ds_by_key, stride);
  transpose_words<E>(scratch.p + query * words * kTile, whole, kTile, kTile, scratch.ds_by_key + words, stride);
  multiply<E, Into::kReplace>(
      {scratch.ds_by_key, stride, scratch.query_rows, columns, scratch.listed, columns, nullptr, 2 * words},
      tile.seen.end, columns);
  add_listed_rows<E>(tile, columns, scratch.listed, entry_sums);
}

/// The chosen entries of a block's queries, which share no tile.
template <class E>
void meet_lists(const BackwardItem& item, const QueryBlock& block, const Shape& shape,
                const BackwardScratch<E>& scratch) {
  const kernels::SharedAttentionBackward& kernel = *item.kernel;
  const std::int64_t limit = kernel.selected->size(1), words = rows_of_query<E>(shape) / E::kDepth;
  const std::int64_t floats = words * padded_head_dim(shape);
  for (std::int64_t query = 0; query < block.count; ++query) {
    const std::int64_t row = item.document.first_query + block.first + query;
    const auto* const entries = static_cast<const std::int32_t*>(kernel.selected->data) + row * limit;
    const EntryList list = read_list(entries, limit, (block.first + query + 1) / kernel.visibility.ratio);
    if (!list.rising) {
      *item.bad_list = true;
    }
    std::copy_n(scratch.summed_q + query * floats, floats, scratch.query_rows);
    std::copy_n(scratch.summed_dy + query * floats, floats, scratch.query_rows + floats);
    for_each_list_tile(entries, list.count, [&](const KeyTile& tile) {
      pack_tile<E>(tile, item.document, kernel.visibility, kernel.keys, kernel.entries, shape, scratch.tile);
      pack_values<E>(shape, scratch.tile);
      rows_meet_tile<E>(item, block, tile, {query, query + 1}, shape, scratch);
      add_to_listed<E>(tile, query, shape, scratch, item.entry_sums);
    });
  }
}

template <class E>
void write_dq(const BackwardItem& item, const QueryBlock& block, const Shape& shape,
              const BackwardScratch<E>& scratch) {
  using Isa = typename E::Isa;
  const std::int64_t group = rows_of_query<E>(shape);
  auto dq = head_rows<typename E::Element>(item.kernel->dq, item.document.first_query + block.first, 0, shape.group);
  for (std::int64_t row = 0; row < block.count * group; ++row) {
    if (row % group < shape.group) {
      const float* const sums = scratch.dq + row * padded_head_dim(shape);
      for (std::int64_t column = 0; column < shape.head_dim; column += Isa::kLanes) {
        Isa::store_first(dq.data + column, Isa::load(sums + column), shape.head_dim - column);
      }
      dq.next();
    }
  }
}

/// Writes the gradients of a document's keys from the sums of its only item.
template <class E>
void finish_document(const BackwardItem& item) {
  const kernels::SharedAttentionBackward& kernel = *item.kernel;
  finish_rows<E>({&kernel.dkeys, item.document.first_key, item.document.keys, &item.token_sums, 1});
  if (kernel.dentries.has_value()) {
    finish_rows<E>({&*kernel.dentries, item.document.first_entry, item.document.keys / kernel.visibility.ratio,
                    &item.entry_sums, 1});
  }
}

template <class E>
void backward_item(const BackwardItem& item, std::byte* memory) {
  const kernels::SharedAttentionBackward& kernel = *item.kernel;
  const kernels::SharedVisibility& visibility = kernel.visibility;
  const Shape shape{kernel.q.size(2), kernel.q.size(1)};
  const BackwardScratch<E> scratch(shape, memory);
  const std::int64_t columns = padded_head_dim(shape), end = item.first + item.count;
  const KeyRange tokens = token_sum_range(visibility, item.first, item.count);
  std::fill_n(item.token_sums, (tokens.end - tokens.begin) * columns, 0.0f);
  std::fill_n(item.entry_sums, entry_sum_rows(visibility.ratio, end) * columns, 0.0f);
  std::fill_n(item.sink_sums, shape.group, 0.0);
  const std::int64_t group = rows_of_query<E>(shape);
  for (std::int64_t head = 0; kernel.sink.has_value() && head < queries_of_block(shape) * group; ++head) {
    const bool exists = head % group < shape.group;
    const double sink = exists ? static_cast<double>(static_cast<const float*>(kernel.sink->data)[head % group]) : 0.0;
    scratch.sink[head] = static_cast<float>(sink * kLog2E);
  }
  for (std::int64_t first = item.first; first < end; first += queries_of_block(shape)) {
    const QueryBlock block{first, std::min(queries_of_block(shape), end - first)};
    load_block<E>(item, block, shape, scratch);
    const auto meet = [&](const KeyTile& tile, const QueryRange& queries, float* sums) {
      pack_tile<E>(tile, item.document, visibility, kernel.keys, kernel.entries, shape, scratch.tile);
      pack_values<E>(shape, scratch.tile);
      rows_meet_tile<E>(item, block, tile, queries, shape, scratch);
      add_to_key_sums<E>(item, block, tile, queries, shape, scratch, sums);
    };
    if (kernel.selected.has_value() &&
        !all_chosen(*kernel.selected, visibility.ratio, item.document.first_query + first, first, block.count)) {
      meet_lists<E>(item, block, shape, scratch);
    } else if (visibility.ratio > 0) {
      for_each_entry_tile(visibility, first, block.count, [&](const KeyTile& tile, const QueryRange& queries) {
        meet(tile, queries, item.entry_sums + tile.first * columns);
      });
    }
    for_each_token_tile(visibility, first, block.count, [&](const KeyTile& tile, const QueryRange& queries) {
      meet(tile, queries, item.token_sums + (tile.first - tokens.begin) * columns);
    });
    write_dq<E>(item, block, shape, scratch);
  }
  if (item.finishes) {
    finish_document<E>(item);
  }
}

template <class E>
std::size_t backward_bytes(const Shape& shape) {
  return BackwardScratch<E>(shape, nullptr).bytes;
}

}  // namespace flyover::devices::cpu::shared_attention
