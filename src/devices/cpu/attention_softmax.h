// The exponentials of attention: 2^t, and the softmax of a strip of rows against a key tile, forward and backward.
// Included between HWY_PUSH_ATTRIBUTES and HWY_POP_ATTRIBUTES.
#pragma once

namespace flyover::devices::cpu::attention {

/// Rows that are handled together: two blocks of the product.
inline constexpr std::int64_t kStrip = 12;
inline constexpr double kLog2E = 1.4426950408889634074;

/// 2^t in every lane by the same operations: zero for -inf, a NaN for a NaN. The relative error is below 1e-7, or below
/// 3e-6 (1/600 of a bf16 rounding) where the result is rounded to bf16: minimax polynomials of 2^f on [-1/2, 1/2] with
/// the constant term 1.
template <class E>
[[gnu::always_inline]] inline typename E::Isa::Float power_of_two(typename E::Isa::Float t) {
  using Isa = typename E::Isa;
  t = Isa::clamp_exponent(t);
  const auto n = Isa::round(t);
  const auto f = Isa::subtract(t, n);
  auto power = Isa::zero();
  if constexpr (E::kPairs) {
    power = Isa::multiply_add(Isa::set(0x1.3a02ccp-7f), f, Isa::set(0x1.c9fc46p-5f));
    power = Isa::multiply_add(power, f, Isa::set(0x1.ec0378p-3f));
    power = Isa::multiply_add(power, f, Isa::set(0x1.62e12cp-1f));
  } else {
    power = Isa::multiply_add(Isa::set(0x1.41fbbcp-13f), f, Isa::set(0x1.5f3e54p-10f));
    power = Isa::multiply_add(power, f, Isa::set(0x1.3b2d4cp-7f));
    power = Isa::multiply_add(power, f, Isa::set(0x1.c6aee8p-5f));
    power = Isa::multiply_add(power, f, Isa::set(0x1.ebfbdcp-3f));
    power = Isa::multiply_add(power, f, Isa::set(0x1.62e430p-1f));
  }
  return Isa::times_power_of_two(Isa::multiply_add(power, f, Isa::set(1.0f)), n);
}

/// A strip of rows against a key tile.
struct Strip {
  std::int64_t rows;            ///< at most kStrip
  std::int64_t vectors;         ///< computed columns of the scores, in vectors; the keys behind them are masked
  const std::int64_t* visible;  ///< [rows]: keys of the tile that the row sees, kTile or more for all
  bool full;                    ///< every row sees every key
};

/// The running softmax of a strip of rows over key tiles (Milakov and Gimelshein, "Online normalizer calculation for
/// softmax", 2018), in units of log2. `sum` is kept by lane of the key; its lanes are added up once, at the end.
struct RunningSoftmax {
  float* maximum;     ///< [rows]
  float* sum;         ///< [rows, lanes]
  float* correction;  ///< [kStrip]: factor of what was summed before this tile
};

/// scores: [rows, kTile] products q . k, replaced by f32 probabilities up to the factor 2^-maximum; `words`: the same
/// as words, [rows, kTile / kDepth]. Masked keys get exact zeros. `factor` = |scale| log2(e).
template <class E>
void forward_softmax(const Strip& strip, float factor, const RunningSoftmax& running, float* scores, float* words) {
  using Isa = typename E::Isa;
  using Float = typename Isa::Float;
  constexpr std::int64_t kLanes = Isa::kLanes;
  alignas(64) float previous[16] = {}, maximum[16] = {};
  for (std::int64_t row = 0; row < strip.rows; ++row) {
    float* const s = scores + row * kTile;
    Float highest = Isa::set(-std::numeric_limits<float>::infinity());
    for (std::int64_t v = 0; v < strip.vectors; ++v) {
      Float value = Isa::load(s + v * kLanes);
      if (!strip.full) {
        value =
            Isa::first_lanes(strip.visible[row] - v * kLanes, value, Isa::set(-std::numeric_limits<float>::infinity()));
        Isa::store(s + v * kLanes, value);
      }
      highest = Isa::maximum(highest, value);
    }
    previous[row] = running.maximum[row];
    maximum[row] = std::max(previous[row], Isa::reduce_maximum(highest) * factor);
    running.maximum[row] = maximum[row];
  }
  for (std::int64_t v = 0; v < 16; v += kLanes) {
    Isa::store(running.correction + v, power_of_two<E>(Isa::subtract(Isa::load(previous + v), Isa::load(maximum + v))));
  }
  const Float factors = Isa::set(factor);
  for (std::int64_t row = 0; row < strip.rows; ++row) {
    const float* const s = scores + row * kTile;
    float* const to = words + row * (kTile / E::kDepth);
    const Float offset = Isa::set(-maximum[row]);
    float* const sum = running.sum + row * kLanes;
    Float total = Isa::multiply(Isa::load(sum), Isa::set(running.correction[row]));
    for (std::int64_t v = 0; v < strip.vectors; v += E::kDepth) {
      const Float first = power_of_two<E>(Isa::multiply_add(Isa::load(s + v * kLanes), factors, offset));
      total = Isa::add(total, first);
      if constexpr (E::kPairs) {
        Float second = Isa::zero();
        if (v + 1 < strip.vectors) {
          second = power_of_two<E>(Isa::multiply_add(Isa::load(s + (v + 1) * kLanes), factors, offset));
          total = Isa::add(total, second);
        }
        Isa::store(to + v / 2 * kLanes, Isa::concatenate(first, second));
      } else {
        Isa::store(to + v * kLanes, first);
      }
    }
    Isa::store(sum, total);
  }
}

/// What the backward pass makes of a strip: words for the products over queries (dk, dv) and over keys (dq).
struct StripGradients {
  float* p_by_key;   ///< [rows / kDepth, kTile]
  float* ds_by_key;  ///< [rows / kDepth, kTile]
  float* ds_by_row;  ///< [rows, kTile / kDepth]
};

/// p = 2^(factor q . k - log_sum_exp) and ds = p * (dp - delta), zeros where masked. scores, dp: [rows, kTile] f32;
/// log_sum_exp (in units of log2), delta: [rows]. With pairs, rows and vectors are even.
template <class E>
void backward_softmax(const Strip& strip, float factor, const float* log_sum_exp, const float* delta,
                      const float* scores, const float* dp, const StripGradients& to) {
  using Isa = typename E::Isa;
  using Float = typename Isa::Float;
  constexpr std::int64_t kLanes = Isa::kLanes;
  const Float factors = Isa::set(factor);
  for (std::int64_t row = 0; row < strip.rows; row += E::kDepth) {
    for (std::int64_t v = 0; v < strip.vectors; v += E::kDepth) {
      Float p[E::kDepth][E::kDepth], ds[E::kDepth][E::kDepth];
#pragma GCC unroll 2
      for (int i = 0; i < E::kDepth; ++i) {
        const Float offset = Isa::set(-log_sum_exp[row + i]);
#pragma GCC unroll 2
        for (int j = 0; j < E::kDepth; ++j) {
          const std::int64_t at = (row + i) * kTile + (v + j) * kLanes;
          p[i][j] = power_of_two<E>(Isa::multiply_add(Isa::load(scores + at), factors, offset));
          ds[i][j] = Isa::multiply(p[i][j], Isa::subtract(Isa::load(dp + at), Isa::set(delta[row + i])));
          if (!strip.full) {
            const std::int64_t visible = strip.visible[row + i] - (v + j) * kLanes;
            p[i][j] = Isa::first_lanes(visible, p[i][j], Isa::zero());
            ds[i][j] = Isa::first_lanes(visible, ds[i][j], Isa::zero());
          }
        }
      }
      const std::int64_t by_key = row / E::kDepth * kTile + v * kLanes;
      if constexpr (E::kPairs) {
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
          Isa::store(to.p_by_key + by_key + j * kLanes, Isa::interleave(p[0][j], p[1][j]));
          Isa::store(to.ds_by_key + by_key + j * kLanes, Isa::interleave(ds[0][j], ds[1][j]));
          Isa::store(to.ds_by_row + (row + j) * (kTile / 2) + v / 2 * kLanes, Isa::concatenate(ds[j][0], ds[j][1]));
        }
      } else {
        Isa::store(to.p_by_key + by_key, p[0][0]);
        Isa::store(to.ds_by_key + by_key, ds[0][0]);
      }
    }
  }
}

}  // namespace flyover::devices::cpu::attention
