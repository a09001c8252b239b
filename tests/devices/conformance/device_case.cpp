#include "devices/conformance/device_case.h"

#include <array>
#include <functional>

namespace flyover::tests {
namespace {

using tensor::Stream;

using Launch = void (*)(Stream& stream, const void* arguments);

template <typename Kernel>
void launch_of(Stream& stream, const void* arguments) {
  stream.launch(*static_cast<const Kernel*>(arguments));
}

template <typename... Kernels>
constexpr std::array<Launch, sizeof...(Kernels)> launches(kernels::KernelList<Kernels...>) {
  return {&launch_of<Kernels>...};
}

constexpr auto kLaunches = launches(kernels::AllKernels{});

}  // namespace

AnyKernel on_device(const KernelCase& one, const std::vector<tensor::Tensor>& blocks) {
  std::vector<KernelView> views = one.kernel.views();
  for (KernelView& field : views) {
    const auto* wanted = static_cast<const std::byte*>(field.view.data);
    for (std::size_t i = 0; wanted != nullptr && i < blocks.size(); ++i) {
      const auto block = one.memory.block(i);
      if (std::less_equal<>()(block.data(), wanted) && std::less<>()(wanted, block.data() + block.size())) {
        field.view.data = static_cast<const std::byte*>(blocks[i].view().data) + (wanted - block.data());
      }
    }
  }
  AnyKernel kernel = one.kernel;
  kernel.set_views(views);
  return kernel;
}

void launch(Stream& stream, const AnyKernel& kernel) {
  kLaunches[static_cast<std::size_t>(kernel.id())](stream, kernel.arguments());
}

}  // namespace flyover::tests
