// A case of a kernel whose operands lie in the memory of a device.
#pragma once

#include <functional>
#include <vector>

#include "devices/support/kernel_cases.h"
#include "tensor/stream.h"

namespace flyover::tests {

/// The case's arguments with `blocks`, the device's copies of its memory, in the place of the host's.
template <typename Kernel>
Kernel on_device(const KernelCase<Kernel>& one, const std::vector<tensor::Tensor>& blocks) {
  Kernel kernel = one.kernel;
  kernels::for_each_view(kernel, [&](std::string_view, kernels::Role, auto& view) {
    const auto* wanted = static_cast<const std::byte*>(view.data);
    for (std::size_t i = 0; wanted != nullptr && i < blocks.size(); ++i) {
      const auto block = one.memory.block(i);
      if (std::less_equal<>()(block.data(), wanted) && std::less<>()(wanted, block.data() + block.size())) {
        view.data = static_cast<std::byte*>(blocks[i].view().data) + (wanted - block.data());
      }
    }
  });
  return kernel;
}

}  // namespace flyover::tests
