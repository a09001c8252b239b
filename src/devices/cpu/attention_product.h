// The one product behind all of attention: c (+)= a b over packed words, register-blocked. The sum of each element of c
// is taken in the order of the depth, whatever the block it falls in. Included between HWY_PUSH_ATTRIBUTES and
// HWY_POP_ATTRIBUTES.
#pragma once

namespace flyover::devices::cpu::attention {

/// How the packed words of an input type are multiplied: T as it lies in memory, kPairs with two bf16 in a word.
template <typename IsaType, typename T, bool kPairsInWord>
struct Engine {
  using Isa = IsaType;
  using Element = T;
  static constexpr bool kPairs = kPairsInWord;
  static constexpr std::int64_t kDepth = kPairs ? 2 : 1;  ///< elements of a word

  FLYOVER_INLINE typename Isa::Float multiply_add(typename Isa::Float a, typename Isa::Float b, typename Isa::Float c) {
    if constexpr (kPairs) {
      return Isa::multiply_add_pairs(a, b, c);
    } else {
      return Isa::multiply_add(a, b, c);
    }
  }
};

/// What happens to the previous content of c.
enum class Into { kReplace, kAdd, kScaleAndAdd };

/// Operands of a product. Strides in words.
struct Operands {
  const float* a;  ///< [rows, depth] words
  std::int64_t a_stride;
  const float* b;  ///< [depth, columns] words
  std::int64_t b_stride;
  float* c;  ///< [rows, columns] f32
  std::int64_t c_stride;
  const float* scale;  ///< [rows], for kScaleAndAdd
  std::int64_t depth;
};

template <class E, Into kInto, int kRows, int kVectors>
void multiply_block(const Operands& block) {
  using Isa = typename E::Isa;
  using Float = typename Isa::Float;
  Float sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) {
      if constexpr (kInto == Into::kReplace) {
        sums[i][j] = Isa::zero();
      } else {
        sums[i][j] = Isa::load(block.c + i * block.c_stride + j * Isa::kLanes);
        if constexpr (kInto == Into::kScaleAndAdd) {
          sums[i][j] = Isa::multiply(sums[i][j], Isa::set(block.scale[i]));
        }
      }
    }
  }
  // One pointer for three rows: x86 addresses base, base + stride and base + 2 stride.
  constexpr int kBases = (kRows + 2) / 3;
  const float* a[kBases];
#pragma GCC unroll 16
  for (int i = 0; i < kBases; ++i) {
    a[i] = block.a + 3 * i * block.a_stride;
  }
  const float* b = block.b;
  for (std::int64_t k = 0; k < block.depth; ++k) {
    Float columns[kVectors];
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) {
      columns[j] = Isa::load(b + j * Isa::kLanes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const Float word = Isa::set(a[i / 3][(i % 3) * block.a_stride]);
#pragma GCC unroll 16
      for (int j = 0; j < kVectors; ++j) {
        sums[i][j] = E::multiply_add(word, columns[j], sums[i][j]);
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kBases; ++i) {
      ++a[i];
    }
    b += block.b_stride;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 16
    for (int j = 0; j < kVectors; ++j) {
      Isa::store(block.c + i * block.c_stride + j * Isa::kLanes, sums[i][j]);
    }
  }
}

template <class E, Into kInto, int kVectors, int kRows>
void multiply_rows(const Operands& block, int rows) {
  if constexpr (kRows > 0) {
    if (rows == kRows) {
      return multiply_block<E, kInto, kRows, kVectors>(block);
    }
    return multiply_rows<E, kInto, kVectors, kRows - 1>(block, rows);
  }
}

template <class E, Into kInto, int kVectors>
void multiply_columns(Operands block, std::int64_t rows) {
  constexpr int kMost = E::Isa::maximum_rows(kVectors);
  while (rows > 0) {
    // The last two blocks share their rows: a block of few rows does not hide the latency of its sums.
    const std::int64_t count = rows <= kMost ? rows : rows < 2 * kMost ? (rows + 1) / 2 : kMost;
    multiply_rows<E, kInto, kVectors, kMost>(block, static_cast<int>(count));
    block.a += count * block.a_stride;
    block.c += count * block.c_stride;
    block.scale += kInto == Into::kScaleAndAdd ? count : 0;
    rows -= count;
  }
}

/// c = a b, c + a b or diag(scale) c + a b with `columns` a whole number of vectors. No rows, no columns or (but for
/// kReplace) no depth leave c as it is.
template <class E, Into kInto>
void multiply(Operands operands, std::int64_t rows, std::int64_t columns) {
  using Isa = typename E::Isa;
  std::int64_t vectors = columns / Isa::kLanes;
  constexpr int kMost = Isa::kMaximumVectors;
  while (vectors > 0) {
    const std::int64_t count = vectors <= kMost ? vectors : vectors < 2 * kMost ? (vectors + 1) / 2 : kMost;
    switch (count) {
      case 1:
        multiply_columns<E, kInto, 1>(operands, rows);
        break;
      case 2:
        multiply_columns<E, kInto, 2>(operands, rows);
        break;
      default:
        if constexpr (Isa::kMaximumVectors > 2) {
          if (count == 3) {
            multiply_columns<E, kInto, 3>(operands, rows);
          } else if (count == 4) {
            multiply_columns<E, kInto, 4>(operands, rows);
          } else {
            multiply_columns<E, kInto, 5>(operands, rows);
          }
        }
    }
    operands.b += count * Isa::kLanes;
    operands.c += count * Isa::kLanes;
    vectors -= count;
  }
}

}  // namespace flyover::devices::cpu::attention
