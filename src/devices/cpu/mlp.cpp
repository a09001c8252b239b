
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
                    for_each_vector(columns, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
                      const Vector gate = load(gate_row + j, lanes);
                      const Vector silu = hn::Div(gate, hn::Add(hn::Set(Tag(), 1.0f), exponential(hn::Neg(gate))));
                      store(hn::Mul(silu, load(up_row + j, lanes)), y_row + j, lanes);
                    });
                  });
  });
}

void swiglu_backward(const kernels::SwiGluBackward& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.dy.dtype, [&]<typename T>(T) HWY_ATTR {
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
          for_each_vector(columns, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
            const Vector one = hn::Set(Tag(), 1.0f);
            const Vector gate = load(gate_row + j, lanes), up = load(up_row + j, lanes), dy_s = load(dy_row + j, lanes);
            const Vector s = sigmoid(gate);
            const Vector gradient = hn::Mul(dy_s, s);
            // 1 + gate * (1 - s)
            const Vector slope = hn::MulAdd(gate, hn::Sub(one, s), one);
            store(hn::Mul(hn::Mul(gradient, up), slope), dgate_row + j, lanes);
            store(hn::Mul(gradient, gate), dup_row + j, lanes);
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
