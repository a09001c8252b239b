// Shapes and views as arguments of messages: made into text only where a message is made, so that a check costs nothing
// while it holds.
#pragma once

#include <fmt/core.h>

#include "kernels/view.h"

namespace flyover::kernels {

/// "{}" only: there is one way to write a shape.
template <typename Value>
struct MessageFormatter {
  template <typename Context>
  constexpr auto parse(Context& context) {
    return context.begin();
  }
  template <typename Context>
  auto format(const Value& value, Context& context) const {
    return fmt::format_to(context.out(), "{}", to_string(value));
  }
};

}  // namespace flyover::kernels

template <>
struct fmt::formatter<flyover::kernels::Dims> : flyover::kernels::MessageFormatter<flyover::kernels::Dims> {};
template <>
struct fmt::formatter<flyover::kernels::ConstView> : flyover::kernels::MessageFormatter<flyover::kernels::ConstView> {};
