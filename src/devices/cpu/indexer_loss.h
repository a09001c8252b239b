// The loss of the indexer and its gradients over the queries of one item, in f32 whatever the inputs. Included between
// HWY_PUSH_ATTRIBUTES and HWY_POP_ATTRIBUTES.
#pragma once

namespace flyover::devices::cpu::indexer {

/// Scratch memory of an item; E is without pairs. Rows are (query, head) of a block of queries.
template <class E>
struct LossScratch {
  ProductScratch<E> products;
  std::int64_t transposed_stride;
  float* log_sum_exp;       ///< [queries], of the scores
  float* factor;            ///< [queries]: coefficient * token weight; 0 where there is no target
  float* dscores;           ///< [queries, kTile]
  float* dproducts;         ///< [rows + lanes, kTile]
  float* dproducts_by_key;  ///< [kTile, transposed_stride]
  float* dweights;          ///< [rows]
  float* dq;                ///< [rows, padded_head_dim]
  float* listed;            ///< [kTile, padded_head_dim]: what one query adds to its chosen entries
  std::size_t bytes;

  LossScratch(const Shape& shape, std::byte* memory) : LossScratch(shape, Arena(memory)) {}
  LossScratch(const Shape& shape, Arena arena) : products(shape, arena) {
    const std::int64_t queries = queries_of_item(shape), rows = round_up(queries * shape.group, 16) + 16;
    transposed_stride = rows;
    log_sum_exp = arena.floats(queries);
    factor = arena.floats(queries);
    dscores = arena.floats(queries * kTile);
    dproducts = arena.floats(rows * kTile);
    dproducts_by_key = arena.floats(rows * kTile);
    dweights = arena.floats(rows);
    dq = arena.floats(rows * padded_head_dim(shape));
    listed = arena.floats(kTile * padded_head_dim(shape));
    bytes = arena.used();
  }
};

/// The log of the sum of exponentials of a row.
template <class E>
float log_sum_exp_of(const float* row, std::int64_t width) {
  using Isa = typename E::Isa;
  const float maximum = *std::max_element(row, row + width);
  const auto factor = Isa::set(static_cast<float>(kLog2E)), offset = Isa::set(maximum);
  auto sums = Isa::zero();
  for (std::int64_t at = 0; at < width; at += Isa::kLanes) {
    const auto exponent = Isa::multiply(Isa::subtract(Isa::load_first(row + at, width - at), offset), factor);
    sums = Isa::add(sums, Isa::first_lanes(width - at, attention::power_of_two<E>(exponent), Isa::zero()));
  }
  return maximum + std::log(Isa::reduce_add(sums));
}

/// log2 of positive numbers, to 2e-7: log2(1 + f) = f q(f) with q exact at the nine Chebyshev nodes of [0, 1].
template <class E>
[[gnu::always_inline]] inline typename E::Isa::Float log2_of(typename E::Isa::Float x) {
  using Isa = typename E::Isa;
  constexpr float kCoefficients[] = {-0x1.579d10p-5f, 0x1.ca106ep-4f, -0x1.91e5bap-3f, 0x1.19d396p-2f,
                                     -0x1.6ee5f4p-2f, 0x1.ec3716p-2f, -0x1.71536ap-1f, 0x1.715476p+0f};
  const auto f = Isa::subtract(Isa::mantissa(x), Isa::set(1.0f));
  auto q = Isa::set(0x1.e4aa42p-8f);
#pragma GCC unroll 8
  for (const float coefficient : kCoefficients) {
    q = Isa::multiply_add(q, f, Isa::set(coefficient));
  }
  return Isa::multiply_add(q, f, Isa::exponent(x));
}

/// The divergence of a row's targets and the softmax of its scores. Targets of zero add nothing.
template <class E>
float divergence_of(const float* target, const float* scores, float log_sum_exp, std::int64_t width) {
  using Isa = typename E::Isa;
  const auto ln_2 = Isa::set(static_cast<float>(1 / kLog2E)), offset = Isa::set(log_sum_exp);
  auto sums = Isa::zero();
  for (std::int64_t at = 0; at < width; at += Isa::kLanes) {
    const auto t = Isa::load_first(target + at, width - at);
    const auto log_p = Isa::subtract(Isa::load_first(scores + at, width - at), offset);
    const auto difference = Isa::subtract(Isa::multiply(log2_of<E>(t), ln_2), log_p);
    sums = Isa::add(sums, Isa::where_positive(t, Isa::multiply(t, difference)));
  }
  return Isa::reduce_add(sums);
}

template <class E>
float sum_of(const float* row, std::int64_t width) {
  using Isa = typename E::Isa;
  auto sums = Isa::zero();
  for (std::int64_t at = 0; at < width; at += Isa::kLanes) {
    sums = Isa::add(sums, Isa::load_first(row + at, width - at));
  }
  return Isa::reduce_add(sums);
}

/// log_sum_exp and factor of a block's queries, and their losses.
template <class E>
double load_losses(const LossItem& item, std::int64_t first, std::int64_t count, const LossScratch<E>& scratch) {
  const kernels::IndexerLoss& kernel = *item.kernel;
  const std::int64_t limit = kernel.selected.size(1);
  double loss = 0;
  for (std::int64_t query = 0; query < count; ++query) {
    const std::int64_t row = item.document.first_query + first + query;
    const std::int32_t* const list = list_of(kernel.selected, row);
    const std::int64_t chosen = std::find_if(list, list + limit, [](std::int32_t entry) { return entry < 0; }) - list;
    const float* const target = static_cast<const float*>(kernel.target.data) + row * limit;
    const float* const scores = static_cast<const float*>(kernel.scores.data) + row * limit;
    scratch.factor[query] = 0;
    scratch.log_sum_exp[query] = 0;
    if (sum_of<E>(target, chosen) != 0.0f) {
      scratch.factor[query] = kernel.coefficient * static_cast<const float*>(kernel.token_weights.data)[row];
      scratch.log_sum_exp[query] = log_sum_exp_of<E>(scores, chosen);
      loss += static_cast<double>(scratch.factor[query]) *
              static_cast<double>(divergence_of<E>(target, scores, scratch.log_sum_exp[query], chosen));
    }
  }
  return loss;
}

/// dscores of a tile's entries for the queries that see it: zeros for entries that they do not see.
template <class E>
void load_dscores(const LossItem& item, std::int64_t first, const KeyTile& tile, const QueryRange& queries,
                  const LossScratch<E>& scratch) {
  using Isa = typename E::Isa;
  const kernels::IndexerLoss& kernel = *item.kernel;
  const auto log2_e = Isa::set(static_cast<float>(kLog2E));
  for (std::int64_t query = queries.begin; query < queries.end; ++query) {
    const std::int64_t at = (item.document.first_query + first + query) * kernel.selected.size(1) + tile.first;
    const float* const scores = static_cast<const float*>(kernel.scores.data) + at;
    const float* const target = static_cast<const float*>(kernel.target.data) + at;
    const std::int64_t seen =
        shared_attention::seen_by(tile, {0, kernel.ratio, 0}, item.document.position_of(first + query)).end;
    const auto offset = Isa::set(scratch.log_sum_exp[query]), factor = Isa::set(scratch.factor[query]);
    for (std::int64_t key = 0; key < kTile; key += Isa::kLanes) {
      auto dscore = Isa::zero();
      if (key < seen && scratch.factor[query] != 0.0f) {
        const auto exponent = Isa::subtract(Isa::load_first(scores + key, seen - key), offset);
        const auto p = attention::power_of_two<E>(Isa::multiply(exponent, log2_e));
        dscore = Isa::multiply(factor, Isa::subtract(p, Isa::load_first(target + key, seen - key)));
        dscore = Isa::first_lanes(seen - key, dscore, Isa::zero());
      }
      Isa::store(scratch.dscores + query * kTile + key, dscore);
    }
  }
}

/// dproducts of the queries that see a packed tile, and what it adds to their dweights and dq.
template <class E>
void rows_meet_tile(const LossItem& item, std::int64_t first, const KeyTile& tile, const QueryRange& queries,
                    const Shape& shape, const LossScratch<E>& scratch) {
  using Isa = typename E::Isa;
  const std::int64_t heads = shape.group, columns = padded_head_dim(shape);
  const auto* const weights =
      static_cast<const float*>(item.kernel->weights.data) + (item.document.first_query + first) * heads;
  for_each_product<E>(tile, {0, item.kernel->ratio, 0}, item.document.position_of(first), queries, shape,
                      scratch.products, [&](std::int64_t row, const RangeStrip& strip) {
                        for (std::int64_t i = 0; i < strip.rows; ++i) {
                          const float* const products = scratch.products.scores + i * kTile;
                          const float* const dscores = scratch.dscores + (row + i) / heads * kTile;
                          float* const dproducts = scratch.dproducts + (row + i) * kTile;
                          const auto weight = Isa::set(weights[row + i]);
                          auto dweight = Isa::zero();
                          for (std::int64_t key = 0; key < strip.vectors * Isa::kLanes; key += Isa::kLanes) {
                            const auto product = Isa::load(products + key), dscore = Isa::load(dscores + key);
                            dweight = Isa::multiply_add(Isa::where_positive(product, product), dscore, dweight);
                            Isa::store(dproducts + key, Isa::where_positive(product, Isa::multiply(weight, dscore)));
                          }
                          scratch.dweights[row + i] += Isa::reduce_add(dweight);
                        }
                        multiply<E, Into::kAdd>({scratch.dproducts + row * kTile, kTile, scratch.products.tile.rows,
                                                 columns, scratch.dq + row * columns, columns, nullptr, strip.hull.end},
                                                strip.rows, columns);
                      });
}

/// What the queries that see a tile add to its entries: dproducts' q.
template <class E>
void add_to_entry_sums(const LossItem& item, std::int64_t first, const KeyTile& tile, const QueryRange& queries,
                       const Shape& shape, const LossScratch<E>& scratch) {
  using Isa = typename E::Isa;
  const std::int64_t heads = shape.group, columns = padded_head_dim(shape), stride = scratch.transposed_stride;
  const std::int64_t from = queries.begin * heads, rows = queries.end * heads - from;
  shared_attention::transpose_words<E>(scratch.dproducts + from * kTile, round_up(rows, Isa::kLanes), kTile, kTile,
                                       scratch.dproducts_by_key, stride);
  const auto multiply_keys = [&]<Into kInto>(std::integral_constant<Into, kInto>, std::int64_t key, std::int64_t keys,
                                             std::int64_t first_row, float* sums) {
    multiply<E, kInto>(
        {scratch.dproducts_by_key + key * stride + first_row - from, stride, scratch.products.q + first_row * columns,
         columns, sums, columns, nullptr, from + rows - first_row},
        keys, columns);
  };
  if (tile.kind == KeyTile::Kind::kList) {
    multiply_keys(std::integral_constant<Into, Into::kReplace>(), 0, tile.seen.end, from, scratch.listed);
    return shared_attention::add_listed_rows<E>(tile, columns, scratch.listed, item.entry_sums);
  }
  for (std::int64_t key = 0; key < tile.seen.end; key += 16) {
    const QueryRange seeing = shared_attention::seeing_queries(
        tile, {0, item.kernel->ratio, 0}, item.document.position_of(first), queries, {key, key + 16});
    multiply_keys(std::integral_constant<Into, Into::kAdd>(), key, 16, seeing.begin * heads,
                  item.entry_sums + (tile.first + key) * columns);
  }
}

template <class E>
void write_block(const LossItem& item, std::int64_t first, std::int64_t count, const Shape& shape,
                 const LossScratch<E>& scratch) {
  using Isa = typename E::Isa;
  const std::int64_t row = item.document.first_query + first, rows = count * shape.group;
  std::copy_n(scratch.dweights, rows, static_cast<float*>(item.kernel->dweights.data) + row * shape.group);
  auto dq = head_rows<typename E::Element>(item.kernel->dq, row, 0, shape.group);
  for (std::int64_t i = 0; i < rows; ++i, dq.next()) {
    const float* const sums = scratch.dq + i * padded_head_dim(shape);
    for (std::int64_t column = 0; column < shape.head_dim; column += Isa::kLanes) {
      Isa::store_first(dq.data + column, Isa::load(sums + column), shape.head_dim - column);
    }
  }
}

template <class E>
void loss_item(const LossItem& item, std::byte* memory) {
  const kernels::IndexerLoss& kernel = *item.kernel;
  const Shape shape = shape_of(kernel);
  const LossScratch<E> scratch(shape, memory);
  const kernels::SharedVisibility visibility{0, kernel.ratio, 0};
  const std::int64_t columns = padded_head_dim(shape), end = item.first + item.count;
  std::fill_n(item.entry_sums, shared_attention::entry_sum_rows(kernel.ratio, end) * columns, 0.0f);
  *item.loss_sum = 0;
  for (std::int64_t first = item.first; first < end; first += queries_of_item(shape)) {
    const std::int64_t count = std::min(queries_of_item(shape), end - first), rows = count * shape.group;
    const std::int64_t row = item.document.first_query + first;
    load_queries<E>(kernel.q, row, count, shape, scratch.products);
    std::fill_n(scratch.dq, rows * columns, 0.0f);
    std::fill_n(scratch.dweights, rows, 0.0f);
    *item.loss_sum += load_losses<E>(item, first, count, scratch);
    for_each_chosen_tile(kernel.selected, visibility, row, item.document.position_of(first), count, *item.bad_list,
                         [&](const KeyTile& tile, const QueryRange& queries) {
                           shared_attention::pack_tile<E>(tile, item.document, visibility, kernel.k, kernel.k, shape,
                                                          scratch.products.tile);
                           load_dscores<E>(item, first, tile, queries, scratch);
                           rows_meet_tile<E>(item, first, tile, queries, shape, scratch);
                           add_to_entry_sums<E>(item, first, tile, queries, shape, scratch);
                         });
    write_block<E>(item, first, count, shape, scratch);
  }
  if (item.finishes) {
    const float* const sums = item.entry_sums;
    shared_attention::finish_rows<E>(
        {&kernel.dk, item.document.first_entry, item.document.keys / kernel.ratio, &sums, 1});
  }
}

template <class E>
std::size_t loss_bytes(const kernels::IndexerLoss& kernel) {
  return LossScratch<E>(shape_of(kernel), nullptr).bytes;
}

}  // namespace flyover::devices::cpu::indexer
