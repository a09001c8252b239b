// The forward pass of attention over the queries of one item (Dao, "FlashAttention-2", 2023, algorithm 1). Included
// between HWY_PUSH_ATTRIBUTES and HWY_POP_ATTRIBUTES.
//
// Each row goes through the same operations whatever its neighbours: a product's sums run over the depth in order, key
// tiles count from the document's first key, a tile that shows a row nothing is skipped, and masked keys add zeros.
#pragma once

namespace flyover::devices::cpu::attention {

/// Scratch memory of an item. Rows are (query, head of the group).
template <class E>
struct ForwardScratch {
  float* q;        ///< [rows, padded_depth_words]
  float* sums;     ///< [rows, padded_head_dim of the values] f32: unnormalised y
  float* maximum;  ///< [rows]
  float* total;    ///< [rows, lanes]
  float* k_rows;   ///< [kTile, padded_depth_words]
  float* k;        ///< [padded_depth_words, kTile]
  float* v;        ///< [kTile / kDepth, padded_head_dim of the values]
  float* scores;   ///< [kStrip, kTile]
  float* p;        ///< [kStrip, kTile / kDepth] words
  float* last_v;   ///< [padded_head_dim of the values]
  std::size_t bytes;

  ForwardScratch(const Shapes& shapes, std::byte* memory) {
    Arena arena(memory);
    const std::int64_t rows = forward_queries(shapes) * shapes.keys.group;
    const std::int64_t words = padded_depth_words<E>(shapes.keys), columns = padded_head_dim(shapes.values);
    q = arena.floats(rows * words);
    sums = arena.floats(rows * columns);
    maximum = arena.floats(rows);
    total = arena.floats(rows * E::Isa::kLanes);
    k_rows = arena.floats(kTile * words);
    k = arena.floats(kTile * words);
    v = arena.floats(kTile / E::kDepth * columns);
    scores = arena.floats(kStrip * kTile);
    p = arena.floats(kStrip * kTile / E::kDepth);
    last_v = arena.floats(columns);
    bytes = arena.used();
  }
};

/// sums += p v one row at a time, where v of a key that a row does not see may be infinite or a NaN, which a
/// probability of zero does not cancel.
template <class E>
void add_visible_values(const Strip& strip, const ForwardScratch<E>& scratch, const Shape& values, const float* scale,
                        float* sums) {
  using Isa = typename E::Isa;
  const std::int64_t columns = padded_head_dim(values);
  const float one = 1.0f;
  for (std::int64_t row = 0; row < strip.rows; ++row) {
    const std::int64_t keys = std::min(strip.visible[row], kTile);
    const float* const p = scratch.p + row * (kTile / E::kDepth);
    float* const to = sums + row * columns;
    multiply<E, Into::kScaleAndAdd>({p, 0, scratch.v, columns, to, columns, scale + row, keys / E::kDepth}, 1, columns);
    if constexpr (E::kPairs) {
      if (keys % 2 == 1) {
        for (std::int64_t column = 0; column < columns; column += Isa::kLanes) {
          const auto pairs = Isa::load(scratch.v + keys / 2 * columns + column);
          Isa::store(scratch.last_v + column, Isa::without_odd_elements(pairs));
        }
        multiply<E, Into::kScaleAndAdd>({p + keys / 2, 0, scratch.last_v, columns, to, columns, &one, 1}, 1, columns);
      }
    }
  }
}

template <class E>
void write_forward_rows(const ForwardItem& item, const ForwardScratch<E>& scratch, const Shape& values) {
  using Isa = typename E::Isa;
  const kernels::AttentionForward& kernel = *item.kernel;
  const std::int64_t token = item.document.first_query + item.first, head = item.kv_head * values.group;
  auto y = head_rows<typename E::Element>(kernel.y, token, head, values.group);
  auto* log_sum_exp = static_cast<float*>(kernel.log_sum_exp.data);
  log_sum_exp += token * kernel.q.size(1) + head;
  for (std::int64_t row = 0; row < item.count * values.group; ++row, y.next()) {
    const float total = Isa::reduce_add(Isa::load(scratch.total + row * Isa::kLanes));
    const auto inverse = Isa::set(1.0f / total);
    const float* const sums = scratch.sums + row * padded_head_dim(values);
    for (std::int64_t column = 0; column < values.head_dim; column += Isa::kLanes) {
      // Adding zero makes all zeros positive: an underflow's sign would tell how many masked keys followed it.
      const auto value = Isa::add(Isa::multiply(Isa::load(sums + column), inverse), Isa::zero());
      Isa::store_first(y.data + column, value, values.head_dim - column);
    }
    const double natural = static_cast<double>(scratch.maximum[row]) / kLog2E + static_cast<double>(std::log(total));
    log_sum_exp[y.head] = static_cast<float>(natural);
    log_sum_exp += y.head + 1 == values.group ? kernel.q.size(1) : 0;
  }
}

template <class E>
void forward_item(const ForwardItem& item, std::byte* memory) {
  using Isa = typename E::Isa;
  using T = const typename E::Element;
  const kernels::AttentionForward& kernel = *item.kernel;
  const Shapes shapes = shapes_of(kernel);
  const ForwardScratch<E> scratch(shapes, memory);
  const std::int64_t group = shapes.keys.group, rows = item.count * group;
  const std::int64_t depth = depth_words<E>(shapes.keys), words = padded_depth_words<E>(shapes.keys);
  const std::int64_t columns = padded_head_dim(shapes.values);
  const float factor = score_factor(kernel.scale);
  pack_rows<E>(head_rows<T>(kernel.q, item.document.first_query + item.first, item.kv_head * group, group), rows, rows,
               shapes.keys, sign_flip<E>(kernel.scale), scratch.q);
  // Finite, so that scores of -inf (overflows) give zeros rather than inf - inf.
  std::fill_n(scratch.maximum, rows, std::numeric_limits<float>::lowest());
  std::fill_n(scratch.total, rows * Isa::kLanes, 0.0f);

  // Keys that the item's first and last query see.
  const std::int64_t first_keys = item.document.keys - item.document.queries + item.first + 1;
  const std::int64_t last_keys = first_keys + item.count - 1;
  for (std::int64_t first_key = 0; first_key < last_keys; first_key += kTile) {
    const std::int64_t keys = std::min(kTile, last_keys - first_key);
    const std::int64_t token = item.document.first_key + first_key;
    pack_rows<E>(head_rows<T>(kernel.k, token, item.kv_head, 1), keys, kTile, shapes.keys, 0, scratch.k_rows);
    transpose_words<E>(scratch.k_rows, kTile, words, words, scratch.k, kTile);
    const bool not_finite =
        pack_summed_rows<E>(head_rows<T>(kernel.v, token, item.kv_head, 1), keys, kTile, shapes.values, scratch.v);
    const std::int64_t first_row = std::max<std::int64_t>(0, first_key + 1 - first_keys) * group;
    const std::int64_t strips = divide_up(rows - first_row, kStrip), next_keys = last_keys - first_key - kTile;
    Prefetch next_k = prefetch_rows(kernel.k, token + kTile, item.kv_head, std::min(kTile, next_keys), strips);
    Prefetch next_v = prefetch_rows(kernel.v, token + kTile, item.kv_head, std::min(kTile, next_keys), strips);
    for (std::int64_t row = first_row; row < rows; row += kStrip) {
      next_k.next();
      next_v.next();
      std::int64_t visible[kStrip];
      Strip strip{std::min(kStrip, rows - row), kTile / Isa::kLanes, visible, false};
      const std::int64_t most = see_keys(strip, first_keys - first_key, row, group);
      strip.vectors = divide_up(most, Isa::kLanes);
      multiply<E, Into::kReplace>(
          {scratch.q + row * words, words, scratch.k, kTile, scratch.scores, kTile, nullptr, depth}, strip.rows,
          strip.vectors * Isa::kLanes);
      alignas(64) float correction[16];
      forward_softmax<E>(strip, factor, {scratch.maximum + row, scratch.total + row * Isa::kLanes, correction},
                         scratch.scores, scratch.p);
      float* const sums = scratch.sums + row * columns;
      const Operands values{scratch.p, kTile / E::kDepth, scratch.v,  columns,
                            sums,      columns,           correction, divide_up(most, E::kDepth)};
      if (first_key == 0) {
        std::fill_n(sums, strip.rows * columns, 0.0f);
      }
      if (not_finite && !strip.full) {
        add_visible_values<E>(strip, scratch, shapes.values, correction, sums);
      } else {
        multiply<E, Into::kScaleAndAdd>(values, strip.rows, columns);
      }
    }
  }
  write_forward_rows<E>(item, scratch, shapes.values);
}

template <class E>
std::size_t forward_bytes(const Shapes& shapes) {
  return ForwardScratch<E>(shapes, nullptr).bytes;
}

}  // namespace flyover::devices::cpu::attention
