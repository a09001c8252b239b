// The list of all kernels as GoogleTest wants types, so that a test of every kernel is written once.
#pragma once

#include <string>

#include <gtest/gtest.h>

#include "kernels/all.h"

namespace flyover::tests {

template <typename List>
struct AsTestTypes;
template <typename... Kernels>
struct AsTestTypes<kernels::KernelList<Kernels...>> {
  using Types = testing::Types<Kernels...>;
};

/// For TYPED_TEST_SUITE: one test for every kernel ...
using AllKernelTypes = AsTestTypes<kernels::AllKernels>::Types;

/// ... that bears its name.
struct KernelTestName {
  template <typename Kernel>
  static std::string GetName(int) {
    return std::string(Kernel::kName);
  }
};

}  // namespace flyover::tests
