// What the attention driver (attention.cpp) needs from an instruction set, and the cut of a launch into items. The code
// behind it is in attention_avx2.cpp, attention_avx512.cpp and attention_avx512_bf16.cpp.
//
// Words: every operand of a product is packed into 32-bit words. A word is one f32, or two neighbouring bf16 along the
// summed axis where the product is vdpbf16ps.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/attention.h"

namespace flyover::devices::cpu::attention {

inline constexpr std::int64_t kTile = kernels::kAttentionKeyTile;

/// What the sizes of all scratch memory derive from.
struct Shape {
  std::int64_t head_dim;
  std::int64_t group;  ///< query heads of one key-value head
};

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
  std::size_t (*forward_bytes)(const Shape& shape);
  void (*forward)(const ForwardItem& item, std::byte* scratch);
  std::size_t (*backward_bytes)(const Shape& shape);
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
constexpr std::int64_t forward_queries(const Shape& shape) {
  const std::int64_t rows = std::min<std::int64_t>(512, 32768 / padded_head_dim(shape));
  const std::int64_t queries = std::max<std::int64_t>(1, rows / shape.group);
  return queries < kTile ? queries : queries / kTile * kTile;
}

/// Queries that the backward pass handles at once against a key tile; even, so that pairs of rows start at a query.
constexpr std::int64_t backward_queries(const Shape& shape) {
  const std::int64_t queries = std::max<std::int64_t>(2, 192 / shape.group / 2 * 2);
  return queries < kTile ? queries : queries / kTile * kTile;
}

/// Documents up to this long are one item of the backward pass (for each key-value head).
inline constexpr std::int64_t kUndividedLength = 1024;
/// Longer ones are this many, each with its own sums for dk and dv.
inline constexpr std::int64_t kDivisions = 4;

/// Queries of an item of the backward pass.
constexpr std::int64_t division_queries(std::int64_t length, const Shape& shape) {
  return length <= kUndividedLength ? std::max<std::int64_t>(1, length)
                                    : round_up(divide_up(length, kDivisions), backward_queries(shape));
}

/// Floats of the unfinished dk and dv of a key tile: two matrices [head_dim, keys].
constexpr std::int64_t key_sums_floats(const Shape& shape) {
  return 2 * padded_head_dim(shape) * kTile;
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

/// The rows of some heads of a [tokens, heads, head_dim] view from a token on: row r is head r % group of token
/// r / group.
template <typename T>
struct HeadRows {
  T* data;
  std::int64_t token_stride;
  std::int64_t head_stride;
  std::int64_t group;

  T* operator[](std::int64_t row) const { return data + row / group * token_stride + row % group * head_stride; }
};

template <typename T, typename ViewType>
HeadRows<T> head_rows(const ViewType& view, std::int64_t token, std::int64_t head, std::int64_t group) {
  return {static_cast<T*>(view.data) + token * view.stride(0) + head * view.stride(1), view.stride(0), view.stride(1),
          group};
}

}  // namespace flyover::devices::cpu::attention
