#include "devices/cpu/families.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/streams.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/streams_rows.h"
#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

/// Calls body(T{}, count) with the type of the streams and their number as with_stream_count gives it.
template <typename Body>
void with_streams(std::string_view kernel, const kernels::ConstView& streams, std::int64_t count, const Body& body) {
  with_element_type(kernel, streams.dtype,
                    [&]<typename T>(T) { with_stream_count(count, [&](auto constant) { body(T{}, constant); }); });
}

/// The sum of what was there and a value; no memory is read where nothing is accumulated.
template <typename Value, typename T, typename Lanes>
HWY_INLINE Value accumulated(bool accumulate, Value value, const T* from, Lanes lanes) {
  const auto sum = [](Vector a, Vector b) FLYOVER_VECTOR_BODY { return hn::Add(a, b); };
  return accumulate ? apply(sum, load(from, lanes), value) : value;
}

HWY_INLINE float accumulated(bool accumulate, float value, float before) {
  return accumulate ? before + value : value;
}

void stream_collapse(const kernels::StreamCollapse& kernel, const LaunchContext& context) {
  const std::int64_t width = kernel.y.size(1), n = kernel.streams.size(1) / width;
  with_streams(kernel.kName, kernel.streams, n,
               [&]<typename T, int kStreams>(T, std::integral_constant<int, kStreams>) {
                 const auto x = rows_of<const T>(kernel.streams);
                 const auto pre = rows_of<const float>(kernel.coefficients);
                 const auto y = rows_of<T>(kernel.y);
                 for_each_row(context.threads, x.rows, x.width,
                              [&](std::int64_t t) HWY_ATTR { collapse_row<kStreams>(x[t], pre[t], n, width, y[t]); });
               });
}

void stream_expand(const kernels::StreamExpand& kernel, const LaunchContext& context) {
  const std::int64_t width = kernel.f.size(1), n = kernel.streams.size(1) / width;
  with_streams(kernel.kName, kernel.streams, n,
               [&]<typename T, int kStreams>(T, std::integral_constant<int, kStreams>) {
                 const auto x = rows_of<const T>(kernel.streams), f = rows_of<const T>(kernel.f);
                 const auto coefficients = rows_of<const float>(kernel.coefficients);
                 const auto y = rows_of<T>(kernel.y);
                 for_each_row(context.threads, x.rows, x.width, [&](std::int64_t t) HWY_ATTR {
                   const std::int64_t count = kStreams > 0 ? kStreams : n;
                   const float* const post = coefficients[t] + count;
                   const float* const comb = post + count;
                   const T *const x_row = x[t], *const f_row = f[t];
                   T* const y_row = y[t];
                   for_each_vector_or_pair<T>(width, [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
                     const auto inner = load(f_row + i, lanes);
                     std::remove_const_t<decltype(inner)> stream[kStreamCapacity<kStreams>];
                     for (std::int64_t j = 0; j < count; ++j) {
                       stream[j] = load(x_row + j * width + i, lanes);
                     }
                     for (std::int64_t k = 0; k < count; ++k) {
                       auto sum = scaled(post[k], inner);
                       for (std::int64_t j = 0; j < count; ++j) {
                         sum = add_scaled(comb[j * count + k], stream[j], sum);
                       }
                       store(sum, y_row + k * width + i, lanes);
                     }
                   });
                 });
               });
}

/// One token of StreamExpandBackward.
template <int kStreams, typename T>
struct ExpandBackward {
  const kernels::StreamExpandBackward& kernel;
  std::int64_t n;
  std::int64_t width;
  RowAccess<const T> x, f, dy;
  RowAccess<const float> coefficients;
  RowAccess<T> df;
  RowAccess<float> dcoefficients;

  HWY_INLINE std::int64_t count() const { return kStreams > 0 ? kStreams : n; }

  /// df and the sums behind dpost and dcomb.
  HWY_INLINE void operator()(std::int64_t t) const {
    const std::int64_t streams = count();
    const float* const post = coefficients[t] + streams;
    const T *const x_row = x[t], *const f_row = f[t], *const dy_row = dy[t];
    T* const df_row = df[t];
    constexpr int kCapacity = kStreamCapacity<kStreams>;
    Vector sums[kCapacity + kCapacity * kCapacity];
    for (std::int64_t i = 0; i < streams + streams * streams; ++i) {
      sums[i] = hn::Zero(Tag());
    }
    for_each_vector_or_pair<T>(width, [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
      const auto inner = load(f_row + i, lanes);
      std::remove_const_t<decltype(inner)> gradient[kCapacity];
      for (std::int64_t k = 0; k < streams; ++k) {
        gradient[k] = load(dy_row + k * width + i, lanes);
        sums[k] = add_products(inner, gradient[k], sums[k]);
      }
      for (std::int64_t j = 0; j < streams; ++j) {
        const auto stream = load(x_row + j * width + i, lanes);
        for (std::int64_t k = 0; k < streams; ++k) {
          Vector& sum = sums[streams + j * streams + k];
          sum = add_products(stream, gradient[k], sum);
        }
      }
      auto total = scaled(post[0], gradient[0]);
      for (std::int64_t k = 1; k < streams; ++k) {
        total = add_scaled(post[k], gradient[k], total);
      }
      store(accumulated(kernel.accumulate_f, total, df_row + i, lanes), df_row + i, lanes);
    });
    float* const to = dcoefficients[t];
    for (std::int64_t c = 0; c < coefficients.width; ++c) {
      const float value = c < streams ? 0.0f : sum_of_lanes(sums[c - streams]);
      to[c] = accumulated(kernel.accumulate_coefficients, value, to[c]);
    }
  }
};

void stream_expand_backward(const kernels::StreamExpandBackward& kernel, const LaunchContext& context) {
  const std::int64_t width = kernel.f.size(1), n = kernel.streams.size(1) / width;
  with_streams(kernel.kName, kernel.streams, n,
               [&]<typename T, int kStreams>(T, std::integral_constant<int, kStreams>) {
                 const ExpandBackward<kStreams, T> token{kernel,
                                                         n,
                                                         width,
                                                         rows_of<const T>(kernel.streams),
                                                         rows_of<const T>(kernel.f),
                                                         rows_of<const T>(kernel.dy),
                                                         rows_of<const float>(kernel.coefficients),
                                                         rows_of<T>(kernel.df),
                                                         rows_of<float>(kernel.dcoefficients)};
                 for_each_row(context.threads, token.x.rows, token.x.width, [&](std::int64_t t) HWY_ATTR { token(t); });
               });
}

void add_kernels(KernelTable& table) {
  table.set<kernels::StreamCollapse>(stream_collapse);
  table.set<kernels::StreamExpand>(stream_expand);
  table.set<kernels::StreamExpandBackward>(stream_expand_backward);
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_streams_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table) : N_AVX3::add_kernels(table);
}

}  // namespace flyover::devices::cpu
#endif
