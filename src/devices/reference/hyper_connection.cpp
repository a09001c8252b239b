#include <algorithm>
#include <vector>

#include "devices/reference/element.h"
#include "devices/reference/families.h"

namespace flyover::devices::reference {
namespace {

using Values = std::vector<double>;

double sigmoid(double z) {
  return 1.0 / (1.0 + std::exp(-z));
}

/// Which of the three scales belongs to a row: that of pre, of post or of comb.
std::int64_t group_of(std::int64_t row, std::int64_t streams) {
  return std::min<std::int64_t>(row / streams, 2);
}

/// scale * u + base of one token, with u = r * (fn x).
template <typename Kernel>
Values preactivations(const Kernel& kernel, std::int64_t token) {
  const Input product(kernel.product), base(kernel.base), scale(kernel.scale);
  const std::int64_t rows = kernel.fn.size(0);
  const double r = product(token, rows);
  Values z;
  for (std::int64_t i = 0; i < rows; ++i) {
    z.push_back(scale(group_of(i, kernel.stream_count)) * (r * product(token, i)) + base(i));
  }
  return z;
}

/// A matrix of n by n, and how it was normalised.
struct Sinkhorn {
  /// out = in / divisor, with one divisor for each row or for each column.
  struct Step {
    bool by_row;
    Values divisors;
    Values out;
  };
  std::int64_t n;
  Values softmax;
  std::vector<Step> steps;

  std::int64_t line_of(std::int64_t element, bool by_row) const { return by_row ? element / n : element % n; }
  /// Sums over the rows or over the columns.
  Values sums(const Values& values, bool by_row) const {
    Values result(static_cast<std::size_t>(n), 0.0);
    for (std::int64_t i = 0; i < n * n; ++i) {
      result[static_cast<std::size_t>(line_of(i, by_row))] += values[static_cast<std::size_t>(i)];
    }
    return result;
  }
  const Values& comb() const { return steps.back().out; }
};

void normalise(Sinkhorn& sinkhorn, const Values& matrix, bool by_row, double epsilon) {
  Sinkhorn::Step step{by_row, sinkhorn.sums(matrix, by_row), matrix};
  for (double& divisor : step.divisors) {
    divisor += epsilon;
  }
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    step.out[i] /= step.divisors[static_cast<std::size_t>(sinkhorn.line_of(static_cast<std::int64_t>(i), by_row))];
  }
  sinkhorn.steps.push_back(std::move(step));
}

/// Softmax of the rows, then Sinkhorn's steps (specified in kernels/hyper_connection.h).
Sinkhorn make_doubly_stochastic(const Values& logits, std::int64_t n, std::int64_t iterations, double epsilon) {
  Sinkhorn sinkhorn{n, {}, {}};
  for (std::int64_t j = 0; j < n; ++j) {
    const auto row = logits.begin() + j * n;
    const double largest = *std::max_element(row, row + n);
    double sum = 0;
    for (std::int64_t k = 0; k < n; ++k) {
      sum += std::exp(row[k] - largest);
    }
    for (std::int64_t k = 0; k < n; ++k) {
      sinkhorn.softmax.push_back(std::exp(row[k] - largest) / sum);
    }
  }
  Values matrix = sinkhorn.softmax;
  for (double& value : matrix) {
    value += epsilon;
  }
  normalise(sinkhorn, matrix, false, epsilon);
  for (std::int64_t i = 1; i < iterations; ++i) {
    normalise(sinkhorn, sinkhorn.comb(), true, epsilon);
    normalise(sinkhorn, sinkhorn.comb(), false, epsilon);
  }
  return sinkhorn;
}

/// The gradient of the logits, from that of comb.
Values logits_gradient(const Sinkhorn& sinkhorn, Values gradient) {
  const auto products = [&](const Values& other) {
    Values result = gradient;
    for (std::size_t i = 0; i < result.size(); ++i) {
      result[i] *= other[i];
    }
    return result;
  };
  const auto at = [&](std::size_t element, bool by_row) {
    return static_cast<std::size_t>(sinkhorn.line_of(static_cast<std::int64_t>(element), by_row));
  };
  for (auto step = sinkhorn.steps.rbegin(); step != sinkhorn.steps.rend(); ++step) {
    const Values sums = sinkhorn.sums(products(step->out), step->by_row);
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      gradient[i] = (gradient[i] - sums[at(i, step->by_row)]) / step->divisors[at(i, step->by_row)];
    }
  }
  const Values sums = sinkhorn.sums(products(sinkhorn.softmax), true);
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    gradient[i] = sinkhorn.softmax[i] * (gradient[i] - sums[at(i, true)]);
  }
  return gradient;
}

/// pre, post and comb of one token, and Sinkhorn's steps (none for a head).
struct Coefficients {
  Values values;
  Sinkhorn sinkhorn;
};

template <typename Kernel>
Coefficients coefficients_of(const Kernel& kernel, const Values& z) {
  const auto n = static_cast<std::size_t>(kernel.stream_count);
  const double epsilon = static_cast<double>(kernel.epsilon);
  Coefficients result;
  for (std::size_t i = 0; i < std::min(2 * n, z.size()); ++i) {
    result.values.push_back(i < n ? sigmoid(z[i]) + epsilon : 2.0 * sigmoid(z[i]));
  }
  if (!kernel.head) {
    const Values logits(z.begin() + static_cast<std::ptrdiff_t>(2 * n), z.end());
    result.sinkhorn = make_doubly_stochastic(logits, kernel.stream_count, kernel.iterations, epsilon);
    const Values& comb = result.sinkhorn.comb();
    result.values.insert(result.values.end(), comb.begin(), comb.end());
  }
  return result;
}

/// y = sum over j of pre_j * stream_j, with pre as it was stored.
void collapse(const kernels::HyperConnectionCoefficients& kernel, std::int64_t token) {
  const Input x(kernel.streams);
  const Output pre(kernel.coefficients), y(*kernel.y);
  const std::int64_t width = kernel.y->size(1);
  for (std::int64_t i = 0; i < width; ++i) {
    double sum = 0;
    for (std::int64_t j = 0; j < kernel.stream_count; ++j) {
      sum += pre(token, j) * x(token, j * width + i);
    }
    y(token, i) = sum;
  }
}

void coefficients(const kernels::HyperConnectionCoefficients& kernel, const LaunchContext&) {
  const Values x = to_doubles(kernel.streams), fn = to_doubles(kernel.fn);
  const Output result(kernel.coefficients), product(kernel.product);
  const std::int64_t rows = kernel.fn.size(0), width = kernel.streams.size(1);
  for (std::int64_t t = 0; t < kernel.streams.size(0); ++t) {
    const double* const token = x.data() + t * width;
    double sum_of_squares = 0;
    for (std::int64_t k = 0; k < width; ++k) {
      sum_of_squares += token[k] * token[k];
    }
    for (std::int64_t i = 0; i < rows; ++i) {
      double sum = 0;
      for (std::int64_t k = 0; k < width; ++k) {
        sum += fn[static_cast<std::size_t>(i * width + k)] * token[k];
      }
      product(t, i) = sum;
    }
    product(t, rows) =
        1.0 / std::sqrt(sum_of_squares / static_cast<double>(width) + static_cast<double>(kernel.norm_epsilon));
    const Values values = coefficients_of(kernel, preactivations(kernel, t)).values;
    for (std::int64_t i = 0; i < rows; ++i) {
      result(t, i) = values[static_cast<std::size_t>(i)];
    }
    if (kernel.y.has_value()) {
      collapse(kernel, t);
    }
  }
}

/// The gradient of the preactivations, from that of the coefficients.
Values preactivation_gradient(const kernels::HyperConnectionCoefficientsBackward& kernel, const Values& z,
                              const Coefficients& coefficients, const Values& gradient) {
  const auto n = static_cast<std::size_t>(kernel.stream_count);
  Values dz;
  for (std::size_t i = 0; i < std::min(2 * n, z.size()); ++i) {
    const double s = sigmoid(z[i]);
    dz.push_back((i < n ? 1.0 : 2.0) * gradient[i] * s * (1.0 - s));
  }
  if (!kernel.head) {
    const Values dcomb(gradient.begin() + static_cast<std::ptrdiff_t>(2 * n), gradient.end());
    const Values dlogits = logits_gradient(coefficients.sinkhorn, dcomb);
    dz.insert(dz.end(), dlogits.begin(), dlogits.end());
  }
  return dz;
}

/// dcoefficients of one token; with dy, dpre_j grows by stream_j . dy.
Values coefficients_gradient(const kernels::HyperConnectionCoefficientsBackward& kernel, std::int64_t token) {
  const Input given(kernel.dcoefficients), x(kernel.streams);
  const std::int64_t n = kernel.stream_count, width = kernel.streams.size(1) / n;
  Values gradient;
  for (std::int64_t i = 0; i < kernel.fn.size(0); ++i) {
    gradient.push_back(given(token, i));
    for (std::int64_t k = 0; kernel.dy.has_value() && i < n && k < width; ++k) {
      gradient.back() += x(token, i * width + k) * Input(*kernel.dy)(token, k);
    }
  }
  return gradient;
}

void coefficients_backward(const kernels::HyperConnectionCoefficientsBackward& kernel, const LaunchContext&) {
  const Input x(kernel.streams), fn(kernel.fn), scale(kernel.scale), product(kernel.product);
  const Output dstreams(kernel.dstreams), dpreactivation(kernel.dpreactivation), dproduct(kernel.dproduct);
  const std::int64_t rows = kernel.fn.size(0), total = kernel.streams.size(1), n = kernel.stream_count;
  const std::int64_t width = total / n;
  for (std::int64_t t = 0; t < kernel.streams.size(0); ++t) {
    const double r = product(t, rows);
    const Values z = preactivations(kernel, t);
    const Coefficients mixing = coefficients_of(kernel, z);
    const Values dz = preactivation_gradient(kernel, z, mixing, coefficients_gradient(kernel, t));
    Values dm;
    double along_product = 0;
    for (std::int64_t i = 0; i < rows; ++i) {
      const double du = dz[static_cast<std::size_t>(i)] * scale(group_of(i, n));
      dm.push_back(r * du);
      along_product += du * product(t, i);
      dpreactivation(t, i) = dz[static_cast<std::size_t>(i)];
      dproduct(t, i) = dm.back();
    }
    Values gradient;
    for (std::int64_t k = 0; k < total; ++k) {
      double sum = -along_product * r * r * r / static_cast<double>(total) * x(t, k);
      for (std::int64_t i = 0; i < rows; ++i) {
        sum += dm[static_cast<std::size_t>(i)] * fn(i, k);
      }
      const std::int64_t j = k / width;
      if (kernel.dy.has_value()) {
        sum += mixing.values[static_cast<std::size_t>(j)] * Input(*kernel.dy)(t, k % width);
      }
      for (std::int64_t other = 0; kernel.dexpanded.has_value() && other < n; ++other) {
        sum += mixing.values[static_cast<std::size_t>(2 * n + j * n + other)] *
               Input(*kernel.dexpanded)(t, other * width + k % width);
      }
      gradient.push_back(sum);
    }
    for (std::int64_t k = 0; k < total; ++k) {  // at the end: dstreams may be dexpanded
      dstreams(t, k) = (kernel.accumulate ? dstreams(t, k) : 0.0) + gradient[static_cast<std::size_t>(k)];
    }
  }
}

void weight_gradient(const kernels::HyperConnectionWeightGradient& kernel, const LaunchContext&) {
  const Input x(kernel.streams), product(kernel.product), dz(kernel.dpreactivation), dm(kernel.dproduct);
  const Output dfn(kernel.dfn), dbase(kernel.dbase), dscale(kernel.dscale);
  const std::int64_t rows = kernel.dfn.size(0), tokens = kernel.streams.size(0);
  Values scale_sums(static_cast<std::size_t>(kernel.dscale.size(0)), 0.0);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t k = 0; k < kernel.streams.size(1); ++k) {
      double sum = 0;
      for (std::int64_t t = 0; t < tokens; ++t) {
        sum += dm(t, i) * x(t, k);
      }
      dfn(i, k) += sum;
    }
    double base_sum = 0;
    for (std::int64_t t = 0; t < tokens; ++t) {
      const double u = product(t, rows) * product(t, i);
      base_sum += dz(t, i);
      scale_sums[static_cast<std::size_t>(group_of(i, kernel.stream_count))] += dz(t, i) * u;
    }
    dbase(i) += base_sum;
  }
  for (std::int64_t i = 0; i < kernel.dscale.size(0); ++i) {
    dscale(i) += scale_sums[static_cast<std::size_t>(i)];
  }
}

}  // namespace

void add_hyper_connection_kernels(KernelTable& table) {
  table.set<kernels::HyperConnectionCoefficients>(coefficients);
  table.set<kernels::HyperConnectionCoefficientsBackward>(coefficients_backward);
  table.set<kernels::HyperConnectionWeightGradient>(weight_gradient);
}

}  // namespace flyover::devices::reference
