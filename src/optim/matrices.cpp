#include "optim/matrices.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>

#include "base/error.h"
#include "optim/newton_schulz.h"

namespace flyover::optim {

using autograd::ParameterSpec;
using tensor::Tensor;

namespace {

/// Large batches have a multiple of so many matrices: two, four or eight threads then get equal shares.
constexpr std::int64_t kEvenly = 8;

}  // namespace

Tensor MatrixStack::of(const Tensor& parameter_like, std::int64_t first, std::int64_t count) const {
  const std::int64_t periods = parameter_like.elements() / distance;
  return parameter_like.reshape({periods, distance})
      .columns(first_element, rows * columns)
      .rows(first, count)
      .split_last(rows, columns);
}

std::vector<MatrixStack> matrix_stacks(const ParameterSpec& spec, std::size_t parameter) {
  const int rank = spec.shape.rank();
  base::check(rank >= 2, "parameter {}: {} has no rows and columns", spec.name, kernels::to_string(spec.shape));
  const std::int64_t columns = spec.shape[rank - 1],
                     all_rows = spec.shape.elements() / std::max<std::int64_t>(columns, 1);
  std::vector<std::int64_t> cut = spec.matrix_rows;
  if (cut.empty()) {
    cut = {spec.shape[rank - 2]};
  }
  if (std::all_of(cut.begin(), cut.end(), [&](std::int64_t rows) { return rows == cut.front(); })) {
    cut.resize(1);
  }
  const std::int64_t period = std::accumulate(cut.begin(), cut.end(), std::int64_t{0});
  const bool positive = std::all_of(cut.begin(), cut.end(), [](std::int64_t rows) { return rows > 0; });
  base::check(positive && columns > 0 && all_rows % period == 0, "parameter {}: matrices of {} rows do not cover {}",
              spec.name, period, kernels::to_string(spec.shape));
  std::vector<MatrixStack> stacks;
  std::int64_t first_row = 0;
  for (const std::int64_t rows : cut) {
    stacks.push_back({parameter, all_rows / period, rows, columns, first_row * columns, period * columns});
    first_row += rows;
  }
  return stacks;
}

std::vector<MatrixBatch> batch_matrices(const std::vector<TypedStack>& stacks, std::uint64_t bytes) {
  std::map<std::tuple<tensor::DType, std::int64_t, std::int64_t>, std::vector<MatrixStack>> by_shape;
  for (const TypedStack& one : stacks) {
    by_shape[{one.dtype, one.stack.short_side(), one.stack.long_side()}].push_back(one.stack);
  }
  std::vector<MatrixBatch> batches;
  for (const auto& [key, same] : by_shape) {
    const auto [dtype, rows, columns] = key;
    const auto fit = static_cast<std::int64_t>(bytes / newton_schulz_bytes(rows, columns, dtype));
    const std::int64_t largest = fit < kEvenly ? std::max<std::int64_t>(fit, 1) : fit / kEvenly * kEvenly;
    bool is_open = false;
    for (const MatrixStack& stack : same) {
      for (std::int64_t first = 0; first < stack.matrices;) {
        if (!is_open || batches.back().matrices == largest) {
          batches.push_back({rows, columns, dtype, 0, {}});
          is_open = true;
        }
        MatrixBatch& batch = batches.back();
        const std::int64_t count = std::min(stack.matrices - first, largest - batch.matrices);
        batch.ranges.push_back({stack, first, count});
        batch.matrices += count;
        first += count;
      }
    }
  }
  return batches;
}

}  // namespace flyover::optim
