// What the tests of every kernel ask of arguments whose type they do not know. Here, and where streams launch them
// (conformance/device_case.cpp), code is compiled for each kernel; the rest of those tests is compiled once.
#include "devices/support/any_kernel.h"

#include <array>
#include <new>
#include <type_traits>

#include <fmt/core.h>

#include "devices/support/kernel_cases.h"

namespace flyover::tests {
namespace {

using kernels::ConstView;
using kernels::DType;
using kernels::Role;

/// What of a kernel needs its type.
struct Operations {
  void (*construct)(void* arguments);
  std::vector<Magnitude> (*make_case)(OperandMaker& make, DType dtype, void* arguments);
  void (*check)(const void* arguments);
  kernels::Cost (*cost)(const void* arguments);
  std::vector<KernelView> (*views)(const void* arguments);
  void (*set_views)(void* arguments, const std::vector<KernelView>& views);
  std::vector<std::string> (*scalars)(const void* arguments);
};

template <typename Kernel>
std::vector<KernelView> views_of(const Kernel& kernel) {
  std::vector<KernelView> views;
  kernels::for_each_view(kernel, [&](std::string_view name, Role role, const ConstView& view) {
    views.push_back({name, role, view});
  });
  return views;
}

void assign(ConstView& view, const ConstView& value) {
  view = value;
}
void assign(kernels::View& view, const ConstView& value) {
  view = {const_cast<void*>(value.data), value.dtype, value.shape, value.strides};
}

template <typename Kernel>
void set_views_of(Kernel& kernel, const std::vector<KernelView>& views) {
  std::size_t next = 0;
  kernels::for_each_view(kernel, [&](std::string_view, Role, auto& view) { assign(view, views.at(next++).view); });
}

template <typename Value>
void add_scalar(std::vector<std::string>& scalars, std::string_view name, const Value& value) {
  if constexpr (std::is_arithmetic_v<Value>) {
    scalars.push_back(fmt::format("{} {}", name, value));
  } else if constexpr (std::is_enum_v<Value>) {
    scalars.push_back(fmt::format("{} {}", name, static_cast<int>(value)));
  }
}

template <typename Kernel>
std::vector<std::string> scalars_of(const Kernel& kernel) {
  std::vector<std::string> scalars;
  Kernel::fields([&](const auto&... fields) { (add_scalar(scalars, fields.name, kernel.*(fields.member)), ...); });
  return scalars;
}

template <typename Kernel>
constexpr Operations kOperationsOf = {
    .construct = [](void* arguments) { new (arguments) Kernel; },
    .make_case = [](OperandMaker& make, DType dtype,
                    void* arguments) { return make_case(make, dtype, *static_cast<Kernel*>(arguments)); },
    .check = [](const void* arguments) { static_cast<const Kernel*>(arguments)->check(); },
    .cost = [](const void* arguments) { return static_cast<const Kernel*>(arguments)->cost(); },
    .views = [](const void* arguments) { return views_of(*static_cast<const Kernel*>(arguments)); },
    .set_views = [](void* arguments,
                    const std::vector<KernelView>& views) { set_views_of(*static_cast<Kernel*>(arguments), views); },
    .scalars = [](const void* arguments) { return scalars_of(*static_cast<const Kernel*>(arguments)); },
};

template <typename... Kernels>
constexpr std::array<Operations, sizeof...(Kernels)> operations(kernels::KernelList<Kernels...>) {
  return {kOperationsOf<Kernels>...};
}

constexpr auto kOperations = operations(kernels::AllKernels{});

const Operations& operations_of(kernels::KernelId id) {
  return kOperations[static_cast<std::size_t>(id)];
}

}  // namespace

AnyKernel::AnyKernel(kernels::KernelId id) : id_(id), arguments_(kernels::kernel_info(id).size) {
  operations_of(id).construct(arguments_.data());
}

void AnyKernel::check() const {
  operations_of(id_).check(arguments());
}

kernels::Cost AnyKernel::cost() const {
  return operations_of(id_).cost(arguments());
}

std::vector<KernelView> AnyKernel::views() const {
  return operations_of(id_).views(arguments());
}

void AnyKernel::set_views(const std::vector<KernelView>& views) {
  operations_of(id_).set_views(arguments(), views);
}

std::vector<std::string> AnyKernel::scalars() const {
  return operations_of(id_).scalars(arguments());
}

std::vector<Magnitude> make_case(OperandMaker& make, DType dtype, AnyKernel& kernel) {
  return operations_of(kernel.id()).make_case(make, dtype, kernel.arguments());
}

}  // namespace flyover::tests
