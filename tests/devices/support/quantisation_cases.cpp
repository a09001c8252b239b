// Cases of the kernels of kernels/quantisation.h.
#include <cmath>
#include <limits>

#include "devices/support/kernel_cases.h"

namespace flyover::tests {

using kernels::DType;
using kernels::View;
using Magnitudes = std::vector<Magnitude>;

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::RoundToFp4& kernel) {
  const std::int64_t rows = make.count(40), blocks = make.number() == 2 ? 0 : make.size(20);
  const std::int64_t width = blocks * kernels::kFp4BlockWidth;
  const View x = make.random(dtype, {rows, width}, Layout::kGaps, make.one_of({1.0, 1e-3, 1e30, 1e-37}));
  if (make.coin()) {  // multiples of 1/8 near the scale 1: many ties
    for (std::int64_t i = 0; i < x.elements(); ++i) {
      set_element(x, i, static_cast<double>(make.below(97) - 48) / 8.0);
    }
  }
  if (x.elements() > 0 && make.below(4) == 0) {
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    set_element(x, make.below(x.elements()), make.one_of({kInfinity, std::numeric_limits<double>::quiet_NaN()}));
  }
  kernel.x = x;
  kernel.y = make.coin() ? x
                         : make.blank(dtype == DType::kF64 ? dtype : make.one_of({DType::kF32, DType::kBf16}),
                                      {rows, width}, Layout::kGaps);
  return {};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::Hadamard& kernel) {
  const std::int64_t rows = make.count(40), width = make.number() == 1 ? 1 : std::int64_t{1} << make.below(9);
  const View x = make.random(dtype, {rows, width}, Layout::kGaps);
  kernel.x = x;
  kernel.y = make.coin() ? x : make.blank(dtype, {rows, width}, Layout::kGaps);
  return {{"y", 1.0}};
}

}  // namespace flyover::tests
