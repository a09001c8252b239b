
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

void swiglu_forward(const kernels::SwiGluForward& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.y.dtype, [&]<typename T>(T) HWY_ATTR {
    const auto gate_up = rows_of<const T>(kernel.gate_up);
    const auto y = rows_of<T>(kernel.y);
    for_each_span(context.threads, y.rows, y.width,
                  [&](std::int64_t i, std::int64_t begin, std::int64_t columns) HWY_ATTR {
                    const T* const gate_row = gate_up[i] + begin;
                    const T* const up_row = gate_row + y.width;
                    T* const y_row = y[i] + begin;
                    for_each_vector_or_pair<T>(columns, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
                      const auto gated = [](Vector gate, Vector up) FLYOVER_VECTOR_BODY {
                        const Vector one = hn::Set(Tag(), 1.0f);
                        return hn::Mul(hn::Div(gate, hn::Add(one, exponential(hn::Neg(gate)))), up);
                      };
                      fetch(gate_row + j, gate_up.stride);
                      fetch(up_row + j, gate_up.stride);
                      fetch(y_row + j, y.stride);
                      store(apply(gated, load(gate_row + j, lanes), load(up_row + j, lanes)), y_row + j, lanes);
                    });
                  });
  });
}

void swiglu_backward(const kernels::SwiGluBackward& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.dy.dtype, [&]<typename T>(T) HWY_ATTR {
    const auto gate_up = rows_of<const T>(kernel.gate_up);
    const auto dy = rows_of<const T>(kernel.dy);
    const auto dgate_up = rows_of<T>(kernel.dgate_up);
    for_each_span(context.threads, dy.rows, dy.width,
                  [&](std::int64_t i, std::int64_t begin, std::int64_t columns) HWY_ATTR {
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
                      const auto gradient = apply(product, load(dy_row + j, lanes), s);
                      // 1 + gate * (1 - s)
                      const auto slope = [](Vector g, Vector sigmoid_g) FLYOVER_VECTOR_BODY {
                        const Vector one = hn::Set(Tag(), 1.0f);
                        return hn::MulAdd(g, hn::Sub(one, sigmoid_g), one);
                      };
                      store(apply(product, apply(product, gradient, up), apply(slope, gate, s)), dgate_row + j, lanes);
                      store(apply(product, gradient, gate), dup_row + j, lanes);
                    });
                  });
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
