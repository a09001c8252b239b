// For tests: the reference kernels behind everything that makes a real accelerator asynchronous.
#pragma once

#include "devices/device.h"

namespace flyover::devices::delayed {

/// Every stream is a worker thread that waits a random short time before each piece of work. Addresses are handles into
/// memory that the host may not touch (reading or writing one traps); memory that was given back is poisoned in stream
/// order. `seed` chooses the delays; `capacity` bounds the memory in bytes.
std::unique_ptr<Device> make_device(std::uint64_t seed, std::size_t capacity);

}  // namespace flyover::devices::delayed
