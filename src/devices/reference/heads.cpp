#include "devices/reference/element.h"
#include "devices/reference/families.h"

namespace flyover::devices::reference {
namespace {

void join_heads(const kernels::JoinHeads& kernel, const LaunchContext&) {
  const Input own(kernel.own), shared(kernel.shared);
  const Output y(kernel.y);
  const std::int64_t own_width = kernel.own.size(2);
  for (std::int64_t t = 0; t < kernel.y.size(0); ++t) {
    for (std::int64_t head = 0; head < kernel.y.size(1); ++head) {
      for (std::int64_t i = 0; i < kernel.y.size(2); ++i) {
        y(t, head, i) = i < own_width ? own(t, head, i) : shared(t, i - own_width);
      }
    }
  }
}

void join_heads_backward(const kernels::JoinHeadsBackward& kernel, const LaunchContext&) {
  const Input dy(kernel.dy);
  const Output down(kernel.down), dshared(kernel.dshared);
  const std::int64_t heads = kernel.dy.size(1), own_width = kernel.down.size(2);
  for (std::int64_t t = 0; t < kernel.dy.size(0); ++t) {
    for (std::int64_t head = 0; head < heads; ++head) {
      for (std::int64_t i = 0; i < own_width; ++i) {
        down(t, head, i) = dy(t, head, i);
      }
    }
    for (std::int64_t i = 0; i < kernel.dshared.size(1); ++i) {
      double sum = 0;
      for (std::int64_t head = 0; head < heads; ++head) {
        sum += dy(t, head, own_width + i);
      }
      dshared(t, i) = sum;
    }
  }
}

}  // namespace

void add_heads_kernels(KernelTable& table) {
  table.set<kernels::JoinHeads>(join_heads);
  table.set<kernels::JoinHeadsBackward>(join_heads_backward);
}

}  // namespace flyover::devices::reference
