#include "devices/reference/device.h"

#include "devices/host_device.h"
#include "devices/reference/families.h"

namespace flyover::devices::reference {

std::unique_ptr<Device> make_device() {
  return std::make_unique<HostDevice>("reference", "plain loops with fp64 accumulation", kernel_table(), 1);
}

}  // namespace flyover::devices::reference
