// The arguments of a kernel whose type only its id tells, so that a test of every kernel is compiled once.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "kernels/all.h"

namespace flyover::tests {

/// A view among a kernel's arguments.
struct KernelView {
  std::string_view name;
  kernels::Role role;
  kernels::ConstView view;
};

/// The argument struct of any kernel.
class AnyKernel {
 public:
  /// Arguments with the values of a default-constructed struct.
  explicit AnyKernel(kernels::KernelId id);

  kernels::KernelId id() const { return id_; }
  void* arguments() { return arguments_.data(); }
  const void* arguments() const { return arguments_.data(); }
  /// The struct itself. Throws InternalError where it is another kernel's.
  template <typename Kernel>
  const Kernel& as() const {
    base::check(id_ == kernels::kernel_id<Kernel>, "arguments of {}, not of {}", kernels::kernel_info(id_).name,
                Kernel::kName);
    return *static_cast<const Kernel*>(arguments());
  }

  /// The kernel's own check() and cost().
  void check() const;
  kernels::Cost cost() const;
  /// The views that are present, in the order of the kernel's fields.
  std::vector<KernelView> views() const;
  /// Overwrites the views that are present: as many as views() has, in its order.
  void set_views(const std::vector<KernelView>& views);
  /// "accumulate true", "epsilon 1e-05": the numbers among the fields.
  std::vector<std::string> scalars() const;

 private:
  kernels::KernelId id_;
  std::vector<std::byte> arguments_;
};

}  // namespace flyover::tests
