#include <cmath>
#include <type_traits>

#include "devices/cpu/families.h"
#include "devices/cpu/muon_gram.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/muon.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

/// A piece of a matrix on its way between row-major and column-major memory: a cache line of bf16 each way.
constexpr std::int64_t kTile = 32;
struct alignas(64) Tile {
  float values[kTile][kTile] = {};
};

void flip(const Tile& from, Tile& to) {
  for (std::int64_t i = 0; i < kTile; ++i) {
    for (std::int64_t j = 0; j < kTile; ++j) {
      to.values[j][i] = from.values[i][j];
    }
  }
}

/// A stack of matrices of which either the rows or the columns are dense. T is const where the view is.
template <typename T>
struct Matrices {
  T* data;
  std::int64_t stride, row_stride, column_stride;
  bool by_columns;

  T* at(std::int64_t matrix, std::int64_t row, std::int64_t column) const {
    return data + matrix * stride + row * row_stride + column * column_stride;
  }
};

template <typename T, typename Pointer>
Matrices<T> matrices_of(const kernels::BasicView<Pointer>& view) {
  return {static_cast<T*>(view.data), view.stride(0), view.stride(1), view.stride(2),
          view.stride(2) != 1 && view.size(2) > 1};
}

/// Rows of a matrix that one item of a parallel loop handles: whole tiles.
constexpr std::int64_t rows_per_item(std::int64_t columns) {
  return kTile * std::max<std::int64_t>(1, kBlockElements / (kTile * std::max<std::int64_t>(1, columns)));
}

/// body(item, matrix, first_row, rows), in parallel; the items of a matrix follow one another.
template <typename Body>
void for_each_rows(int threads, const kernels::Dims& shape, const Body& body) {
  const std::int64_t per_item = rows_per_item(shape[2]), items = blocks_of(shape[1], per_item);
  base::parallel_for(threads, shape[2] == 0 ? 0 : shape[0] * items, [&](std::int64_t item) {
    const std::int64_t first = item % items * per_item;
    body(item, item / items, first, std::min(per_item, shape[1] - first));
  });
}

/// body(first_row, rows, first_column, columns) for every tile of these rows.
template <typename Body>
HWY_INLINE void for_each_tile(std::int64_t first, std::int64_t rows, std::int64_t columns, const Body& body) {
  for (std::int64_t i = first; i < first + rows; i += kTile) {
    for (std::int64_t j = 0; j < columns; j += kTile) {
      body(i, std::min(kTile, first + rows - i), j, std::min(kTile, columns - j));
    }
  }
}

template <typename Momentum, typename Direction>
void momentum_rows(const kernels::MuonMomentum& kernel, int threads) {
  const auto gradient = rows_of<const float>(kernel.gradient);
  const auto momentum = rows_of<Momentum>(kernel.momentum);
  const auto direction = rows_of<Direction>(kernel.direction);
  const float gradient_scale = *static_cast<const float*>(kernel.gradient_scale.data);
  for_each_span(threads, gradient.rows, gradient.width,
                [&](std::int64_t row, std::int64_t begin, std::int64_t count) HWY_ATTR {
                  const Vector scale = hn::Set(Tag(), gradient_scale), mu = hn::Set(Tag(), kernel.mu);
                  const float* const gradient_row = gradient[row] + begin;
                  Momentum* const momentum_row = momentum[row] + begin;
                  Direction* const direction_row = direction[row] + begin;
                  for_each_vector(count, [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
                    const Vector g = hn::Mul(load(gradient_row + i, lanes), scale);
                    const Vector m = hn::MulAdd(mu, load(momentum_row + i, lanes), g);
                    store(m, momentum_row + i, lanes);
                    store(hn::MulAdd(mu, m, g), direction_row + i, lanes);
                  });
                });
}

void muon_momentum(const kernels::MuonMomentum& kernel, const LaunchContext& context) {
  check_is_f32(kernel.kName, kernel.gradient);
  with_element_type(kernel.kName, kernel.momentum.dtype, [&]<typename Momentum>(Momentum) HWY_ATTR {
    with_element_type(kernel.kName, kernel.direction.dtype, [&]<typename Direction>(Direction) HWY_ATTR {
      momentum_rows<Momentum, Direction>(kernel, context.threads);
    });
  });
}

template <typename T>
HWY_INLINE void scale_row(const T* x, float factor, auto* y, std::int64_t count) {
  const Vector by = hn::Set(Tag(), factor);
  for_each_vector(count, [&](std::int64_t i, auto lanes)
                             FLYOVER_VECTOR_BODY { store(hn::Mul(load(x + i, lanes), by), y + i, lanes); });
}

/// Sums of squares of the items of for_each_rows.
template <typename T>
void sum_squares(const kernels::NormaliseMatrices& kernel, double* sums, int threads) {
  const auto x = matrices_of<const T>(kernel.x);
  for_each_rows(
      threads, kernel.x.shape,
      [&](std::int64_t item, std::int64_t matrix, std::int64_t first, std::int64_t rows) HWY_ATTR {
        double sum = 0;
        for (std::int64_t row = first; row < first + rows; ++row) {
          const T* const of_row = x.at(matrix, row, 0);
          sum += static_cast<double>(sum_of(fold_vectors(
              kernel.x.size(2), hn::Zero(Tag()), [&](Vector partial, std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
                const Vector value = load(of_row + i, lanes);
                return hn::MulAdd(value, value, partial);
              })));
        }
        sums[item] = sum;
      });
}

template <typename T>
void normalise(const kernels::NormaliseMatrices& kernel, double* sums, int threads) {
  sum_squares<T>(kernel, sums, threads);
  const auto x = matrices_of<const T>(kernel.x);
  const auto y = matrices_of<T>(kernel.y);
  const std::int64_t columns = kernel.x.size(2), items = blocks_of(kernel.x.size(1), rows_per_item(columns));
  for_each_rows(threads, kernel.x.shape,
                [&](std::int64_t, std::int64_t matrix, std::int64_t first, std::int64_t rows) HWY_ATTR {
                  double sum = 0;
                  for (std::int64_t i = 0; i < items; ++i) {
                    sum += sums[matrix * items + i];
                  }
                  const float factor = sum > 0 ? static_cast<float>(1.0 / std::sqrt(sum)) : 0.0f;
                  if (!y.by_columns) {
                    for (std::int64_t i = first; i < first + rows; ++i) {
                      scale_row(x.at(matrix, i, 0), factor, y.at(matrix, i, 0), columns);
                    }
                    return;
                  }
                  Tile by_rows, by_columns;
                  for_each_tile(first, rows, columns,
                                [&](std::int64_t i, std::int64_t height, std::int64_t j, std::int64_t width) HWY_ATTR {
                                  for (std::int64_t row = 0; row < height; ++row) {
                                    scale_row(x.at(matrix, i + row, j), factor, by_rows.values[row], width);
                                  }
                                  flip(by_rows, by_columns);
                                  for (std::int64_t column = 0; column < width; ++column) {
                                    scale_row(by_columns.values[column], 1.0f, y.at(matrix, i, j + column), height);
                                  }
                                });
                });
}

void normalise_matrices(const kernels::NormaliseMatrices& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.x.dtype, [&]<typename T>(T) HWY_ATTR {
    normalise<T>(kernel, reinterpret_cast<double*>(context.workspace), context.threads);
  });
}

void linear_combination(const kernels::LinearCombination& kernel, const LaunchContext& context) {
  with_element_type(kernel.kName, kernel.x.dtype, [&]<typename T>(T) HWY_ATTR {
    auto x = rows_of<const T>(kernel.x), z = rows_of<const T>(kernel.z);
    auto y = rows_of<T>(kernel.y);
    if (x.gapless() && z.gapless() && y.gapless()) {
      x = as_one_row(x), z = as_one_row(z), y = as_one_row(y);
    }
    for_each_span(context.threads, y.rows, y.width,
                  [&](std::int64_t row, std::int64_t begin, std::int64_t count) HWY_ATTR {
                    const Vector alpha = hn::Set(Tag(), kernel.alpha), beta = hn::Set(Tag(), kernel.beta);
                    const auto combine = [&](Vector a, Vector b)
                                             FLYOVER_VECTOR_BODY { return hn::MulAdd(alpha, a, hn::Mul(beta, b)); };
                    for_each_vector_or_pair<T>(count, [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
                      const std::int64_t j = begin + i;
                      store(apply(combine, load(x[row] + j, lanes), load(z[row] + j, lanes)), y[row] + j, lanes);
                    });
                  });
  });
}

/// parameter may be null.
template <typename Direction, typename Parameter>
HWY_INLINE void update_row(const kernels::MuonUpdate& kernel, const Direction* direction, float* weight,
                           Parameter* parameter, std::int64_t count) {
  const Vector scale = hn::Set(Tag(), kernel.scale), decay = hn::Set(Tag(), kernel.weight_decay);
  const Vector learning_rate = hn::Set(Tag(), kernel.learning_rate);
  for_each_vector(count, [&](std::int64_t i, auto lanes) FLYOVER_VECTOR_BODY {
    const Vector w = load(weight + i, lanes);
    const Vector step = hn::MulAdd(decay, w, hn::Mul(scale, load(direction + i, lanes)));
    const Vector updated = hn::NegMulAdd(learning_rate, step, w);
    store(updated, weight + i, lanes);
    if (parameter != nullptr) {
      store(updated, parameter + i, lanes);
    }
  });
}

template <typename Direction, typename Parameter>
void update(const kernels::MuonUpdate& kernel, int threads) {
  const auto direction = matrices_of<const Direction>(kernel.direction);
  const auto weight = matrices_of<float>(kernel.weight);
  const auto parameter =
      kernel.parameter.has_value() ? matrices_of<Parameter>(*kernel.parameter) : Matrices<Parameter>{};
  const auto parameter_at = [&](std::int64_t matrix, std::int64_t row, std::int64_t column) {
    return kernel.parameter.has_value() ? parameter.at(matrix, row, column) : nullptr;
  };
  const std::int64_t columns = kernel.weight.size(2);
  for_each_rows(threads, kernel.weight.shape,
                [&](std::int64_t, std::int64_t matrix, std::int64_t first, std::int64_t rows) HWY_ATTR {
                  if (!direction.by_columns) {
                    for (std::int64_t i = first; i < first + rows; ++i) {
                      update_row(kernel, direction.at(matrix, i, 0), weight.at(matrix, i, 0),
                                 parameter_at(matrix, i, 0), columns);
                    }
                    return;
                  }
                  Tile by_columns, by_rows;
                  for_each_tile(first, rows, columns,
                                [&](std::int64_t i, std::int64_t height, std::int64_t j, std::int64_t width) HWY_ATTR {
                                  for (std::int64_t column = 0; column < width; ++column) {
                                    scale_row(direction.at(matrix, i, j + column), 1.0f, by_columns.values[column],
                                              height);
                                  }
                                  flip(by_columns, by_rows);
                                  for (std::int64_t row = 0; row < height; ++row) {
                                    update_row(kernel, by_rows.values[row], weight.at(matrix, i + row, j),
                                               parameter_at(matrix, i + row, j), width);
                                  }
                                });
                });
}

void muon_update(const kernels::MuonUpdate& kernel, const LaunchContext& context) {
  check_is_f32(kernel.kName, kernel.weight);
  with_element_type(kernel.kName, kernel.direction.dtype, [&]<typename Direction>(Direction) HWY_ATTR {
    const auto type = kernel.parameter.has_value() ? kernel.parameter->dtype : kernels::DType::kF32;
    with_element_type(kernel.kName, type, [&]<typename Parameter>(Parameter) HWY_ATTR {
      update<Direction, Parameter>(kernel, context.threads);
    });
  });
}

void add_kernels(KernelTable& table) {
  table.set<kernels::MuonMomentum>(muon_momentum);
  table.set<kernels::NormaliseMatrices>(normalise_matrices, [](const kernels::NormaliseMatrices& kernel, int) {
    const std::int64_t items = blocks_of(kernel.x.size(1), rows_per_item(kernel.x.size(2)));
    return static_cast<std::size_t>(kernel.x.size(0) * items) * sizeof(double);
  });
  table.set<kernels::LinearCombination>(linear_combination);
  table.set<kernels::MuonUpdate>(muon_update);
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_muon_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table) : N_AVX3::add_kernels(table);
  add_gram_kernel(table, set);
}

}  // namespace flyover::devices::cpu
#endif
