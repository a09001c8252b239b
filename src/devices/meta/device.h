// The device without data: the real program runs with shapes only, and what it would need is counted.
#pragma once

#include "devices/device.h"
#include "devices/kernel_table.h"

namespace flyover::devices::meta {

/// A device whose memory is addresses without anything behind them. Workspaces are those of the device that `like`
/// belongs to, with `threads` threads, so that peaks are those of the real run.
std::unique_ptr<Device> make_device(KernelTable like, int threads, std::string description);

}  // namespace flyover::devices::meta
