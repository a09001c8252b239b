// What a kernel costs: the numbers behind MFU, roofline reports and simulation.
#pragma once

#include <cstdint>

#include "kernels/field.h"

namespace flyover::kernels {

/// Floating-point operations (a multiply-add counts two) and bytes that must cross the memory interface at least once.
struct Cost {
  std::int64_t flops = 0;
  std::int64_t bytes = 0;
  Cost& operator+=(const Cost& other) {
    flops += other.flops;
    bytes += other.bytes;
    return *this;
  }
};

/// Bytes of all operands, those read and written counted twice.
template <typename Kernel>
std::int64_t operand_bytes(const Kernel& kernel) {
  std::uint64_t total = 0;
  for_each_view(kernel, [&](std::string_view, Role role, const auto& view) {
    total += view.bytes() * (role == Role::kInOut ? 2 : 1);
  });
  return static_cast<std::int64_t>(total);
}

}  // namespace flyover::kernels
