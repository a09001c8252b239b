#include <cmath>

#include "devices/cpu/families.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/norm.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/row_sums.h"
#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

/// weight.times(value, j, lanes) is the value times the weights from column j, or the value where there are none.
struct NoWeight {
  template <typename Lanes>
  HWY_INLINE Vector times(Vector value, std::int64_t, Lanes) const {
    return value;
  }
};
template <typename T>
struct ColumnWeight {
  const T* data;
  template <typename Lanes>
  HWY_INLINE Vector times(Vector value, std::int64_t j, Lanes lanes) const {
    return hn::Mul(value, load(data + j, lanes));
  }
};
template <typename T, typename Body>
void with_weight(const std::optional<kernels::ConstView>& weight, const Body& body) {
  if (weight.has_value()) {
    body(ColumnWeight<T>{static_cast<const T*>(weight->data)});
  } else {
    body(NoWeight{});
  }
}

void rms_norm_forward(const kernels::RmsNormForward& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.x.dtype, [&]<typename T>(T) HWY_ATTR {
    const auto x = rows_of<const T>(kernel.x);
    const auto y = rows_of<T>(kernel.y);
    float* const rstd = static_cast<float*>(kernel.rstd.data);
    with_weight<T>(kernel.weight, [&](const auto& weight) HWY_ATTR {
      for_each_row(context.threads, x.rows, x.width, [&](std::int64_t i) HWY_ATTR {
        const T* const from = x[i];
        T* const to = y[i];
        const float squares = sum_of(
            fold_vectors(x.width, hn::Zero(Tag()), [&](Vector sum, std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
              const Vector value = load(from + j, lanes);
              return hn::MulAdd(value, value, sum);
            }));
        rstd[i] = 1.0f / std::sqrt(squares / static_cast<float>(x.width) + kernel.epsilon);
        const Vector scale = hn::Set(Tag(), rstd[i]);
        for_each_vector(x.width, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
          store(weight.times(hn::Mul(load(from + j, lanes), scale), j, lanes), to + j, lanes);
        });
      });
    });
  });
}

void rms_norm_backward(const kernels::RmsNormBackward& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.x.dtype, [&]<typename T>(T) HWY_ATTR {
    const auto x = rows_of<const T>(kernel.x);
    const auto dy = rows_of<const T>(kernel.dy);
    const auto dx = rows_of<T>(kernel.dx);
    const float* const rstd = static_cast<const float*>(kernel.rstd.data);
    with_weight<T>(kernel.weight, [&](const auto& weight) HWY_ATTR {
      for_each_row(context.threads, x.rows, x.width, [&](std::int64_t i) HWY_ATTR {
        const T* const x_row = x[i];
        const T* const dy_row = dy[i];
        T* const dx_row = dx[i];
        const float product = sum_of(
            fold_vectors(x.width, hn::Zero(Tag()), [&](Vector sum, std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
              return hn::MulAdd(weight.times(load(dy_row + j, lanes), j, lanes), load(x_row + j, lanes), sum);
            }));
        const Vector scale = hn::Set(Tag(), rstd[i]);
        const Vector projection = hn::Set(Tag(), rstd[i] * rstd[i] * (product / static_cast<float>(x.width)));
        const auto gradient = [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
          const Vector g = weight.times(load(dy_row + j, lanes), j, lanes);
          return hn::NegMulAdd(load(x_row + j, lanes), projection, g);
        };
        if (kernel.accumulate) {
          for_each_vector(x.width, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
            store(hn::MulAdd(scale, gradient(j, lanes), load(dx_row + j, lanes)), dx_row + j, lanes);
          });
        } else {
          for_each_vector(x.width, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
            store(hn::Mul(scale, gradient(j, lanes)), dx_row + j, lanes);
          });
        }
      });
    });
  });
}

void rms_norm_weight_gradient(const kernels::RmsNormWeightGradient& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.x.dtype, [&]<typename T>(T) HWY_ATTR {
    const auto x = rows_of<const T>(kernel.x);
    const auto dy = rows_of<const T>(kernel.dy);
    const float* const rstd = static_cast<const float*>(kernel.rstd.data);
    add_row_sums(x.rows, x.width, static_cast<float*>(kernel.dweight.data), context,
                 [&](Vector sum, std::int64_t i, std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
                   const Vector normalised = hn::Mul(load(x[i] + j, lanes), hn::Set(Tag(), rstd[i]));
                   return hn::MulAdd(load(dy[i] + j, lanes), normalised, sum);
                 });
  });
}

void add_kernels(KernelTable& table) {
  table.set<kernels::RmsNormForward>(rms_norm_forward);
  table.set<kernels::RmsNormBackward>(rms_norm_backward);
  table.set<kernels::RmsNormWeightGradient>(rms_norm_weight_gradient,
                                            [](const kernels::RmsNormWeightGradient& kernel, int) {
                                              return row_sums_workspace(kernel.x.size(0), kernel.x.size(1));
                                            });
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_norm_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table) : N_AVX3::add_kernels(table);
}

}  // namespace flyover::devices::cpu
#endif
