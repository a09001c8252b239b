// From preactivations to coefficients and back, for as many tokens at once as a vector has lanes: a token is a lane, so
// that its bits do not depend on its neighbours. Like vector_math.h compiled once for each instruction set; include
// after it and every general header.

#if defined(FLYOVER_DEVICES_CPU_HYPER_CONNECTION_MIXING) == defined(HWY_TARGET_TOGGLE)
#ifdef FLYOVER_DEVICES_CPU_HYPER_CONNECTION_MIXING
#undef FLYOVER_DEVICES_CPU_HYPER_CONNECTION_MIXING
#else
#define FLYOVER_DEVICES_CPU_HYPER_CONNECTION_MIXING
#endif

#include <algorithm>
#include <cstdint>

#include "devices/cpu/hyper_connection_parts.h"
#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

/// The parameters of a site, or of a head.
struct Site {
  std::int64_t streams;
  std::int64_t rows;
  std::int64_t iterations;
  float epsilon;
  bool head;
  const float* base;
  const float* scale;

  std::int64_t group_of(std::int64_t row) const { return std::min<std::int64_t>(row / streams, 2); }
};

template <typename Kernel>
Site site_of(const Kernel& kernel) {
  return {kernel.stream_count,
          kernel.fn.size(0),
          kernel.iterations,
          kernel.epsilon,
          kernel.head,
          static_cast<const float*>(kernel.base.data),
          static_cast<const float*>(kernel.scale.data)};
}

/// One number of every row for as many tokens as there are lanes; tokens that do not exist have zeros.
struct alignas(64) TokenLanes {
  float at[kMaximumRows + 1][kLanes];

  Vector row(std::int64_t i) const { return hn::Load(Tag(), at[i]); }
  void set_row(std::int64_t i, Vector value) { hn::Store(value, Tag(), at[i]); }
  /// From `tokens` rows of a dense matrix.
  void read(const float* from, std::int64_t tokens, std::int64_t rows) {
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t t = 0; t < tokens; ++t) {
        at[i][t] = from[t * rows + i];
      }
      std::fill(at[i] + tokens, at[i] + kLanes, 0.0f);
    }
  }
  void write(float* to, std::int64_t tokens, std::int64_t rows) const {
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t i = 0; i < rows; ++i) {
        to[t * rows + i] = at[i][t];
      }
    }
  }
};

/// scale * u + base, with u = r * (fn x); r is behind the rows of fn x.
HWY_INLINE Vector preactivation(const Site& site, const TokenLanes& product, std::int64_t row) {
  const Vector u = hn::Mul(product.row(site.rows), product.row(row));
  return hn::MulAdd(hn::Set(Tag(), site.scale[site.group_of(row)]), u, hn::Set(Tag(), site.base[row]));
}

/// The matrices of one vector of tokens; kStreams is their size, or 0 where it is known at run time only.
template <int kStreams>
class Sinkhorn {
 public:
  /// What a step keeps for the way back: the matrix after it and the factors of its lines.
  static std::int64_t record_floats(std::int64_t streams, std::int64_t iterations) {
    return (2 * iterations - 1) * step_floats(streams);
  }

  explicit Sinkhorn(const Site& site)
      : n_(kStreams > 0 ? kStreams : site.streams), epsilon_(hn::Set(Tag(), site.epsilon)) {}

  /// Softmax of the rows, and epsilon. `softmax` is where the softmax is kept, or null.
  HWY_INLINE void start(const Site& site, const TokenLanes& product, float* softmax) {
    const std::int64_t n = size();
    for (std::int64_t j = 0; j < n; ++j) {
      Vector* const line = matrix_ + j * n;
      Vector largest = hn::Set(Tag(), -std::numeric_limits<float>::infinity());
      for (std::int64_t k = 0; k < n; ++k) {
        line[k] = preactivation(site, product, (2 + j) * n + k);
        largest = hn::Max(largest, line[k]);
      }
      Vector sum = hn::Zero(Tag());
      for (std::int64_t k = 0; k < n; ++k) {
        line[k] = exponential(hn::Sub(line[k], largest));
        sum = hn::Add(sum, line[k]);
      }
      for (std::int64_t k = 0; k < n; ++k) {
        line[k] = hn::Div(line[k], sum);
        if (softmax != nullptr) {
          hn::StoreU(line[k], Tag(), softmax + (j * n + k) * kLanes);
        }
        line[k] = hn::Add(line[k], epsilon_);
      }
    }
  }

  /// All steps. `record` is where they are kept, or null.
  HWY_INLINE void run(std::int64_t iterations, float* record) {
    step<false>(record);
    for (std::int64_t i = 1; i < iterations; ++i) {
      step<true>(next(record));
      step<false>(next(record));
    }
  }

  HWY_INLINE void write(TokenLanes& result) const {
    const std::int64_t n = size();
    for (std::int64_t i = 0; i < n * n; ++i) {
      result.set_row(2 * n + i, matrix_[i]);
    }
  }

  /// The rows of comb become the gradients of the logits. The matrix is what `run` left.
  HWY_INLINE static void back(const Site& site, const float* softmax, const float* record, TokenLanes& gradient) {
    const std::int64_t n = kStreams > 0 ? kStreams : site.streams;
    Vector g[kCapacity];
    for (std::int64_t i = 0; i < n * n; ++i) {
      g[i] = gradient.row(2 * n + i);
    }
    const float* kept = record + (2 * site.iterations - 2) * step_floats(n);
    for (std::int64_t i = 1; i < site.iterations; ++i) {
      step_back<false>(n, kept, g);
      step_back<true>(n, kept - step_floats(n), g);
      kept -= 2 * step_floats(n);
    }
    step_back<false>(n, kept, g);
    for (std::int64_t j = 0; j < n; ++j) {
      const auto probability = [&](std::int64_t k)
                                   HWY_ATTR { return hn::LoadU(Tag(), softmax + (j * n + k) * kLanes); };
      Vector sum = hn::Zero(Tag());
      for (std::int64_t k = 0; k < n; ++k) {
        sum = hn::MulAdd(g[j * n + k], probability(k), sum);
      }
      for (std::int64_t k = 0; k < n; ++k) {
        gradient.set_row((2 + j) * n + k, hn::Mul(probability(k), hn::Sub(g[j * n + k], sum)));
      }
    }
  }

 private:
  static constexpr std::int64_t kLargest = kStreams > 0 ? kStreams : kernels::kMaximumStreams;
  static constexpr std::int64_t kCapacity = kLargest * kLargest;

  static std::int64_t step_floats(std::int64_t streams) { return (streams * streams + streams) * kLanes; }
  HWY_INLINE std::int64_t size() const { return kStreams > 0 ? kStreams : n_; }
  HWY_INLINE float* next(float*& record) const { return record == nullptr ? nullptr : record += step_floats(size()); }
  /// Element k of line j: lines are rows or columns.
  template <bool kByRow>
  HWY_INLINE static std::int64_t place(std::int64_t n, std::int64_t j, std::int64_t k) {
    return kByRow ? j * n + k : k * n + j;
  }

  template <bool kByRow>
  HWY_INLINE void step(float* record) {
    const std::int64_t n = size();
#pragma GCC unroll 4
    for (std::int64_t j = 0; j < n; ++j) {
      Vector sum = matrix_[place<kByRow>(n, j, 0)];
#pragma GCC unroll 4
      for (std::int64_t k = 1; k < n; ++k) {
        sum = hn::Add(sum, matrix_[place<kByRow>(n, j, k)]);
      }
      const Vector factor = hn::Div(hn::Set(Tag(), 1.0f), hn::Add(sum, epsilon_));
#pragma GCC unroll 4
      for (std::int64_t k = 0; k < n; ++k) {
        Vector& element = matrix_[place<kByRow>(n, j, k)];
        element = hn::Mul(element, factor);
        if (record != nullptr) {
          hn::StoreU(element, Tag(), record + place<kByRow>(n, j, k) * kLanes);
        }
      }
      if (record != nullptr) {
        hn::StoreU(factor, Tag(), record + (n * n + j) * kLanes);
      }
    }
  }

  /// g = (g - sum over the line of g * out) * factor.
  template <bool kByRow>
  HWY_INLINE static void step_back(std::int64_t n, const float* record, Vector* g) {
#pragma GCC unroll 4
    for (std::int64_t j = 0; j < n; ++j) {
      Vector sum = hn::Zero(Tag());
#pragma GCC unroll 4
      for (std::int64_t k = 0; k < n; ++k) {
        const std::int64_t i = place<kByRow>(n, j, k);
        sum = hn::MulAdd(g[i], hn::LoadU(Tag(), record + i * kLanes), sum);
      }
      const Vector factor = hn::LoadU(Tag(), record + (n * n + j) * kLanes);
#pragma GCC unroll 4
      for (std::int64_t k = 0; k < n; ++k) {
        const std::int64_t i = place<kByRow>(n, j, k);
        g[i] = hn::Mul(hn::Sub(g[i], sum), factor);
      }
    }
  }

  std::int64_t n_;
  Vector epsilon_;
  Vector matrix_[kCapacity];
};

/// Scratch for the way back of one vector of tokens, in floats: the softmax, then Sinkhorn's steps.
inline std::int64_t mixing_scratch(const Site& site) {
  return site.streams * site.streams * kLanes + Sinkhorn<0>::record_floats(site.streams, site.iterations);
}

/// pre, post and comb of a vector of tokens. `scratch` is what mix_back needs, or null.
template <int kStreams>
void mix(const Site& site, const TokenLanes& product, float* scratch, TokenLanes& coefficients) {
  const std::int64_t n = kStreams > 0 ? kStreams : site.streams;
  for (std::int64_t i = 0; i < std::min(2 * n, site.rows); ++i) {
    const Vector s = sigmoid(preactivation(site, product, i));
    coefficients.set_row(i, i < n ? hn::Add(s, hn::Set(Tag(), site.epsilon)) : hn::Add(s, s));
  }
  if (!site.head) {
    Sinkhorn<kStreams> sinkhorn(site);
    sinkhorn.start(site, product, scratch);
    sinkhorn.run(site.iterations, scratch == nullptr ? nullptr : scratch + n * n * kLanes);
    sinkhorn.write(coefficients);
  }
}

/// The gradients of the coefficients become those of the preactivations.
template <int kStreams>
void mix_back(const Site& site, const TokenLanes& product, const float* scratch, TokenLanes& gradient) {
  const std::int64_t n = kStreams > 0 ? kStreams : site.streams;
  for (std::int64_t i = 0; i < std::min(2 * n, site.rows); ++i) {
    const Vector s = sigmoid(preactivation(site, product, i));
    const Vector slope = hn::NegMulAdd(s, s, s);
    const Vector factor = i < n ? slope : hn::Add(slope, slope);
    gradient.set_row(i, hn::Mul(gradient.row(i), factor));
  }
  if (!site.head) {
    Sinkhorn<kStreams>::back(site, scratch, scratch + n * n * kLanes, gradient);
  }
}

#endif  // HWY_TARGET

}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLYOVER_DEVICES_CPU_HYPER_CONNECTION_MIXING
