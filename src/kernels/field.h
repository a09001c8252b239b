// The list of a kernel's fields, written once beside its struct: checks, costs, traces and tests derive from it. It is
// a generic lambda that hands them all to a visitor, not a tuple: a tuple would cost every file that only includes the
// struct the compilation of its type.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

#include "kernels/view.h"

namespace flyover::kernels {

/// What a kernel does with a field.
enum class Role : std::uint8_t { kIn, kOut, kInOut, kScalar };

template <typename Kernel, typename Member>
struct Field {
  std::string_view name;
  Member Kernel::*member;
  Role role;
};

template <typename Kernel, typename Member>
constexpr Field<Kernel, Member> in(std::string_view name, Member Kernel::*member) {
  return {name, member, Role::kIn};
}
template <typename Kernel, typename Member>
constexpr Field<Kernel, Member> out(std::string_view name, Member Kernel::*member) {
  return {name, member, Role::kOut};
}
template <typename Kernel, typename Member>
constexpr Field<Kernel, Member> in_out(std::string_view name, Member Kernel::*member) {
  return {name, member, Role::kInOut};
}
template <typename Kernel, typename Member>
constexpr Field<Kernel, Member> scalar(std::string_view name, Member Kernel::*member) {
  return {name, member, Role::kScalar};
}

/// Calls visit(name, role, view) for every view of the kernel that is present; `view` is a View& or ConstView&, const
/// where the kernel is.
template <typename Kernel, typename Visitor>
void for_each_view(Kernel& kernel, Visitor&& visit) {
  const auto one = [&](const auto& field) {
    auto& value = kernel.*(field.member);
    using Value = std::remove_cvref_t<decltype(value)>;
    if constexpr (std::is_same_v<Value, View> || std::is_same_v<Value, ConstView>) {
      visit(field.name, field.role, value);
    } else if constexpr (std::is_same_v<Value, std::optional<View>> ||
                         std::is_same_v<Value, std::optional<ConstView>>) {
      if (value.has_value()) {
        visit(field.name, field.role, *value);
      }
    }
  };
  std::remove_const_t<Kernel>::fields([&](const auto&... fields) { (one(fields), ...); });
}

}  // namespace flyover::kernels
