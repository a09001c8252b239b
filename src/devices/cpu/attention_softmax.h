// The exponentials of attention: 2^t, and the softmax of a strip of rows against a key tile, forward and backward.
// Included between HWY_PUSH_ATTRIBUTES and HWY_POP_ATTRIBUTES.
#pragma once

namespace flyover::devices::cpu::attention {

/// 2^t in every lane by the same operations: zero for -inf, a NaN for a NaN. The relative error is below 2e-7, or below
/// 3e-6 (1/600 of a bf16 rounding) where the result is rounded to bf16: minimax polynomials of 2^f on [0, 1] with the
/// constant term 1.
template <class E>
[[gnu::always_inline]] inline typename E::Isa::Float power_of_two(typename E::Isa::Float t) {
  using Isa = typename E::Isa;
  const auto f = Isa::fraction(t);
  auto power = Isa::zero();
  if constexpr (E::kPairs) {
    power = Isa::multiply_add(Isa::set(0x1.b7f734p-7f), f, Isa::set(0x1.abf868p-5f));
    power = Isa::multiply_add(power, f, Isa::set(0x1.ee2452p-3f));
    power = Isa::multiply_add(power, f, Isa::set(0x1.62d6c6p-1f));
  } else {
    power = Isa::multiply_add(Isa::set(0x1.c54176p-13f), f, Isa::set(0x1.46d64cp-10f));
    power = Isa::multiply_add(power, f, Isa::set(0x1.3d0b92p-7f));
    power = Isa::multiply_add(power, f, Isa::set(0x1.c68912p-5f));
    power = Isa::multiply_add(power, f, Isa::set(0x1.ebfd58p-3f));
    power = Isa::multiply_add(power, f, Isa::set(0x1.62e42cp-1f));
  }
  return Isa::times_power_of_two(Isa::multiply_add(power, f, Isa::set(1.0f)), t);
}

/// The running softmax of a strip of rows over key tiles (Milakov and Gimelshein, "Online normalizer calculation for
/// softmax", 2018), in units of log2. `sum` is kept by lane of the key; its lanes are added up once, at the end.
struct RunningSoftmax {
  float* maximum;     ///< [rows]
  float* sum;         ///< [rows, lanes]
  float* correction;  ///< [kStrip]: factor of what was summed before this tile
};

/// `value` in the lanes of keys that a row of the strip sees, `other` elsewhere. Other kinds of strips, which say in
/// their own way what a row sees and may begin at a later vector, come with their own.
template <class E>
[[gnu::always_inline]] inline typename E::Isa::Float seen_lanes(const Strip& strip, std::int64_t row,
                                                                std::int64_t vector, typename E::Isa::Float value,
                                                                typename E::Isa::Float other) {
  return E::Isa::first_lanes(strip.visible[row] - vector * E::Isa::kLanes, value, other);
}

/// kFull: every row sees every key, and the number of vectors is a constant.
template <class E, bool kFull, class AnyStrip>
void forward_softmax_of(const AnyStrip& strip, float factor, const RunningSoftmax& running, float* scores,
                        float* words) {
  using Isa = typename E::Isa;
  using Float = typename Isa::Float;
  constexpr std::int64_t kLanes = Isa::kLanes;
  const std::int64_t begin = kFull ? 0 : strip.first_vector, vectors = kFull ? kTile / kLanes : strip.vectors;
  const Float nothing = Isa::set(-std::numeric_limits<float>::infinity());
  Float highest[16];
  alignas(64) float maxima[16];
  for (std::int64_t row = 0; row < strip.rows; ++row) {
    float* const s = scores + row * kTile;
    highest[row] = nothing;
#pragma GCC unroll 8
    for (std::int64_t v = begin; v < vectors; ++v) {
      Float value = Isa::load(s + v * kLanes);
      if constexpr (!kFull) {
        value = seen_lanes<E>(strip, row, v, value, nothing);
        Isa::store(s + v * kLanes, value);
      }
      highest[row] = Isa::maximum(highest[row], value);
    }
  }
  for (std::int64_t row = strip.rows; row < 16; ++row) {
    highest[row] = nothing;
  }
  Isa::reduce_maxima(highest, maxima);
  alignas(64) float negative[16];
  const Float factors = Isa::set(factor);
  for (std::int64_t v = 0; v < 16; v += kLanes) {
    const Float previous = Isa::load_first(running.maximum + v, strip.rows - v);
    const Float maximum = Isa::maximum(Isa::multiply(Isa::load(maxima + v), factors), previous);
    Isa::store_first(running.maximum + v, maximum, strip.rows - v);
    Isa::store(negative + v, Isa::subtract(Isa::zero(), maximum));
    Isa::store(running.correction + v, power_of_two<E>(Isa::subtract(previous, maximum)));
  }
  for (std::int64_t row = 0; row < strip.rows; ++row) {
    const float* const s = scores + row * kTile;
    float* const to = words + row * (kTile / E::kDepth);
    const Float offset = Isa::set(negative[row]);
    Float total = Isa::zero();
#pragma GCC unroll 8
    for (std::int64_t v = begin / E::kDepth * E::kDepth; v < vectors; v += E::kDepth) {
      Float first = Isa::zero();
      if (kFull || v >= begin) {
        first = power_of_two<E>(Isa::multiply_add(Isa::load(s + v * kLanes), factors, offset));
        total = Isa::add(total, first);
      }
      if constexpr (E::kPairs) {
        Float second = Isa::zero();
        if (kFull || v + 1 < vectors) {
          second = power_of_two<E>(Isa::multiply_add(Isa::load(s + (v + 1) * kLanes), factors, offset));
          total = Isa::add(total, second);
        }
        Isa::store(to + v / 2 * kLanes, Isa::concatenate(first, second));
      } else {
        Isa::store(to + v * kLanes, first);
      }
    }
    float* const sum = running.sum + row * kLanes;
    Isa::store(sum, Isa::multiply_add(Isa::load(sum), Isa::set(running.correction[row]), total));
  }
}

/// scores: [rows, kTile] products q . k, of which masked ones change; `words`: probabilities up to the factor
/// 2^-maximum, [rows, kTile / kDepth]. Masked keys get exact zeros. `factor`: score_factor.
template <class E, class AnyStrip>
void forward_softmax(const AnyStrip& strip, float factor, const RunningSoftmax& running, float* scores, float* words) {
  if (strip.full) {
    forward_softmax_of<E, true>(strip, factor, running, scores, words);
  } else {
    forward_softmax_of<E, false>(strip, factor, running, scores, words);
  }
}

/// delta = sum over head_dim of dy * y, in f32.
template <class E>
float delta_of(const typename E::Element* dy, const typename E::Element* y, std::int64_t head_dim) {
  using Isa = typename E::Isa;
  auto sum = Isa::zero();
  for (std::int64_t column = 0; column < head_dim; column += Isa::kLanes) {
    sum = Isa::multiply_add(Isa::load_first(dy + column, head_dim - column),
                            Isa::load_first(y + column, head_dim - column), sum);
  }
  return Isa::reduce_add(sum);
}

/// What the backward pass makes of a strip: words for the products over queries (dk, dv) and over keys (dq).
struct StripGradients {
  float* p_by_key;   ///< [rows / kDepth, kTile]
  float* ds_by_key;  ///< [rows / kDepth, kTile]
  float* ds_by_row;  ///< [rows, kTile / kDepth]
};

template <class E, bool kFull, class AnyStrip>
void backward_softmax_of(const AnyStrip& strip, float factor, float scale, const float* log_sum_exp, const float* delta,
                         const float* scores, const float* dp, const StripGradients& to) {
  using Isa = typename E::Isa;
  using Float = typename Isa::Float;
  constexpr std::int64_t kLanes = Isa::kLanes;
  const std::int64_t begin = kFull ? 0 : strip.first_vector, vectors = kFull ? kTile / kLanes : strip.vectors;
  const Float factors = Isa::set(factor), scales = Isa::set(scale);
  for (std::int64_t row = 0; row < strip.rows; row += E::kDepth) {
#pragma GCC unroll 8
    for (std::int64_t v = begin / E::kDepth * E::kDepth; v < vectors; v += E::kDepth) {
      Float p[E::kDepth][E::kDepth], ds[E::kDepth][E::kDepth];
#pragma GCC unroll 2
      for (int i = 0; i < E::kDepth; ++i) {
        const Float offset = Isa::set(-log_sum_exp[row + i]), negative_delta = Isa::set(-delta[row + i]);
#pragma GCC unroll 2
        for (int j = 0; j < E::kDepth; ++j) {
          if (!kFull && (v + j < begin || v + j >= vectors)) {
            p[i][j] = ds[i][j] = Isa::zero();
            continue;
          }
          const std::int64_t at = (row + i) * kTile + (v + j) * kLanes;
          p[i][j] = power_of_two<E>(Isa::multiply_add(Isa::load(scores + at), factors, offset));
          ds[i][j] = Isa::multiply(p[i][j], Isa::multiply_add(Isa::load(dp + at), scales, negative_delta));
          if constexpr (!kFull) {
            p[i][j] = seen_lanes<E>(strip, row + i, v + j, p[i][j], Isa::zero());
            ds[i][j] = seen_lanes<E>(strip, row + i, v + j, ds[i][j], Isa::zero());
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

/// p = 2^(factor q . k - log_sum_exp) and ds = p * (scale dp - delta), zeros where masked. scores, dp: [rows, kTile]
/// f32; log_sum_exp (in units of log2), delta: [rows]. With pairs, rows are even, and vectors are written by twos.
template <class E, class AnyStrip>
void backward_softmax(const AnyStrip& strip, float factor, float scale, const float* log_sum_exp, const float* delta,
                      const float* scores, const float* dp, const StripGradients& to) {
  if (strip.full) {
    backward_softmax_of<E, true>(strip, factor, scale, log_sum_exp, delta, scores, dp, to);
  } else {
    backward_softmax_of<E, false>(strip, factor, scale, log_sum_exp, delta, scores, dp, to);
  }
}

}  // namespace flyover::devices::cpu::attention
