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

/// to [padded_rows, padded_depth_words]: each row's elements along the depth; `flip` is xored with every word.
template <class E>
void pack_rows(const HeadRows<const typename E::Element>& from, std::int64_t rows, std::int64_t padded_rows,
               const Shape& shape, std::uint32_t flip, float* to) {
  using Isa = typename E::Isa;
  const std::int64_t words = padded_depth_words<E>(shape);
  for (std::int64_t row = 0; row < padded_rows; ++row, to += words) {
    const auto* const elements = row < rows ? from[row] : nullptr;
    for (std::int64_t word = 0; word < words; word += Isa::kLanes) {
      const std::int64_t left = shape.head_dim - word * E::kDepth;
      auto value = Isa::zero();
      if (row < rows && left > 0) {
        if constexpr (E::kPairs) {
          value = Isa::load_pairs(elements + word * 2, left);
        } else {
          value = Isa::load_first(elements + word, left);
        }
      }
      Isa::store(to + word, Isa::exclusive_or(value, flip));
    }
  }
}

/// to [padded_rows / kDepth, padded_head_dim]: rows that are summed over. Says whether an element is not finite.
template <class E>
bool pack_summed_rows(const HeadRows<const typename E::Element>& from, std::int64_t rows, std::int64_t padded_rows,
                      const Shape& shape, float* to) {
  using Isa = typename E::Isa;
  const std::int64_t columns = padded_head_dim(shape);
  // The product with zero is zero for the finite and a NaN for all else; sums of zeros and NaNs cannot hide one.
  auto sum = Isa::zero();
  for (std::int64_t row = 0; row < padded_rows; row += E::kDepth, to += columns) {
    const auto* const first = row < rows ? from[row] : nullptr;
    const auto* const second = E::kPairs && row + 1 < rows ? from[row + 1] : nullptr;
    for (std::int64_t column = 0; column < columns; column += Isa::kLanes) {
      const std::int64_t left = shape.head_dim - column;
      auto value = Isa::zero();
      if (first != nullptr && left > 0) {
        if constexpr (E::kPairs) {
          value = Isa::load_row_pairs(first + column, second == nullptr ? nullptr : second + column, left);
          sum = Isa::multiply_add(Isa::even_elements(value), Isa::zero(), sum);
          sum = Isa::multiply_add(Isa::odd_elements(value), Isa::zero(), sum);
        } else {
          value = Isa::load_first(first + column, left);
          sum = Isa::multiply_add(value, Isa::zero(), sum);
        }
      }
      Isa::store(to + column, value);
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
