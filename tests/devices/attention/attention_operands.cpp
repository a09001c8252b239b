#include "devices/attention/attention_operands.h"

#include <cmath>
#include <cstring>

#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/random.h"
#include "devices/cpu/families.h"

namespace flyover::tests {
namespace {

template <typename Kernel>
void run_kernel(devices::cpu::InstructionSet set, const Kernel& kernel, int threads) {
  kernel.check();
  devices::KernelTable table;
  devices::cpu::add_attention_kernels(table, set);
  const devices::KernelEntry& entry = table[kernels::kernel_id<Kernel>];
  const std::size_t bytes = entry.workspace_bytes(&kernel, threads);
  const GuardedMemory workspace((bytes + 63) / 64 * 64);
  entry(&kernel, {workspace.data(), bytes, threads});
}

std::byte* address(const kernels::ConstView& view, std::int64_t row, std::int64_t head, std::int64_t index) {
  const std::int64_t offset = row * view.stride(0) + head * view.stride(1) + index;
  return static_cast<std::byte*>(const_cast<void*>(view.data)) +
         offset * static_cast<std::int64_t>(kernels::size_of(view.dtype));
}

std::uint32_t bits_at(const kernels::ConstView& view, std::int64_t row, std::int64_t head, std::int64_t index) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, address(view, row, head, index), kernels::size_of(view.dtype));
  return bits;
}

}  // namespace

GuardedMemory::GuardedMemory(std::size_t bytes) : bytes_(bytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  mapping_bytes_ = (bytes + page - 1) / page * page + page;
  void* const mapping = ::mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  base::check(mapping != MAP_FAILED, "mmap of {} bytes failed", mapping_bytes_);
  mapping_ = static_cast<std::byte*>(mapping);
  data_ = mapping_ + mapping_bytes_ - page - bytes;
  base::check(::mprotect(mapping_ + mapping_bytes_ - page, page, PROT_NONE) == 0, "mprotect failed");
  std::memset(mapping_, 0xFF, mapping_bytes_ - page);
}

GuardedMemory::GuardedMemory(const GuardedMemory& other) : GuardedMemory(other.bytes_) {
  std::memcpy(data_, other.data_, bytes_);
}

GuardedMemory::~GuardedMemory() {
  ::munmap(mapping_, mapping_bytes_);
}

bool GuardedMemory::operator==(const GuardedMemory& other) const {
  return bytes_ == other.bytes_ && std::memcmp(data_, other.data_, bytes_) == 0;
}

HeadTensor::HeadTensor(kernels::DType dtype, std::int64_t rows, std::int64_t heads, std::int64_t head_dim)
    : dtype_(dtype),
      rows_(rows),
      heads_(heads),
      head_dim_(head_dim),
      memory_(static_cast<std::size_t>(rows * heads * head_dim) * kernels::size_of(dtype)) {}

kernels::View HeadTensor::view(std::int64_t first_head, std::int64_t heads) const {
  return {memory_.data() + static_cast<std::size_t>(first_head * head_dim_) * kernels::size_of(dtype_),
          dtype_,
          {rows_, heads, head_dim_},
          {heads_ * head_dim_, head_dim_, 1}};
}

void HeadTensor::fill(std::uint64_t seed, std::int64_t begin, std::int64_t end, std::int64_t number) {
  for (std::int64_t row = begin; row < end; ++row) {
    const base::Random random(seed, base::RandomPurpose::kTest, static_cast<std::uint64_t>(number + row - begin));
    for (std::int64_t head = 0; head < heads_; ++head) {
      for (std::int64_t i = 0; i < head_dim_; ++i) {
        const auto place = static_cast<std::uint64_t>(head * head_dim_ + i);
        const auto sixteen_bits = static_cast<double>(random.bits(place / 4) >> (place % 4 * 16) & 0xFFFF);
        set(row, head, i, static_cast<float>((sixteen_bits - 32767.5) * (std::sqrt(12.0) / 65536)));
      }
    }
  }
}

void HeadTensor::set(std::int64_t row, std::int64_t head, std::int64_t index, float value) {
  std::byte* const to = address(all(), row, head, index);
  if (dtype_ == kernels::DType::kF32) {
    std::memcpy(to, &value, sizeof(value));
  } else {
    const kernels::Bf16 rounded = kernels::to_bf16(value);
    std::memcpy(to, &rounded, sizeof(rounded));
  }
}

std::vector<double> values_of(const kernels::ConstView& view) {
  std::vector<double> values;
  for (const std::uint32_t bits : bits_of(view, 0, view.size(0))) {
    values.push_back(std::bit_cast<float>(view.dtype == kernels::DType::kBf16 ? bits << 16 : bits));
  }
  return values;
}

std::vector<std::uint32_t> bits_of(const kernels::ConstView& view, std::int64_t begin, std::int64_t count) {
  std::vector<std::uint32_t> bits;
  for (std::int64_t row = begin; row < begin + count; ++row) {
    for (std::int64_t head = 0; head < view.size(1); ++head) {
      for (std::int64_t i = 0; i < view.size(2); ++i) {
        bits.push_back(bits_at(view, row, head, i));
      }
    }
  }
  return bits;
}

Sequences::Sequences(const std::vector<std::array<std::int32_t, 4>>& documents)
    : documents_(static_cast<std::int64_t>(documents.size())), memory_(documents.size() * 16) {
  if (!documents.empty()) {
    std::memcpy(memory_.data(), documents.data(), memory_.size());
  }
}

kernels::ConstView Sequences::view() const {
  return {memory_.data(), kernels::DType::kI32, {documents_, 4}, {4, 1}};
}

std::string to_string(const Sizes& sizes) {
  return fmt::format("{} heads, {} kv heads, head_dim {}, {}, scale {}", sizes.heads, sizes.kv_heads, sizes.head_dim,
                     kernels::name_of(sizes.dtype), sizes.scale);
}

std::vector<std::array<std::int32_t, 4>> packed(const std::vector<std::int32_t>& lengths, std::int32_t first) {
  std::vector<std::array<std::int32_t, 4>> documents;
  for (const std::int32_t length : lengths) {
    documents.push_back({first, length, first, length});
    first += length;
  }
  return documents;
}

TrainingCase::TrainingCase(const Sizes& sizes_, std::int64_t rows,
                           const std::vector<std::array<std::int32_t, 4>>& documents_)
    : sizes(sizes_),
      documents(documents_),
      sequences(documents_),
      qkv(sizes.dtype, rows, sizes.heads + 2 * sizes.kv_heads, sizes.head_dim),
      y(sizes.dtype, rows, sizes.heads, sizes.head_dim),
      dy(sizes.dtype, rows, sizes.heads, sizes.head_dim),
      gradients(sizes.dtype, rows, sizes.heads + 2 * sizes.kv_heads, sizes.head_dim),
      log_sum_exp(kernels::DType::kF32, rows, sizes.heads, 1) {
  for (const auto& [first, length, first_key, keys] : documents) {
    qkv.fill(1, first, first + length, first);
    dy.fill(2, first, first + length, first);
  }
}

namespace {

kernels::View without_last_axis(const kernels::View& view) {
  return {view.data, view.dtype, {view.size(0), view.size(1)}, {view.stride(0), view.stride(1)}};
}

}  // namespace

kernels::AttentionForward TrainingCase::forward() const {
  return {qkv.view(0, sizes.heads),
          qkv.view(sizes.heads, sizes.kv_heads),
          qkv.view(sizes.heads + sizes.kv_heads, sizes.kv_heads),
          sequences.view(),
          y.all(),
          without_last_axis(log_sum_exp.all()),
          sizes.scale,
          0};
}

kernels::AttentionBackward TrainingCase::backward() const {
  return {qkv.view(0, sizes.heads),
          qkv.view(sizes.heads, sizes.kv_heads),
          qkv.view(sizes.heads + sizes.kv_heads, sizes.kv_heads),
          y.all(),
          without_last_axis(log_sum_exp.all()),
          dy.all(),
          sequences.view(),
          gradients.view(0, sizes.heads),
          gradients.view(sizes.heads, sizes.kv_heads),
          gradients.view(sizes.heads + sizes.kv_heads, sizes.kv_heads),
          sizes.scale,
          0};
}

PlainAttention TrainingCase::plain() const {
  return {sizes.heads,
          sizes.kv_heads,
          sizes.head_dim,
          sizes.scale,
          documents,
          values_of(qkv.view(0, sizes.heads)),
          values_of(qkv.view(sizes.heads, sizes.kv_heads)),
          values_of(qkv.view(sizes.heads + sizes.kv_heads, sizes.kv_heads))};
}

void run(devices::cpu::InstructionSet set, const kernels::AttentionForward& kernel, int threads) {
  run_kernel(set, kernel, threads);
}

void run(devices::cpu::InstructionSet set, const kernels::AttentionBackward& kernel, int threads) {
  run_kernel(set, kernel, threads);
}

}  // namespace flyover::tests
