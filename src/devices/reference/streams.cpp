#include "devices/reference/element.h"
#include "devices/reference/families.h"

namespace flyover::devices::reference {
namespace {

void stream_collapse(const kernels::StreamCollapse& kernel, const LaunchContext&) {
  const Input x(kernel.streams), pre(kernel.coefficients);
  const Output y(kernel.y);
  const std::int64_t width = kernel.y.size(1), n = kernel.streams.size(1) / width;
  for (std::int64_t t = 0; t < kernel.y.size(0); ++t) {
    for (std::int64_t i = 0; i < width; ++i) {
      double sum = 0;
      for (std::int64_t j = 0; j < n; ++j) {
        sum += pre(t, j) * x(t, j * width + i);
      }
      y(t, i) = sum;
    }
  }
}

void stream_expand(const kernels::StreamExpand& kernel, const LaunchContext&) {
  const Input x(kernel.streams), f(kernel.f), coefficients(kernel.coefficients);
  const Output y(kernel.y);
  const std::int64_t width = kernel.f.size(1), n = kernel.streams.size(1) / width;
  for (std::int64_t t = 0; t < kernel.f.size(0); ++t) {
    const auto post = [&](std::int64_t k) { return coefficients(t, n + k); };
    const auto comb = [&](std::int64_t j, std::int64_t k) { return coefficients(t, 2 * n + j * n + k); };
    for (std::int64_t k = 0; k < n; ++k) {
      for (std::int64_t i = 0; i < width; ++i) {
        double sum = post(k) * f(t, i);
        for (std::int64_t j = 0; j < n; ++j) {
          sum += comb(j, k) * x(t, j * width + i);
        }
        y(t, k * width + i) = sum;
      }
    }
  }
}

/// The gradients of one token's coefficients: none of pre, then of post, then of comb.
void expand_coefficients(const kernels::StreamExpandBackward& kernel, std::int64_t t) {
  const Input x(kernel.streams), f(kernel.f), dy(kernel.dy);
  const Output dcoefficients(kernel.dcoefficients);
  const std::int64_t width = kernel.f.size(1), n = kernel.streams.size(1) / width;
  const auto add = [&](std::int64_t c, double value) {
    dcoefficients(t, c) = (kernel.accumulate_coefficients ? dcoefficients(t, c) : 0.0) + value;
  };
  for (std::int64_t k = 0; k < n; ++k) {
    double dpost = 0;
    for (std::int64_t i = 0; i < width; ++i) {
      dpost += f(t, i) * dy(t, k * width + i);
    }
    add(k, 0.0);
    add(n + k, dpost);
    for (std::int64_t j = 0; j < n; ++j) {
      double dcomb = 0;
      for (std::int64_t i = 0; i < width; ++i) {
        dcomb += x(t, j * width + i) * dy(t, k * width + i);
      }
      add(2 * n + j * n + k, dcomb);
    }
  }
}

void stream_expand_backward(const kernels::StreamExpandBackward& kernel, const LaunchContext&) {
  const Input coefficients(kernel.coefficients), dy(kernel.dy);
  const Output df(kernel.df);
  const std::int64_t width = kernel.f.size(1), n = kernel.streams.size(1) / width;
  for (std::int64_t t = 0; t < kernel.f.size(0); ++t) {
    expand_coefficients(kernel, t);
    for (std::int64_t i = 0; i < width; ++i) {
      double sum = 0;
      for (std::int64_t k = 0; k < n; ++k) {
        sum += coefficients(t, n + k) * dy(t, k * width + i);
      }
      df(t, i) = (kernel.accumulate_f ? df(t, i) : 0.0) + sum;
    }
  }
}

}  // namespace

void add_streams_kernels(KernelTable& table) {
  table.set<kernels::StreamCollapse>(stream_collapse);
  table.set<kernels::StreamExpand>(stream_expand);
  table.set<kernels::StreamExpandBackward>(stream_expand_backward);
}

}  // namespace flyover::devices::reference
