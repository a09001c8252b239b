// The small matrix product behind the gradients of hyper-connections: a few rows by 64 columns at a time, the sums in
// registers.
#pragma once

#include <cstdint>

namespace flyover::devices::cpu::hyper_connection {

/// Columns of one product.
inline constexpr std::int64_t kProductColumns = 64;

/// c[i][column] (+)= sum over steps of a[i][step] * b[step][column]. A word of a and b is one f32, or two bf16 that
/// follow each other in the sum (the first in the lower half).
struct Product {
  const std::uint32_t* a;
  std::int64_t a_row;      ///< words between rows
  std::int64_t a_step;     ///< words between steps
  const std::uint32_t* b;  ///< [steps][kProductColumns], dense
  float* c;
  std::int64_t c_row;  ///< elements between rows
  std::int64_t rows;
  std::int64_t steps;
  bool add;  ///< to c, rather than overwriting it
};

/// By vdpbf16ps; words are pairs of bf16.
void multiply_bf16_pairs(const Product& product);

}  // namespace flyover::devices::cpu::hyper_connection
