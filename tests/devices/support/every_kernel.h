// The list of all kernels as GoogleTest wants values, so that a test of every kernel is written once.
#pragma once

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/all.h"

namespace flyover::tests {

/// For INSTANTIATE_TEST_SUITE_P: one test for every kernel ...
inline std::vector<kernels::KernelId> every_kernel() {
  std::vector<kernels::KernelId> ids;
  for (std::size_t i = 0; i < kernels::kKernelCount; ++i) {
    ids.push_back(static_cast<kernels::KernelId>(i));
  }
  return ids;
}

/// ... that bears its name.
struct KernelTestName {
  std::string operator()(const testing::TestParamInfo<kernels::KernelId>& info) const {
    return std::string(kernels::kernel_info(info.param).name);
  }
};

}  // namespace flyover::tests
