// What the attention driver (attention.cpp) needs from an instruction set, and the cut of a launch into items. The code
// behind it is in attention_avx2.cpp, attention_avx512.cpp and attention_avx512_bf16.cpp.
//
// Words: every operand of a product is packed into 32-bit words. A word is one f32, or two neighbouring bf16 along the
// summed axis where the product is vdpbf16ps.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/attention.h"

namespace flyover::devices::cpu::attention {

inline constexpr std::int64_t kTile = kernels::kAttentionKeyTile;

/// What the sizes of all scratch memory derive from.
struct Shape {
  std::int64_t head_dim;
  std::int64_t group;  ///< query heads of one key-value head
};

/// Queries and keys have the same head size, values and outputs have theirs.
struct Shapes {
  Shape keys;
  Shape values;
};
template <typename Kernel>
Shapes shapes_of(const Kernel& kernel) {
  const std::int64_t group = kernel.q.size(1) / kernel.k.size(1);
  return {{kernel.q.size(2), group}, {kernel.v.size(2), group}};
}

/// One row of the `sequences` table.
struct Document {
  std::int64_t first_query;
  std::int64_t queries;
  std::int64_t first_key;
  std::int64_t keys;
};

/// Queries [first, first + count) of a document, with all the heads of one key-value head.
struct ForwardItem {
  const kernels::AttentionForward* kernel;
  Document document;
  std::int64_t kv_head;
  std::int64_t first;
  std::int64_t count;
};

/// The same for the backward pass: dq of these queries, and what they add to dk and dv.
struct BackwardItem {
  const kernels::AttentionBackward* kernel;
  Document document;
  std::int64_t kv_head;
  std::int64_t first;
  std::int64_t count;
  float* key_sums;  ///< dk and dv of these queries alone, one key_sums_floats() per key tile; null: in scratch memory,
                    ///< and the item, being the document's only one, writes dk and dv
};

/// Where one key tile's dk and dv come from: the sums of consecutive items of the document.
struct KeySums {
  const kernels::AttentionBackward* kernel;
  Document document;
  std::int64_t kv_head;
  std::int64_t tile;
  float* const* sums;  ///< the tile's sums in each item that has it; the first becomes the total
  int count;
};

/// The code of one instruction set for one input type.
struct Code {
  std::size_t (*forward_bytes)(const Shapes& shapes);
  void (*forward)(const ForwardItem& item, std::byte* scratch);
  std::size_t (*backward_bytes)(const Shapes& shapes);
  void (*backward)(const BackwardItem& item, std::byte* scratch);
  void (*finish_keys)(const KeySums& keys, std::byte* scratch);  ///< needs backward_bytes
};

extern const Code kAvx2F32;
extern const Code kAvx2Bf16;  ///< widens bf16 to f32 while packing
extern const Code kAvx512F32;
extern const Code kAvx512Bf16;       ///< widens bf16 to f32 while packing
extern const Code kAvx512Bf16Pairs;  ///< vdpbf16ps

constexpr std::int64_t divide_up(std::int64_t value, std::int64_t by) {
  return (value + by - 1) / by;
}
constexpr std::int64_t round_up(std::int64_t value, std::int64_t to) {
  return divide_up(value, to) * to;
}

/// Columns of a packed head, a whole number of vectors of every instruction set.
constexpr std::int64_t padded_head_dim(const Shape& shape) {
  return round_up(std::max<std::int64_t>(1, shape.head_dim), 16);
}

/// Queries of an item of the forward pass: as many as amortise the packing of a key tile while their sums (128 KiB)
/// stay in the second-level cache.
constexpr std::int64_t forward_queries(const Shapes& shapes) {
  const std::int64_t rows = std::min<std::int64_t>(512, 32768 / padded_head_dim(shapes.values));
  const std::int64_t queries = std::max<std::int64_t>(1, rows / shapes.values.group);
  return queries < kTile ? queries : queries / kTile * kTile;
}

/// Queries that the backward pass handles at once against a key tile; even, so that pairs of rows start at a query.
constexpr std::int64_t backward_queries(const Shapes& shapes) {
  const std::int64_t queries = std::max<std::int64_t>(2, 192 / shapes.keys.group / 2 * 2);
  return queries < kTile ? queries : queries / kTile * kTile;
}

/// Documents up to this long are one item of the backward pass (for each key-value head).
inline constexpr std::int64_t kUndividedLength = 1024;
/// Longer ones are this many, each with its own sums for dk and dv.
inline constexpr std::int64_t kDivisions = 4;

/// Queries of an item of the backward pass.
constexpr std::int64_t division_queries(std::int64_t length, const Shapes& shapes) {
  return length <= kUndividedLength ? std::max<std::int64_t>(1, length)
                                    : round_up(divide_up(length, kDivisions), backward_queries(shapes));
}

/// Floats of the unfinished dk and dv of a key tile: two matrices [head_dim, keys].
constexpr std::int64_t key_sums_floats(const Shapes& shapes) {
  return (padded_head_dim(shapes.keys) + padded_head_dim(shapes.values)) * kTile;
}

/// Hands out parts of a block of scratch memory; with a null block it only counts.
class Arena {
 public:
  explicit Arena(std::byte* memory) : memory_(memory) {}
  float* floats(std::int64_t count) {
    const std::size_t offset = used_;
    used_ += static_cast<std::size_t>(round_up(count, 16)) * sizeof(float);
    return memory_ == nullptr ? nullptr : reinterpret_cast<float*>(memory_ + offset);
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* memory_;
  std::size_t used_ = 0;
};

/// The rows of some heads of a [tokens, heads, head_dim] view from a token on, one after the other: all heads of a
/// token, then the next token.
template <typename T>
struct HeadRows {
  T* data;  ///< the current row
  std::int64_t token_stride;
  std::int64_t head_stride;
  std::int64_t group;
  std::int64_t head = 0;

  void next() {
    data += head_stride;
    if (++head == group) {
      head = 0;
      data += token_stride - group * head_stride;
    }
  }
};

template <typename T, typename ViewType>
HeadRows<T> head_rows(const ViewType& view, std::int64_t token, std::int64_t head, std::int64_t group) {
  return {static_cast<T*>(view.data) + token * view.stride(0) + head * view.stride(1), view.stride(0), view.stride(1),
          group, 0};
}

inline constexpr double kLog2E = 1.4426950408889634074;

/// |scale| in units of log2. Not zero, which would make NaNs of masked scores of -inf.
inline float score_factor(float scale) {
  return std::max(std::numeric_limits<float>::min(), static_cast<float>(std::abs(static_cast<double>(scale)) * kLog2E));
}

/// Rows that are handled together: two blocks of the product.
inline constexpr std::int64_t kStrip = 12;

/// A strip of rows against a key tile.
struct Strip {
  std::int64_t rows;      ///< at most kStrip
  std::int64_t vectors;   ///< computed columns of the scores, in vectors; the keys behind them are masked
  std::int64_t* visible;  ///< [rows]: keys of the tile that the row sees, kTile or more for all
  bool full;              ///< every row sees every key
  static constexpr std::int64_t first_vector = 0;
};

/// Sets what the rows `row` and on of a block see, given the keys of the tile that the block's first query sees (each
/// of the following queries, of `group` rows, sees one more). Returns the most that a row sees, at most kTile.
inline std::int64_t see_keys(Strip& strip, std::int64_t first_visible, std::int64_t row, std::int64_t group) {
  std::int64_t keys = first_visible + row / group;
  strip.full = keys >= kTile;
  if (strip.full) {
    return kTile;
  }
  std::int64_t head = row % group;
  for (std::int64_t i = 0; i < strip.rows; ++i) {
    strip.visible[i] = keys;
    if (++head == group) {
      head = 0;
      ++keys;
    }
  }
  return std::min(kTile, strip.visible[strip.rows - 1]);
}

/// Rows that will be packed next, asked for in parts between the products of the strips before.
struct Prefetch {
  const std::byte* row;
  std::int64_t stride;  ///< bytes
  std::int64_t row_bytes;
  std::int64_t rows;  ///< that are left
  std::int64_t part;  ///< rows to ask for each time

  void next() {
    for (std::int64_t i = std::min(part, rows); i > 0; --i, --rows, row += stride) {
      for (std::int64_t byte = 0; byte < row_bytes; byte += 64) {
        __builtin_prefetch(row + byte);
      }
    }
  }
};

/// The rows of one head from a token on, spread over `times` calls of next().
inline Prefetch prefetch_rows(const kernels::ConstView& view, std::int64_t token, std::int64_t head, std::int64_t rows,
                              std::int64_t times) {
  const auto size = static_cast<std::int64_t>(kernels::size_of(view.dtype));
  return {static_cast<const std::byte*>(view.data) + (token * view.stride(0) + head * view.stride(1)) * size,
          view.stride(0) * size, view.size(2) * size, rows, divide_up(std::max<std::int64_t>(0, rows), times)};
}

}  // namespace flyover::devices::cpu::attention
