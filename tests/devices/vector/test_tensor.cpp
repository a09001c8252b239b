#include "devices/vector/test_tensor.h"

#include <cmath>
#include <cstring>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/random.h"

namespace flyover::devices::cpu::test {
namespace {

constexpr std::byte kGapPattern{0xFF};

std::int64_t memory_elements(const std::vector<std::int64_t>& shape, std::int64_t gap) {
  std::int64_t rows = 1;
  for (std::size_t axis = 0; axis + 1 < shape.size(); ++axis) {
    rows *= shape[axis];
  }
  return rows == 0 ? 0 : rows * (shape.back() + gap) - gap;
}

KernelTable table_of(InstructionSet set) {
  KernelTable table;
  add_matmul_kernels(table, set);
  add_norm_kernels(table, set);
  add_rope_kernels(table, set);
  add_mlp_kernels(table, set);
  add_router_kernels(table, set);
  add_experts_kernels(table, set);
  add_rows_kernels(table, set);
  add_loss_kernels(table, set);
  add_optimizer_kernels(table, set);
  add_elementwise_kernels(table, set);
  add_sample_kernels(table, set);
  add_hyper_connection_kernels(table, set);
  add_streams_kernels(table, set);
  add_compressor_kernels(table, set);
  add_muon_kernels(table, set);
  return table;
}

}  // namespace

GuardedMemory::GuardedMemory(std::size_t bytes) : size_(bytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t pages = (bytes + page - 1) / page;
  mapped_ = (pages + 2) * page;
  void* const mapping = ::mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  base::check(mapping != MAP_FAILED, "mmap of {} bytes failed", mapped_);
  mapping_ = static_cast<std::byte*>(mapping);
  base::check(pages == 0 || ::mprotect(mapping_ + page, pages * page, PROT_READ | PROT_WRITE) == 0, "mprotect failed");
  begin_ = mapping_ + (pages + 1) * page - bytes;
}

GuardedMemory::~GuardedMemory() {
  ::munmap(mapping_, mapped_);
}

TestTensor::TestTensor(DType dtype, std::vector<std::int64_t> shape, std::int64_t gap)
    : memory_(static_cast<std::size_t>(memory_elements(shape, gap)) * kernels::size_of(dtype)) {
  view_.data = memory_.bytes().data();
  view_.dtype = dtype;
  view_.shape = kernels::Dims(shape);
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t axis = shape.size() - 1; axis > 0; --axis) {
    strides[axis - 1] = axis == shape.size() - 1 ? shape[axis] + gap : strides[axis] * shape[axis];
  }
  view_.strides = kernels::Dims(strides);
  std::fill(memory_.bytes().begin(), memory_.bytes().end(), kGapPattern);
  for (std::int64_t i = 0; i < size(); ++i) {
    std::memset(address(i), 0, element_bytes());
  }
}

TestTensor::TestTensor(const TestTensor& other) : view_(other.view_), memory_(other.memory_.bytes().size()) {
  view_.data = memory_.bytes().data();
  std::copy(other.memory_.bytes().begin(), other.memory_.bytes().end(), memory_.bytes().begin());
}

std::byte* TestTensor::address(std::int64_t index) const {
  std::int64_t offset = 0;
  for (int axis = view_.rank() - 1; axis >= 0; --axis) {
    offset += index % view_.size(axis) * view_.stride(axis);
    index /= view_.size(axis);
  }
  return memory_.bytes().data() + static_cast<std::size_t>(offset) * element_bytes();
}

double TestTensor::operator[](std::int64_t index) const {
  const auto read = [&]<typename T>(T value) {
    std::memcpy(&value, address(index), sizeof(value));
    return value;
  };
  switch (view_.dtype) {
    case DType::kF32:
      return static_cast<double>(read(float{}));
    case DType::kBf16:
      return static_cast<double>(kernels::to_float(read(kernels::Bf16{})));
    case DType::kF64:
      return read(double{});
    case DType::kI32:
      return read(std::int32_t{});
    case DType::kI64:
      return static_cast<double>(read(std::int64_t{}));
    case DType::kU8:
      return read(std::uint8_t{});
  }
  return 0;
}

void TestTensor::set(std::int64_t index, double value) {
  const auto write = [&](auto element) { std::memcpy(address(index), &element, sizeof(element)); };
  switch (view_.dtype) {
    case DType::kF32:
      return write(static_cast<float>(value));
    case DType::kBf16:
      return write(kernels::to_bf16(static_cast<float>(value)));
    case DType::kF64:
      return write(value);
    case DType::kI32:
      return write(static_cast<std::int32_t>(value));
    case DType::kI64:
      return write(static_cast<std::int64_t>(value));
    case DType::kU8:
      return write(static_cast<std::uint8_t>(value));
  }
}

TestTensor& TestTensor::randomise(std::uint64_t stream, double scale) {
  const base::Random random(7, base::RandomPurpose::kTest, stream);
  for (std::int64_t i = 0; i < size(); ++i) {
    set(i, scale * random.normal(static_cast<std::uint64_t>(i)));
  }
  return *this;
}

std::vector<std::byte> TestTensor::contents() const {
  std::vector<std::byte> elements;
  std::vector<bool> is_element(memory_.bytes().size(), false);
  for (std::int64_t i = 0; i < size(); ++i) {
    const std::byte* const from = address(i);
    elements.insert(elements.end(), from, from + element_bytes());
    std::fill_n(is_element.begin() + (from - memory_.bytes().data()), element_bytes(), true);
  }
  for (std::size_t i = 0; i < is_element.size(); ++i) {
    if (!is_element[i] && memory_.bytes()[i] != kGapPattern) {
      ADD_FAILURE() << "a gap between rows was written to, at byte " << i;
      break;
    }
  }
  return elements;
}

void Configuration::run_erased(kernels::KernelId id, const void* kernel) const {
  const KernelTable table = table_of(set);
  const KernelEntry& entry = table[id];
  base::check(entry.present(), "no kernel {}", kernels::kernel_info(id).name);
  const std::size_t bytes = entry.workspace_bytes(kernel, threads);
  const GuardedMemory workspace((bytes + 63) / 64 * 64);
  std::fill(workspace.bytes().begin(), workspace.bytes().end(), std::byte{0xFF});
  entry(kernel, {workspace.bytes().data(), bytes, threads});
}

void for_each_configuration(const std::function<std::vector<std::byte>(const Configuration&)>& body) {
  for (const InstructionSet set : available_instruction_sets()) {
    SCOPED_TRACE(name_of(set));
    const std::vector<std::byte> alone = body({set, 1});
    for (const int threads : {2, 3}) {
      EXPECT_TRUE(body({set, threads}) == alone) << "other bits with " << threads << " threads";
    }
  }
}

std::vector<std::byte> operator+(std::vector<std::byte> a, const std::vector<std::byte>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

void expect_near(const TestTensor& actual, const std::vector<double>& expected, double scale, const std::string& what) {
  ASSERT_EQ(actual.size(), static_cast<std::int64_t>(expected.size()));
  // Half a unit in the last place of a bf16 is at most 2^-8 of the value.
  const double relative = actual.view().dtype == DType::kBf16 ? 1.001 / 256 : 2e-6;
  for (std::int64_t i = 0; i < actual.size(); ++i) {
    const double wanted = expected[static_cast<std::size_t>(i)];
    if (std::isnan(wanted)) {
      ASSERT_TRUE(std::isnan(actual[i])) << what << " element " << i << ": " << actual[i];
    } else if (!std::isinf(wanted) || actual[i] != wanted) {
      ASSERT_NEAR(actual[i], wanted, relative * std::fabs(wanted) + scale * 1e-6) << what << " element " << i;
    }
  }
}

}  // namespace flyover::devices::cpu::test
