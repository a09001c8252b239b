// The device of plain loops: the oracle for all others.
#pragma once

#include "devices/device.h"

namespace flyover::devices::reference {

std::unique_ptr<Device> make_device();

}  // namespace flyover::devices::reference
