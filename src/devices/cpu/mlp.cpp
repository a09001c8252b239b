#include <cmath>

#include "devices/cpu/families.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/mlp.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

/// The weight of a row, 1 where rows have none.
float weight_at(const std::optional<kernels::ConstView>& weights, std::int64_t row) {
  return weights.has_value() ? static_cast<const float*>(weights->data)[row] : 1.0f;
}

HWY_INLINE Vector gated(Vector gate, Vector up) {
  const Vector one = hn::Set(Tag(), 1.0f);
  return hn::Mul(hn::Div(gate, hn::Add(one, exponential(hn::Neg(gate)))), up);
}

/// The slope of silu over the sigmoid: 1 + gate * (1 - s).
HWY_INLINE Vector slope(Vector gate, Vector s) {
  const Vector one = hn::Set(Tag(), 1.0f);
  return hn::MulAdd(gate, hn::Sub(one, s), one);
}

/// The clamps of a limit. The order of the operands matters: on x86 these return the second one if either is NaN.
struct Limit {
  Vector limit;
  HWY_INLINE Vector of_gate(Vector gate) const { return hn::Min(limit, gate); }
  HWY_INLINE Vector of_up(Vector up) const { return hn::Max(hn::Neg(limit), hn::Min(limit, up)); }
};

HWY_INLINE void add_to(Vector& sum, Vector terms) {
  sum = hn::Add(sum, terms);
}
HWY_INLINE void add_to(Vector& sum, VectorPair terms) {
  sum = hn::Add(sum, hn::Add(terms.even, terms.odd));
}

/// kPlain: neither row weights nor a limit.
template <typename T, bool kPlain>
void swiglu_forward(const kernels::SwiGluForward& kernel, const LaunchContext& context) {
  const auto gate_up = rows_of<const T>(kernel.gate_up);
  const auto y = rows_of<T>(kernel.y);
  for_each_span(context.threads, y.rows, y.width,
                [&](std::int64_t i, std::int64_t begin, std::int64_t columns) HWY_ATTR {
                  const T* const gate_row = gate_up[i] + begin;
                  const T* const up_row = gate_row + y.width;
                  T* const y_row = y[i] + begin;
                  const Vector weight = hn::Set(Tag(), weight_at(kernel.row_weights, i));
                  const Limit limit{hn::Set(Tag(), kernel.limit)};
                  for_each_vector_or_pair<T>(columns, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
                    const auto value = [&](Vector gate, Vector up) FLYOVER_VECTOR_BODY {
                      if constexpr (kPlain) {
                        return gated(gate, up);
                      } else {
                        return hn::Mul(weight, gated(limit.of_gate(gate), limit.of_up(up)));
                      }
                    };
                    fetch(gate_row + j, gate_up.stride);
                    fetch(up_row + j, gate_up.stride);
                    fetch(y_row + j, y.stride);
                    store(apply(value, load(gate_row + j, lanes), load(up_row + j, lanes)), y_row + j, lanes);
                  });
                });
}

template <typename T>
void swiglu_backward_plain(const kernels::SwiGluBackward& kernel, const LaunchContext& context) {
  const auto gate_up = rows_of<const T>(kernel.gate_up);
  const auto dy = rows_of<const T>(kernel.dy);
  const auto dgate_up = rows_of<T>(kernel.dgate_up);
  for_each_span(
      context.threads, dy.rows, dy.width, [&](std::int64_t i, std::int64_t begin, std::int64_t columns) HWY_ATTR {
        const T* const gate_row = gate_up[i] + begin;
        const T* const up_row = gate_row + dy.width;
        const T* const dy_row = dy[i] + begin;
        T* const dgate_row = dgate_up[i] + begin;
        T* const dup_row = dgate_row + dy.width;
        for_each_vector_or_pair<T>(columns, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
          fetch(gate_row + j, gate_up.stride);
          fetch(up_row + j, gate_up.stride);
          fetch(dy_row + j, dy.stride);
          fetch(dgate_row + j, dgate_up.stride);
          fetch(dup_row + j, dgate_up.stride);
          const auto gate = load(gate_row + j, lanes), up = load(up_row + j, lanes);
          const auto s = apply([](Vector g) FLYOVER_VECTOR_BODY { return sigmoid(g); }, gate);
          const auto product = [](Vector a, Vector b) FLYOVER_VECTOR_BODY { return hn::Mul(a, b); };
          const auto slopes = [](Vector g, Vector sigmoid_g) FLYOVER_VECTOR_BODY { return slope(g, sigmoid_g); };
          const auto gradient = apply(product, load(dy_row + j, lanes), s);
          store(apply(product, apply(product, gradient, up), apply(slopes, gate, s)), dgate_row + j, lanes);
          store(apply(product, gradient, gate), dup_row + j, lanes);
        });
      });
}

/// With row weights or a limit. Whole rows, because of the sums over them.
template <typename T>
void swiglu_backward_general(const kernels::SwiGluBackward& kernel, const LaunchContext& context) {
  const auto gate_up = rows_of<const T>(kernel.gate_up);
  const auto dy = rows_of<const T>(kernel.dy);
  const auto dgate_up = rows_of<T>(kernel.dgate_up);
  auto* const drow_weights = kernel.drow_weights.has_value() ? static_cast<float*>(kernel.drow_weights->data) : nullptr;
  for_each_row(context.threads, dy.rows, dy.width, [&](std::int64_t i) HWY_ATTR {
    const T* const gate_row = gate_up[i];
    const T* const up_row = gate_row + dy.width;
    const T* const dy_row = dy[i];
    T* const dgate_row = dgate_up[i];
    T* const dup_row = dgate_row + dy.width;
    const Vector weight = hn::Set(Tag(), weight_at(kernel.row_weights, i));
    const Limit limit{hn::Set(Tag(), kernel.limit)};
    Vector sum = hn::Zero(Tag());
    for_each_vector_or_pair<T>(dy.width, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
      fetch(gate_row + j, gate_up.stride);
      fetch(up_row + j, gate_up.stride);
      fetch(dy_row + j, dy.stride);
      fetch(dgate_row + j, dgate_up.stride);
      fetch(dup_row + j, dgate_up.stride);
      const auto gate = load(gate_row + j, lanes), up = load(up_row + j, lanes);
      const auto s = apply([&](Vector g) FLYOVER_VECTOR_BODY { return sigmoid(limit.of_gate(g)); }, gate);
      const auto product = [](Vector a, Vector b) FLYOVER_VECTOR_BODY { return hn::Mul(a, b); };
      const auto dgate = [&](Vector dys, Vector u, Vector g, Vector sigmoid_g) FLYOVER_VECTOR_BODY {
        const Vector d = hn::Mul(hn::Mul(hn::Mul(weight, dys), limit.of_up(u)), slope(g, sigmoid_g));
        return hn::IfThenZeroElse(hn::Gt(g, limit.limit), d);
      };
      const auto dup = [&](Vector dys_silu, Vector u) FLYOVER_VECTOR_BODY {
        return hn::IfThenZeroElse(hn::Gt(hn::Abs(u), limit.limit), hn::Mul(weight, dys_silu));
      };
      const auto value = [&](Vector dys_silu, Vector u)
                             FLYOVER_VECTOR_BODY { return hn::Mul(dys_silu, limit.of_up(u)); };
      const auto dy_s = apply(product, load(dy_row + j, lanes), s);
      const auto limited = apply([&](Vector g) FLYOVER_VECTOR_BODY { return limit.of_gate(g); }, gate);
      const auto dy_silu = apply(product, dy_s, limited);
      store(apply(dgate, dy_s, up, gate, s), dgate_row + j, lanes);
      store(apply(dup, dy_silu, up), dup_row + j, lanes);
      add_to(sum, apply(value, dy_silu, up));
    });
    if (drow_weights != nullptr) {
      drow_weights[i] = hn::GetLane(hn::SumOfLanes(Tag(), sum));
    }
  });
}

void swiglu_forward(const kernels::SwiGluForward& kernel, const LaunchContext& context) {
  const bool plain = !kernel.row_weights.has_value() && std::isinf(kernel.limit);
  with_element_type(kernel.kName, kernel.y.dtype, [&]<typename T>(T) {
    plain ? swiglu_forward<T, true>(kernel, context) : swiglu_forward<T, false>(kernel, context);
  });
}

void swiglu_backward(const kernels::SwiGluBackward& kernel, const LaunchContext& context) {
  const bool plain = !kernel.row_weights.has_value() && std::isinf(kernel.limit);
  with_element_type(kernel.kName, kernel.dy.dtype, [&]<typename T>(T) {
    plain ? swiglu_backward_plain<T>(kernel, context) : swiglu_backward_general<T>(kernel, context);
  });
}

void add_kernels(KernelTable& table) {
  table.set<kernels::SwiGluForward>(swiglu_forward);
  table.set<kernels::SwiGluBackward>(swiglu_backward);
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_mlp_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table) : N_AVX3::add_kernels(table);
}

}  // namespace flyover::devices::cpu
#endif
