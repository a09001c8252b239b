#include <algorithm>

#include "devices/reference/element.h"
#include "devices/reference/families.h"

namespace flyover::devices::reference {
namespace {

void set_integer(const kernels::View& view, std::int64_t index, std::int64_t value) {
  static_cast<std::int32_t*>(view.data)[index] = static_cast<std::int32_t>(value);
}

void expert_sort(const kernels::ExpertSort& kernel, const LaunchContext&) {
  const std::span experts = integers(kernel.experts);
  const std::int64_t count = kernel.offsets.size(0) - 1, choices = kernel.experts.size(1);
  for (const std::int32_t expert : experts) {
    base::check(expert >= 0 && expert < count, "{}: expert {} of {}", kernel.kName, expert, count);
  }
  std::int64_t row = 0;
  for (std::int64_t expert = 0; expert < count; ++expert) {
    set_integer(kernel.offsets, expert, row);
    const std::int64_t first = row;
    for (std::size_t pair = 0; pair < experts.size(); ++pair) {
      if (experts[pair] == expert) {
        const auto index = static_cast<std::int64_t>(pair);
        set_integer(kernel.pair_of_row, row, index);
        set_integer(kernel.token_of_row, row, index / choices);
        set_integer(kernel.row_of_pair, index, row);
        ++row;
      }
    }
    if (kernel.load.has_value()) {
      const Output load(*kernel.load);
      load(expert) += static_cast<double>(row - first);
    }
  }
  set_integer(kernel.offsets, count, row);
}

void gather_sum(const kernels::GatherSum& kernel, const LaunchContext&) {
  const Input x(kernel.x);
  const Output y(kernel.y);
  const std::int64_t terms = kernel.rows.size(1);
  for (std::int64_t i = 0; i < kernel.y.size(0); ++i) {
    for (std::int64_t column = 0; column < kernel.y.size(1); ++column) {
      double sum = 0;
      for (std::int64_t j = 0; j < terms; ++j) {
        sum += x(row_at(kernel.kName, kernel.rows, i * terms + j, kernel.x), column);
      }
      y(i, column) = (kernel.accumulate ? y(i, column) : 0.0) + sum;
    }
  }
}

/// Rows offsets[group] to offsets[group + 1]. Throws InternalError unless they are rows of a matrix with `rows` rows.
std::pair<std::int64_t, std::int64_t> rows_of_group(std::string_view kernel, const kernels::ConstView& offsets,
                                                    std::int64_t group, std::int64_t rows) {
  const std::span values = integers(offsets);
  const std::int64_t begin = values[static_cast<std::size_t>(group)], end = values[static_cast<std::size_t>(group + 1)];
  base::check((group > 0 || begin == 0) && begin <= end && end <= rows, "{}: group {} has rows {} to {} of {}", kernel,
              group, begin, end, rows);
  return {begin, end};
}

/// The rows of a matrix as doubles, row-major: all in order, or those that `rows` names.
std::vector<double> chosen_rows(std::string_view kernel, const kernels::ConstView& view,
                                const std::optional<kernels::ConstView>& rows) {
  std::vector<double> all = to_doubles(view);
  if (!rows.has_value()) {
    return all;
  }
  std::vector<double> values;
  const std::int64_t width = view.size(1);
  for (std::int64_t i = 0; i < rows->size(0); ++i) {
    const std::int64_t row = row_at(kernel, *rows, i, view);
    values.insert(values.end(), all.begin() + row * width, all.begin() + (row + 1) * width);
  }
  return values;
}

void grouped_matmul(const kernels::GroupedMatMul& kernel, const LaunchContext&) {
  const std::int64_t columns = kernel.b.size(1), depth = kernel.b.size(2);
  const Input b(kernel.b);
  const std::vector<double> a = chosen_rows(kernel.kName, kernel.a, kernel.a_rows);  // [rows, depth]
  const Output c(kernel.c);
  for (std::int64_t group = 0; group < kernel.b.size(0); ++group) {
    const auto [begin, end] = rows_of_group(kernel.kName, kernel.offsets, group, kernel.c.size(0));
    for (std::int64_t i = begin; i < end; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) {
        double sum = 0;
        for (std::int64_t k = 0; k < depth; ++k) {
          sum += a[static_cast<std::size_t>(i * depth + k)] * b(group, j, k);
        }
        c(i, j) = (kernel.accumulate ? c(i, j) : 0.0) + sum;
      }
    }
  }
}

void grouped_weight_gradient(const kernels::GroupedWeightGradient& kernel, const LaunchContext&) {
  const std::int64_t out = kernel.a.size(1), in = kernel.b.size(1);
  const std::vector<double> a = chosen_rows(kernel.kName, kernel.a, kernel.a_rows);  // [rows, out]
  const std::vector<double> b = chosen_rows(kernel.kName, kernel.b, kernel.b_rows);  // [rows, in]
  const Output c(kernel.c);
  for (std::int64_t group = 0; group < kernel.c.size(0); ++group) {
    const auto [begin, end] = rows_of_group(kernel.kName, kernel.offsets, group, kernel.rows());
    for (std::int64_t i = 0; i < out && begin < end; ++i) {
      for (std::int64_t j = 0; j < in; ++j) {
        double sum = 0;
        for (std::int64_t r = begin; r < end; ++r) {
          sum += a[static_cast<std::size_t>(r * out + i)] * b[static_cast<std::size_t>(r * in + j)];
        }
        c(group, i, j) += sum;
      }
    }
  }
}

}  // namespace

void add_experts_kernels(KernelTable& table) {
  table.set<kernels::ExpertSort>(expert_sort);
  table.set<kernels::GatherSum>(gather_sum);
  table.set<kernels::GroupedMatMul>(grouped_matmul);
  table.set<kernels::GroupedWeightGradient>(grouped_weight_gradient);
}

}  // namespace flyover::devices::reference
