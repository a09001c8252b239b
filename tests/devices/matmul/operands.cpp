#include "devices/matmul/operands.h"

#include <bit>
#include <cstring>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/random.h"
#include "devices/cpu/families.h"

namespace flyover::devices::cpu::testing {
namespace {

constexpr std::uint32_t kGapF32 = 0x7FC12345u;
constexpr std::uint16_t kGapBf16 = 0x7FC1u;

}  // namespace

GuardedBytes::GuardedBytes(std::size_t bytes, bool at_end) : bytes_(bytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t inside = (bytes + page - 1) / page * page;
  mapping_bytes_ = inside + 2 * page;
  void* mapping = ::mmap(nullptr, mapping_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  base::check(mapping != MAP_FAILED, "mmap of {} bytes failed", mapping_bytes_);
  mapping_ = static_cast<std::byte*>(mapping);
  if (inside > 0) {
    base::check(::mprotect(mapping_ + page, inside, PROT_READ | PROT_WRITE) == 0, "mprotect failed");
  }
  data_ = mapping_ + page + (at_end ? inside - bytes : 0);
}

GuardedBytes::GuardedBytes(GuardedBytes&& other) noexcept
    : mapping_(std::exchange(other.mapping_, nullptr)),
      mapping_bytes_(other.mapping_bytes_),
      data_(other.data_),
      bytes_(other.bytes_) {}

GuardedBytes::~GuardedBytes() {
  if (mapping_ != nullptr) {
    ::munmap(mapping_, mapping_bytes_);
  }
}

Matrix::Matrix(std::int64_t rows, std::int64_t columns, const Layout& layout)
    : rows_(rows),
      columns_(columns),
      layout_(layout),
      stride_((layout.transposed ? rows : columns) + layout.gap),
      memory_(rows * columns == 0 ? 0 : (offset(rows - 1, columns - 1) + 1) * kernels::size_of(layout.dtype),
              layout.at_end) {
  const std::size_t width = kernels::size_of(layout.dtype);
  for (std::size_t i = 0; i < memory_.size(); i += width) {
    layout.dtype == kernels::DType::kF32 ? std::memcpy(memory_.data() + i, &kGapF32, width)
                                         : std::memcpy(memory_.data() + i, &kGapBf16, width);
  }
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t column = 0; column < columns; ++column) {
      set(row, column, 0.0f);
    }
  }
}

std::size_t Matrix::offset(std::int64_t row, std::int64_t column) const {
  return static_cast<std::size_t>(layout_.transposed ? column * stride_ + row : row * stride_ + column);
}

kernels::View Matrix::view() const {
  const kernels::Dims strides = layout_.transposed ? kernels::Dims{1, stride_} : kernels::Dims{stride_, 1};
  return {memory_.data(), layout_.dtype, {rows_, columns_}, strides};
}

float Matrix::get(std::int64_t row, std::int64_t column) const {
  if (layout_.dtype == kernels::DType::kF32) {
    float value;
    std::memcpy(&value, memory_.data() + offset(row, column) * 4, 4);
    return value;
  }
  kernels::Bf16 value;
  std::memcpy(&value, memory_.data() + offset(row, column) * 2, 2);
  return kernels::to_float(value);
}

void Matrix::set(std::int64_t row, std::int64_t column, float value) {
  if (layout_.dtype == kernels::DType::kF32) {
    std::memcpy(memory_.data() + offset(row, column) * 4, &value, 4);
    return;
  }
  const kernels::Bf16 rounded = kernels::to_bf16(value);
  std::memcpy(memory_.data() + offset(row, column) * 2, &rounded, 2);
}

void Matrix::fill_random(std::uint64_t seed) {
  for (std::int64_t row = 0; row < rows_; ++row) {
    const base::Random random(seed, base::RandomPurpose::kTest, 0, static_cast<std::uint64_t>(row));
    for (std::int64_t column = 0; column < columns_; ++column) {
      set(row, column, static_cast<float>(2 * random.uniform(static_cast<std::uint64_t>(column)) - 1));
    }
  }
}

void Matrix::copy_from(const Matrix& other) {
  for (std::int64_t row = 0; row < rows_; ++row) {
    for (std::int64_t column = 0; column < columns_; ++column) {
      set(row, column, other.get(row, column));
    }
  }
}

bool Matrix::gaps_are_intact() const {
  const std::int64_t extent = layout_.transposed ? rows_ : columns_;
  const std::size_t width = kernels::size_of(layout_.dtype);
  const std::size_t elements = memory_.size() / width;
  for (std::size_t i = 0; i < elements; ++i) {
    if (static_cast<std::int64_t>(i) % stride_ < extent) {
      continue;
    }
    std::uint32_t bits = 0;
    std::memcpy(&bits, memory_.data() + i * width, width);
    if (bits != (width == 4 ? kGapF32 : kGapBf16)) {
      return false;
    }
  }
  return true;
}

void multiply(InstructionSet set, const kernels::ConstView& a, const kernels::ConstView& b, const kernels::View& c,
              bool accumulate, int threads) {
  const kernels::MatMul product{a, b, c, accumulate};
  product.check();
  KernelTable table;
  add_matmul_kernels(table, set);
  const KernelEntry& entry = table[kernels::kernel_id<kernels::MatMul>];
  const GuardedBytes workspace(entry.workspace_bytes(&product, threads), true);
  std::memset(workspace.data(), 0xFF, workspace.size());
  entry(&product, {workspace.data(), workspace.size(), threads});
}

std::vector<std::uint32_t> bits_of(const Matrix& matrix, std::int64_t first_row, std::int64_t rows,
                                   std::int64_t columns) {
  std::vector<std::uint32_t> bits;
  for (std::int64_t row = first_row; row < first_row + rows; ++row) {
    for (std::int64_t column = 0; column < columns; ++column) {
      bits.push_back(std::bit_cast<std::uint32_t>(matrix.get(row, column)));
    }
  }
  return bits;
}

}  // namespace flyover::devices::cpu::testing
