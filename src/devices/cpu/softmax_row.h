// The log-softmax of a row of logits: the one definition that loss and sampling share, so that both give the same bits.
// Like vector_math.h compiled once for each instruction set; include after it and every general header.

#if defined(FLYOVER_DEVICES_CPU_SOFTMAX_ROW) == defined(HWY_TARGET_TOGGLE)
#ifdef FLYOVER_DEVICES_CPU_SOFTMAX_ROW
#undef FLYOVER_DEVICES_CPU_SOFTMAX_ROW
#else
#define FLYOVER_DEVICES_CPU_SOFTMAX_ROW
#endif

#include <algorithm>
#include <cmath>

#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

/// z = logit / temperature; at temperature 1 without the division, which would not change a bit.
struct PlainLogits {
  HWY_INLINE Vector operator()(Vector logits) const { return logits; }
};
struct ScaledLogits {
  float temperature;
  HWY_INLINE Vector operator()(Vector logits) const { return hn::Div(logits, hn::Set(Tag(), temperature)); }
};

/// What softmax(logits / temperature) needs of a row.
struct SoftmaxRow {
  float temperature;
  float maximum;  ///< largest logit / temperature; NaN or arbitrary where a logit is NaN
  double sum;     ///< of exp(logit / temperature - maximum); NaN where a logit is NaN

  /// log softmax at one logit of the row.
  float log_probability(float logit) const { return static_cast<float>(log_probability_in_f64(logit)); }
  double log_probability_in_f64(float logit) const {
    return (static_cast<double>(logit / temperature) - static_cast<double>(maximum)) - std::log(sum);
  }
};

/// Logits that are summed in f32 before their sum is added in f64.
inline constexpr std::int64_t kLogitsPerSum = 4096;

/// Two passes, the second over a row that the second-level cache holds. One pass over blocks with a running maximum
/// was not faster.
template <typename Scaling>
SoftmaxRow scaled_softmax_row(const float* logits, std::int64_t width, float temperature, Scaling scaling,
                              std::int64_t next) {
  const Vector lowest = hn::Set(Tag(), -std::numeric_limits<float>::infinity());
  const float largest =
      largest_of(fold_vectors(width, lowest, [&](Vector maximum, std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
        return hn::Max(maximum, keep_lanes(load(logits + j, lanes), lowest, lanes));
      }));
  SoftmaxRow row{temperature, largest / temperature, 0.0};
  const Vector maximum = hn::Set(Tag(), row.maximum);
  for (std::int64_t begin = 0; begin < width; begin += kLogitsPerSum) {
    row.sum += static_cast<double>(sum_of(fold_vectors(std::min(kLogitsPerSum, width - begin), hn::Zero(Tag()),
                                                       [&](Vector sum, std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
                                                         fetch(logits + begin + j, next);
                                                         const Vector z = scaling(load(logits + begin + j, lanes));
                                                         const Vector power = exponential(hn::Sub(z, maximum));
                                                         return hn::Add(sum, keep_lanes(power, hn::Zero(Tag()), lanes));
                                                       })));
  }
  return row;
}

/// The row `next` elements further on is fetched meanwhile.
inline SoftmaxRow softmax_row(const float* logits, std::int64_t width, float temperature, std::int64_t next) {
  return temperature == 1.0f ? scaled_softmax_row(logits, width, temperature, PlainLogits{}, next)
                             : scaled_softmax_row(logits, width, temperature, ScaledLogits{temperature}, next);
}

#endif  // HWY_TARGET

}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLYOVER_DEVICES_CPU_SOFTMAX_ROW
