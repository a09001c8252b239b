#include "kernels/all.h"

#include <array>

namespace flyover::kernels {
namespace {

template <typename Kernel>
void relocate(void* arguments, std::ptrdiff_t bytes) {
  for_each_view(*static_cast<Kernel*>(arguments), [&](std::string_view, Role, auto& view) {
    using Pointer = decltype(view.data);
    using Byte = std::conditional_t<std::is_same_v<Pointer, void*>, std::byte, const std::byte>;
    if (view.data != nullptr) {
      view.data = static_cast<Byte*>(view.data) + bytes;
    }
  });
}

template <typename... Kernels>
constexpr std::array<KernelInfo, sizeof...(Kernels)> infos(KernelList<Kernels...>) {
  static_assert((std::is_trivially_copyable_v<Kernels> && ...));
  return {KernelInfo{Kernels::kName, sizeof(Kernels), &relocate<Kernels>}...};
}

constexpr auto kInfos = infos(AllKernels{});

}  // namespace

const KernelInfo& kernel_info(KernelId id) {
  return kInfos[static_cast<std::size_t>(id)];
}

}  // namespace flyover::kernels
