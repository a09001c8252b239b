#include "devices/reference/element.h"
#include "devices/reference/families.h"

namespace flyover::devices::reference {
namespace {

void rope_table(const kernels::RopeTable& kernel, const LaunchContext&) {
  const auto positions = integers(kernel.positions);
  const Input inverse_frequencies(kernel.inverse_frequencies);
  const Output cosine(kernel.cosine), sine(kernel.sine);
  for (std::int64_t t = 0; t < kernel.positions.size(0); ++t) {
    for (std::int64_t i = 0; i < kernel.inverse_frequencies.size(0); ++i) {
      const double angle = positions[static_cast<std::size_t>(t)] * inverse_frequencies(i);
      cosine(t, i) = std::cos(angle);
      sine(t, i) = std::sin(angle);
    }
  }
}

void rope_apply(const kernels::RopeApply& kernel, const LaunchContext&) {
  const Output x(kernel.x);
  const Input cosine(kernel.cosine), sine(kernel.sine);
  const std::int64_t tokens = kernel.x.size(0), heads = kernel.x.size(1), pairs = kernel.cosine.size(1);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t i = 0; i < pairs; ++i) {
        const bool halves = kernel.pairing == kernels::RopePairing::kHalves;
        const std::int64_t first = kernel.first_dimension + (halves ? i : 2 * i);
        const std::int64_t second = kernel.first_dimension + (halves ? i + pairs : 2 * i + 1);
        const double a = x(t, h, first), b = x(t, h, second);
        const double c = cosine(t, i), s = kernel.inverse ? -sine(t, i) : sine(t, i);
        x(t, h, first) = a * c - b * s;
        x(t, h, second) = a * s + b * c;
      }
    }
  }
}

}  // namespace

void add_rope_kernels(KernelTable& table) {
  table.set<kernels::RopeTable>(rope_table);
  table.set<kernels::RopeApply>(rope_apply);
}

}  // namespace flyover::devices::reference
