// A case of a kernel whose operands lie in the memory of a device.
#pragma once

#include <vector>

#include "devices/support/kernel_cases.h"
#include "tensor/stream.h"

namespace flyover::tests {

/// The case's arguments with `blocks`, the device's copies of its memory, in the place of the host's.
AnyKernel on_device(const KernelCase& one, const std::vector<tensor::Tensor>& blocks);

/// Stream::launch of whichever kernel it is.
void launch(tensor::Stream& stream, const AnyKernel& kernel);

}  // namespace flyover::tests
