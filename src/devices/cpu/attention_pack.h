// Packing of the operands of attention's products into words. Rows that do not exist become zeros,
// and memory behind a row's last element is not read. Included between HWY_PUSH_ATTRIBUTES and HWY_POP_ATTRIBUTES.
#pragma once

namespace flyover::devices::cpu::attention {

/// Words of a row that are summed over.
template <class E>
std::int64_t depth_words(const Shape& shape) {
  return divide_up(shape.head_dim, E::kDepth);
}
/// The stride of such rows.
template <class E>
std::int64_t padded_depth_words(const Shape& shape) {
  return round_up(std::max<std::int64_t>(1, depth_words<E>(shape)), 16);
}

/// The sign bits of a word where the scale is negative: the products see |scale| and -q, so that the greatest product
/// is the greatest score.
template <class E>
std::uint32_t sign_flip(float scale) {
  return scale < 0 ? (E::kPairs ? 0x80008000u : 0x80000000u) : 0u;
}

template <class E>
[[gnu::always_inline]] inline typename E::Isa::Float load_words(const typename E::Element* from,
                                                                std::int64_t elements) {
  if constexpr (E::kPairs) {
    return E::Isa::load_pairs(from, elements);
  } else {
    return E::Isa::load_first(from, elements);
  }
}

/// to [padded_rows, padded_depth_words]: each row's elements along the depth; `flip` is xored with every word. Rows
/// come from HeadRows or what walks as they do.
template <class E, class Rows>
void pack_rows(const Rows& from, std::int64_t rows, std::int64_t padded_rows, const Shape& shape, std::uint32_t flip,
               float* to) {
  using Isa = typename E::Isa;
  constexpr std::int64_t kElements = Isa::kLanes * E::kDepth;  // of a vector
  const std::int64_t words = padded_depth_words<E>(shape), whole = shape.head_dim / kElements * Isa::kLanes;
  float* out = to;
  Rows row = from;
  for (std::int64_t i = 0; i < rows; ++i, out += words, row.next()) {
    for (std::int64_t word = 0; word < whole; word += Isa::kLanes) {
      Isa::store(out + word, Isa::exclusive_or(load_words<E>(row.data + word * E::kDepth, kElements), flip));
    }
    for (std::int64_t word = whole; word < words; word += Isa::kLanes) {
      const std::int64_t left = shape.head_dim - word * E::kDepth;
      Isa::store(out + word,
                 left > 0 ? Isa::exclusive_or(load_words<E>(row.data + word * E::kDepth, left), flip) : Isa::zero());
    }
  }
  std::fill_n(out, (padded_rows - rows) * words, 0.0f);
}

/// to [padded_rows / kDepth, padded_head_dim]: rows that are summed over. Says whether an element is not finite.
template <class E>
bool pack_summed_rows(const HeadRows<const typename E::Element>& from, std::int64_t rows, std::int64_t padded_rows,
                      const Shape& shape, float* to) {
  using Isa = typename E::Isa;
  const std::int64_t columns = padded_head_dim(shape);
  // The product with zero is zero for the finite and a NaN for all else; sums of zeros and NaNs cannot hide one.
  auto sum = Isa::zero();
  for (std::int64_t column = 0; column < columns; column += Isa::kLanes) {
    const std::int64_t left = shape.head_dim - column;
    float* out = to + column;
    if (left > 0) {
      HeadRows<const typename E::Element> row = from;
      for (std::int64_t i = 0; i < rows; i += E::kDepth, out += columns, row.next()) {
        const auto* const first = row.data + column;
        auto value = Isa::zero();
        if constexpr (E::kPairs) {
          if (i + 1 < rows) {
            row.next();
            value = Isa::load_row_pairs(first, row.data + column, left);
          } else {
            value = Isa::load_row_pairs(first, nullptr, left);
          }
        } else {
          value = Isa::load_first(first, left);
        }
        sum = E::multiply_add(value, Isa::zero(), sum);
        Isa::store(out, value);
      }
    }
    for (; out < to + padded_rows / E::kDepth * columns; out += columns) {
      Isa::store(out, Isa::zero());
    }
  }
  return Isa::any_not_finite(sum);
}

/// to[column][row] = from[row][column]; whole vectors both ways.
template <class E>
void transpose_words(const float* from, std::int64_t rows, std::int64_t columns, std::int64_t from_stride, float* to,
                     std::int64_t to_stride) {
  using Isa = typename E::Isa;
  for (std::int64_t row = 0; row < rows; row += Isa::kLanes) {
    for (std::int64_t column = 0; column < columns; column += Isa::kLanes) {
      Isa::transpose(from + row * from_stride + column, from_stride, to + column * to_stride + row, to_stride);
    }
  }
}

}  // namespace flyover::devices::cpu::attention
