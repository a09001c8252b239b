// Operands for kernel tests, in memory that ends at an unmapped page, and launches on every instruction set with
// several thread counts.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "devices/cpu/families.h"
#include "kernels/all.h"

namespace flyover::devices::cpu::test {

using kernels::ConstView;
using kernels::DType;
using kernels::View;

/// Memory between two pages that may not be touched. The bytes end right before the second.
class GuardedMemory {
 public:
  explicit GuardedMemory(std::size_t bytes);
  ~GuardedMemory();
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;
  std::span<std::byte> bytes() const { return {begin_, size_}; }

 private:
  std::byte* mapping_;
  std::size_t mapped_;
  std::byte* begin_;
  std::size_t size_;
};

/// A tensor of up to three axes with a gap of `gap` elements after each row of its last axis but the last one. The gaps
/// hold a pattern that kernels must neither use (in floating types it is NaN) nor change.
class TestTensor {
 public:
  TestTensor(DType dtype, std::vector<std::int64_t> shape, std::int64_t gap = 0);
  TestTensor(const TestTensor& other);
  TestTensor& operator=(const TestTensor&) = delete;

  const View& view() const { return view_; }
  operator View() const { return view_; }       // NOLINT(google-explicit-constructor): passed as an operand
  operator ConstView() const { return view_; }  // NOLINT(google-explicit-constructor)
  /// Element `index` in row-major order, converted (a bf16 exactly, to bf16 rounded).
  double operator[](std::int64_t index) const;
  void set(std::int64_t index, double value);
  std::int64_t size() const { return view_.elements(); }

  /// Standard normal numbers times `scale`; `stream` tells tensors apart.
  TestTensor& randomise(std::uint64_t stream, double scale = 1.0);
  /// The elements, without the gaps. Reports a failure if a gap was written to.
  std::vector<std::byte> contents() const;

 private:
  std::byte* address(std::int64_t index) const;
  std::size_t element_bytes() const { return kernels::size_of(view_.dtype); }

  View view_;
  GuardedMemory memory_;
};

/// An instruction set and a thread count to launch with.
struct Configuration {
  InstructionSet set;
  int threads;

  /// Checks the kernel's arguments and runs it with a workspace full of NaN.
  template <typename Kernel>
  void run(const Kernel& kernel) const {
    kernel.check();
    run_erased(kernels::kernel_id<Kernel>, &kernel);
  }

 private:
  void run_erased(kernels::KernelId id, const void* kernel) const;
};

/// Calls the body with every available instruction set and 1, 2 and 3 threads. What the body returns must be equal for
/// all thread counts.
void for_each_configuration(const std::function<std::vector<std::byte>(const Configuration&)>& body);

std::vector<std::byte> operator+(std::vector<std::byte> a, const std::vector<std::byte>& b);

/// Expects every element within the rounding of its type (half a unit in the last place of a bf16; a few of an f32) and
/// `scale` * 1e-6 of the expected value. NaN expects NaN.
void expect_near(const TestTensor& actual, const std::vector<double>& expected, double scale = 1.0,
                 const std::string& what = "");

}  // namespace flyover::devices::cpu::test
