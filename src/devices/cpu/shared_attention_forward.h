// The forward pass of the shared attention over the queries of one item. Included between HWY_PUSH_ATTRIBUTES and
// HWY_POP_ATTRIBUTES.
//
// Each row (query, head) goes through the same operations whatever its neighbours: tiles count from the document's
// first entry and first token (or from the beginning of the list), a tile that shows a row nothing is skipped, the sums
// of a product run over the depth in order, and masked keys add zeros.
#pragma once

namespace flyover::devices::cpu::shared_attention {

/// Scratch memory of an item.
template <class E>
struct ForwardScratch {
  PackedTile<E> tile;
  float* q;        ///< [rows, padded_depth_words]
  float* sums;     ///< [rows, padded_head_dim] f32: unnormalised y
  float* maximum;  ///< [rows]
  float* total;    ///< [rows, lanes]
  float* scores;   ///< [kStrip, kTile]
  float* p;        ///< [kStrip, kTile / kDepth] words
  float* values;   ///< as tile.summed: what one query sees of it
  std::size_t bytes;

  ForwardScratch(const Shape& shape, std::byte* memory) : ForwardScratch(shape, Arena(memory)) {}
  ForwardScratch(const Shape& shape, Arena arena) : tile(shape, arena) {
    const std::int64_t rows = queries_of_item(shape) * shape.group, columns = padded_head_dim(shape);
    q = arena.floats(rows * padded_depth_words<E>(shape));
    sums = arena.floats(rows * columns);
    maximum = arena.floats(rows);
    total = arena.floats(rows * E::Isa::kLanes);
    scores = arena.floats(kStrip * kTile);
    p = arena.floats(kStrip * kTile / E::kDepth);
    values = arena.floats(kTile / E::kDepth * columns);
    bytes = arena.used();
  }
};

template <class E>
void load_forward_rows(const ForwardItem& item, const Shape& shape, const ForwardScratch<E>& scratch) {
  using Isa = typename E::Isa;
  const kernels::SharedAttentionForward& kernel = *item.kernel;
  const std::int64_t rows = item.count * shape.group;
  pack_rows<E>(head_rows<const typename E::Element>(kernel.q, item.document.first_query + item.first, 0, shape.group),
               rows, rows, shape, attention::sign_flip<E>(kernel.scale), scratch.q);
  std::fill_n(scratch.sums, rows * padded_head_dim(shape), 0.0f);
  std::fill_n(scratch.total, rows * Isa::kLanes, 0.0f);
  // Finite, so that scores of -inf (overflows) give zeros rather than inf - inf.
  constexpr float kLowest = std::numeric_limits<float>::lowest();
  std::fill_n(scratch.maximum, rows, kLowest);
  if (kernel.sink.has_value()) {
    const auto* const sink = static_cast<const float*>(kernel.sink->data);
    for (std::int64_t row = 0; row < rows; ++row) {
      const double in_log2 = static_cast<double>(sink[row % shape.group]) * kLog2E;
      if (in_log2 > static_cast<double>(kLowest)) {
        scratch.maximum[row] = static_cast<float>(in_log2);
        scratch.total[row * Isa::kLanes] = 1.0f;
      }
    }
  }
}

/// The packed values of a tile with zeros for the keys outside a range. A key that a row does not see may be infinite
/// or a NaN, which a probability of zero does not cancel.
template <class E>
void copy_seen_values(const KeyRange& seen, const Shape& shape, const float* values, float* to) {
  const std::int64_t columns = padded_head_dim(shape);
  for (std::int64_t word = 0; word < kTile / E::kDepth; ++word) {
    std::uint32_t keep = 0;
    for (std::int64_t i = 0; i < E::kDepth; ++i) {
      const std::int64_t key = word * E::kDepth + i;
      if (key >= seen.begin && key < seen.end) {
        keep |= E::kPairs ? 0xFFFFu << (16 * i) : 0xFFFFFFFFu;
      }
    }
    for (std::int64_t column = word * columns; column < (word + 1) * columns; ++column) {
      std::uint32_t bits;
      std::memcpy(&bits, values + column, sizeof(bits));
      bits &= keep;
      std::memcpy(to + column, &bits, sizeof(bits));
    }
  }
}

/// sums = diag(correction) sums + p values.
template <class E>
void add_values(const RangeStrip& strip, bool not_finite, const Shape& shape, const float* correction,
                const ForwardScratch<E>& scratch, float* sums) {
  const std::int64_t columns = padded_head_dim(shape), first = strip.hull.begin / E::kDepth;
  const std::int64_t depth = divide_up(strip.hull.end, E::kDepth) - first;
  const Operands product{scratch.p + first,
                         kTile / E::kDepth,
                         scratch.tile.summed + first * columns,
                         columns,
                         sums,
                         columns,
                         correction,
                         depth};
  if (!not_finite || strip.full) {
    return multiply<E, Into::kScaleAndAdd>(product, strip.rows, columns);
  }
  for (std::int64_t row = 0; row < strip.rows; ++row) {
    copy_seen_values<E>(strip.seen[row], shape, scratch.tile.summed, scratch.values);
    Operands one = product;
    one.a += row * one.a_stride;
    one.b = scratch.values + first * columns;
    one.c += row * one.c_stride;
    one.scale += row;
    multiply<E, Into::kScaleAndAdd>(one, 1, columns);
  }
}

/// The queries of an item that see a tile meet it.
template <class E>
void meet_tile(const ForwardItem& item, const KeyTile& tile, const QueryRange& queries, const Shape& shape,
               const ForwardScratch<E>& scratch) {
  using Isa = typename E::Isa;
  const kernels::SharedAttentionForward& kernel = *item.kernel;
  pack_tile<E>(tile, item.document, kernel.visibility, kernel.keys, kernel.entries, shape, scratch.tile);
  const bool not_finite = pack_values<E>(shape, scratch.tile);
  const float factor = attention::score_factor(kernel.scale);
  const std::int64_t words = padded_depth_words<E>(shape), heads = shape.group, end = queries.end * heads;
  const BlockRows block{item.document.position_of(item.first), heads, heads};
  for (std::int64_t row = queries.begin * heads; row < end; row += kStrip) {
    KeyRange seen[kStrip];
    const RangeStrip strip =
        make_strip(tile, kernel.visibility, block, row, std::min(kStrip, end - row), Isa::kLanes, Isa::kLanes, seen);
    const std::int64_t first = strip.first_vector * Isa::kLanes;
    multiply<E, Into::kReplace>({scratch.q + row * words, words, scratch.tile.columns + first, kTile,
                                 scratch.scores + first, kTile, nullptr, attention::depth_words<E>(shape)},
                                strip.rows, strip.vectors * Isa::kLanes - first);
    alignas(64) float correction[16];
    attention::forward_softmax<E>(strip, factor, {scratch.maximum + row, scratch.total + row * Isa::kLanes, correction},
                                  scratch.scores, scratch.p);
    add_values<E>(strip, not_finite, shape, correction, scratch, scratch.sums + row * padded_head_dim(shape));
  }
}

/// The chosen entries of an item's queries, which share no tile.
template <class E>
void meet_lists(const ForwardItem& item, const Shape& shape, const ForwardScratch<E>& scratch) {
  const kernels::ConstView& selected = *item.kernel->selected;
  const std::int64_t limit = selected.size(1);
  for (std::int64_t query = 0; query < item.count; ++query) {
    const std::int64_t row = item.document.first_query + item.first + query;
    const auto* const entries = static_cast<const std::int32_t*>(selected.data) + row * limit;
    const std::int64_t position = item.document.position_of(item.first + query);
    const EntryList list = read_list(entries, limit, (position + 1) / item.kernel->visibility.ratio);
    if (!list.rising) {
      *item.bad_list = true;
    }
    for_each_list_tile(entries, list.count, [&](const KeyTile& tile) {
      meet_tile<E>(item, tile, {query, query + 1}, shape, scratch);
    });
  }
}

template <class E>
void write_forward_rows(const ForwardItem& item, const Shape& shape, const ForwardScratch<E>& scratch) {
  using Isa = typename E::Isa;
  const kernels::SharedAttentionForward& kernel = *item.kernel;
  const std::int64_t token = item.document.first_query + item.first;
  auto y = head_rows<typename E::Element>(kernel.y, token, 0, shape.group);
  auto* const log_sum_exp = static_cast<float*>(kernel.log_sum_exp.data) + token * shape.group;
  for (std::int64_t row = 0; row < item.count * shape.group; ++row, y.next()) {
    const float total = Isa::reduce_add(Isa::load(scratch.total + row * Isa::kLanes));
    const auto inverse = Isa::set(1.0f / total);
    const float* const sums = scratch.sums + row * padded_head_dim(shape);
    for (std::int64_t column = 0; column < shape.head_dim; column += Isa::kLanes) {
      // Adding zero makes all zeros positive: an underflow's sign would tell how many masked keys followed it.
      const auto value = Isa::add(Isa::multiply(Isa::load(sums + column), inverse), Isa::zero());
      Isa::store_first(y.data + column, value, shape.head_dim - column);
    }
    const double natural = static_cast<double>(scratch.maximum[row]) / kLog2E + static_cast<double>(std::log(total));
    log_sum_exp[row] = static_cast<float>(natural);
  }
}

template <class E>
void forward_item(const ForwardItem& item, std::byte* memory) {
  const kernels::SharedAttentionForward& kernel = *item.kernel;
  const Shape shape{kernel.q.size(2), kernel.q.size(1)};
  const ForwardScratch<E> scratch(shape, memory);
  const std::int64_t position = item.document.position_of(item.first), ratio = kernel.visibility.ratio;
  const std::int64_t row = item.document.first_query + item.first;
  const auto meet = [&](const KeyTile& tile, const QueryRange& queries) {
    meet_tile<E>(item, tile, queries, shape, scratch);
  };
  load_forward_rows<E>(item, shape, scratch);
  if (kernel.selected.has_value() && !all_chosen(*kernel.selected, ratio, row, position, item.count)) {
    meet_lists<E>(item, shape, scratch);
  } else if (ratio > 0) {
    for_each_entry_tile(kernel.visibility, position, item.count, meet);
  }
  for_each_token_tile(kernel.visibility, position, item.count, meet);
  write_forward_rows<E>(item, shape, scratch);
}

template <class E>
std::size_t forward_bytes(const Shape& shape) {
  return ForwardScratch<E>(shape, nullptr).bytes;
}

}  // namespace flyover::devices::cpu::shared_attention
