#include <cmath>

#include "devices/support/kernel_cases.h"

namespace flyover::tests {

using kernels::DType;
using kernels::View;

namespace {

using Magnitudes = std::vector<Magnitude>;

struct Sizes {
  std::int64_t streams;
  std::int64_t tokens;
  std::int64_t width;
  bool head;

  std::int64_t total() const { return streams * width; }
  std::int64_t rows() const { return head ? streams : kernels::hyper_connection_coefficients(streams); }
};

/// Mostly the usual four streams.
Sizes make_sizes(OperandMaker& make, std::int64_t most_tokens, std::int64_t most_width) {
  return {make.one_of<std::int64_t>({4, 4, 4, 1, 2, 3, 8}), make.count(most_tokens), make.size(most_width),
          make.below(4) == 0};
}

/// To be overwritten or, where the kernel accumulates, added to.
View make_sum(OperandMaker& make, DType dtype, const kernels::Dims& shape, bool accumulate,
              Layout layout = Layout::kDense) {
  return accumulate ? make.random(dtype, shape, layout) : make.blank(dtype, shape, layout);
}

template <typename Kernel>
void make_parameters(OperandMaker& make, DType type, const Sizes& sizes, double deviation, Kernel& kernel) {
  kernel.fn = make.random(type, {sizes.rows(), sizes.total()}, Layout::kDense, deviation);
  kernel.base = make.random(type, {sizes.rows()});
  kernel.scale = make.random(type, {sizes.head ? 1 : 3});
  kernel.stream_count = sizes.streams;
  kernel.iterations = make.one_of<std::int64_t>({1, 2, 20});
  kernel.epsilon = make.one_of({1e-6f, 1e-3f});
  kernel.head = sizes.head;
}

/// fn x, then r.
View make_product(OperandMaker& make, DType type, const Sizes& sizes) {
  const View product = make.random(type, {sizes.tokens, sizes.rows() + 1});
  for (std::int64_t t = 0; t < sizes.tokens; ++t) {
    set_element(product, t * (sizes.rows() + 1) + sizes.rows(), make.uniform(0.5, 2.0));
  }
  return product;
}

}  // namespace

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::HyperConnectionCoefficients& kernel) {
  const DType type = kernels::statistics_dtype(dtype);
  const Sizes sizes = make_sizes(make, 60, make.coin() ? 40 : 300);
  const double deviation = make.one_of({0.1, 1.0, 10.0});
  const double length = std::sqrt(static_cast<double>(sizes.total()));
  kernel.streams = make.random(dtype, {sizes.tokens, sizes.total()}, Layout::kDense, deviation);
  make_parameters(make, type, sizes, 2.0 / length, kernel);
  kernel.norm_epsilon = make.one_of({1e-6f, 1e-2f});
  kernel.coefficients = make.blank(type, {sizes.tokens, sizes.rows()});
  kernel.product = make.blank(type, {sizes.tokens, sizes.rows() + 1});
  if (make.coin()) {
    kernel.y = make.blank(dtype, {sizes.tokens, sizes.width}, Layout::kGaps);
  }
  return {{"coefficients", 1.0}, {"product", 2.0 * deviation}, {"y", deviation}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::HyperConnectionCoefficientsBackward& kernel) {
  const DType type = kernels::statistics_dtype(dtype);
  const Sizes sizes = make_sizes(make, 60, make.coin() ? 40 : 300);
  const kernels::Dims wide{sizes.tokens, sizes.total()}, narrow{sizes.tokens, sizes.rows()};
  kernel.streams = make.random(dtype, wide);
  make_parameters(make, type, sizes, 0.3, kernel);
  kernel.product = make_product(make, type, sizes);
  kernel.dcoefficients = make.random(type, narrow);
  kernel.accumulate = make.coin();
  kernel.dstreams = make_sum(make, dtype, wide, kernel.accumulate);
  kernel.dpreactivation = make.blank(type, narrow);
  kernel.dproduct = make.blank(type, narrow);
  double dpre = 1.0;
  if (make.coin()) {
    kernel.dy = make.random(dtype, {sizes.tokens, sizes.width}, Layout::kGaps);
    dpre += std::sqrt(static_cast<double>(sizes.width));
  }
  if (!sizes.head && make.coin()) {
    const View dexpanded = make.random(dtype, wide);
    kernel.dexpanded = dexpanded;
    if (!kernel.accumulate && make.coin()) {
      kernel.dstreams = dexpanded;
    }
  }
  return {{"dstreams", 2.0 + 2.0 * dpre}, {"dpreactivation", dpre}, {"dproduct", 2.0 * dpre}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::HyperConnectionWeightGradient& kernel) {
  const DType type = kernels::statistics_dtype(dtype);
  const Sizes sizes = make_sizes(make, make.coin() ? 20 : 400, 60);
  kernel.streams = make.random(dtype, {sizes.tokens, sizes.total()});
  kernel.product = make_product(make, type, sizes);
  kernel.dpreactivation = make.random(type, {sizes.tokens, sizes.rows()});
  const View dproduct = make.random(type, {sizes.tokens, sizes.rows()});
  kernel.dproduct = dproduct;
  kernel.dfn = make.random(type, {sizes.rows(), sizes.total()});
  kernel.dbase = make.random(type, {sizes.rows()});
  kernel.dscale = make.random(type, {sizes.head ? 1 : 3});
  kernel.stream_count = sizes.streams;
  const double length = 1.0 + std::sqrt(static_cast<double>(sizes.tokens));
  // A device may round dproduct where the streams are bf16: some cases allow for it, in the others nothing is rounded.
  const bool rounds = dtype == DType::kBf16 && make.below(4) == 0;
  for (std::int64_t i = 0; dtype == DType::kBf16 && !rounds && i < dproduct.elements(); ++i) {
    const auto value = static_cast<float>(element(dproduct, i));
    set_element(dproduct, i, static_cast<double>(kernels::to_float(kernels::to_bf16(value))));
  }
  return {{"dfn", rounds ? 1000.0 * length : length}, {"dbase", length}, {"dscale", 8.0 * length}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::StreamCollapse& kernel) {
  const Sizes sizes = make_sizes(make, 40, 300);
  kernel.streams = make.random(dtype, {sizes.tokens, sizes.total()});
  kernel.coefficients = make.random(kernels::statistics_dtype(dtype), {sizes.tokens, sizes.rows()});
  kernel.y = make.blank(dtype, {sizes.tokens, sizes.width}, Layout::kGaps);
  return {{"y", 1.0}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::StreamExpand& kernel) {
  Sizes sizes = make_sizes(make, 40, 300);
  sizes.head = false;
  kernel.streams = make.random(dtype, {sizes.tokens, sizes.total()});
  kernel.f = make.random(dtype, {sizes.tokens, sizes.width}, Layout::kGaps);
  kernel.coefficients = make.random(kernels::statistics_dtype(dtype), {sizes.tokens, sizes.rows()});
  kernel.y = make.blank(dtype, {sizes.tokens, sizes.total()});
  return {{"y", 1.0}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::StreamExpandBackward& kernel) {
  const DType type = kernels::statistics_dtype(dtype);
  Sizes sizes = make_sizes(make, 40, 300);
  sizes.head = false;
  const kernels::Dims wide{sizes.tokens, sizes.total()};
  kernel.streams = make.random(dtype, wide);
  kernel.f = make.random(dtype, {sizes.tokens, sizes.width}, Layout::kGaps);
  kernel.coefficients = make.random(type, {sizes.tokens, sizes.rows()});
  kernel.dy = make.random(dtype, wide);
  kernel.accumulate_f = make.coin();
  kernel.accumulate_coefficients = make.coin();
  kernel.df = make_sum(make, dtype, {sizes.tokens, sizes.width}, kernel.accumulate_f, Layout::kGaps);
  kernel.dcoefficients = make_sum(make, type, {sizes.tokens, sizes.rows()}, kernel.accumulate_coefficients);
  return {{"df", 1.0}, {"dcoefficients", std::sqrt(static_cast<double>(sizes.width))}};
}

}  // namespace flyover::tests
