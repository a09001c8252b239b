#include "devices/support/operands.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <new>

#include "base/error.h"

namespace flyover::tests {

using kernels::Dims;
using kernels::DType;
using kernels::View;

namespace {

constexpr std::align_val_t kAlignment{64};
constexpr std::byte kBlank{0xFF};  // a NaN in every floating type, -1 in every signed one

template <typename Type>
double read_as(const std::byte* address) {
  Type value;
  std::memcpy(&value, address, sizeof(value));
  return static_cast<double>(value);
}

template <typename Type>
void write_as(std::byte* address, Type value) {
  std::memcpy(address, &value, sizeof(value));
}

}  // namespace

void OperandMemory::Free::operator()(std::byte* bytes) const {
  ::operator delete[](bytes, kAlignment);
}

std::byte* OperandMemory::allocate(std::size_t bytes) {
  if (bytes == 0) {
    return nullptr;
  }
  auto* memory = static_cast<std::byte*>(::operator new[](bytes, kAlignment));
  std::fill_n(memory, bytes, kBlank);
  blocks_.push_back({std::unique_ptr<std::byte[], Free>(memory), bytes});
  return memory;
}

OperandMemory OperandMemory::copy() const {
  OperandMemory result;
  for (const Block& block : blocks_) {
    std::copy_n(block.bytes.get(), block.size, result.allocate(block.size));
  }
  return result;
}

std::byte* OperandMemory::translate(const OperandMemory& original, const void* address) const {
  if (address == nullptr) {
    return nullptr;
  }
  const auto* wanted = static_cast<const std::byte*>(address);
  for (std::size_t i = 0; i < original.blocks_.size(); ++i) {
    const Block& block = original.blocks_[i];
    if (std::less_equal<>()(block.bytes.get(), wanted) && std::less<>()(wanted, block.bytes.get() + block.size)) {
      return blocks_[i].bytes.get() + (wanted - block.bytes.get());
    }
  }
  throw base::InternalError("an operand lies outside the memory of its case");
}

OperandMaker::OperandMaker(std::uint64_t seed, int number)
    : random_(seed, base::RandomPurpose::kTest, static_cast<std::uint64_t>(number)), number_(number) {}

std::int64_t OperandMaker::below(std::int64_t bound) {
  return static_cast<std::int64_t>(random_.below(position_++, static_cast<std::uint64_t>(bound)));
}

double OperandMaker::uniform(double low, double high) {
  return low + (high - low) * random_.uniform(position_++);
}

double OperandMaker::normal() {
  return random_.normal(position_++);
}

std::int64_t OperandMaker::size(std::int64_t largest) {
  if (number_ == 1) {
    return 1;
  }
  switch (below(3)) {
    case 0:
      return std::min(largest, 1 + below(5));
    case 1:
      return std::clamp<std::int64_t>(8 * (1 + below(9)) + one_of<std::int64_t>({-1, 0, 1}), 1, largest);
    default:
      return 1 + below(largest);
  }
}

std::int64_t OperandMaker::count(std::int64_t largest) {
  return number_ == 0 ? 0 : size(largest);
}

View OperandMaker::blank(DType dtype, const Dims& shape, Layout layout) {
  View view{nullptr, dtype, shape, kernels::dense_strides(shape)};
  std::int64_t before = 0;
  if (layout == Layout::kGaps && number_ > 1) {
    before = one_of<std::int64_t>({0, 1, 5});
    std::int64_t stride = 1;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      view.strides[axis] = stride;
      stride = stride * shape[axis] + one_of<std::int64_t>({0, 0, 1, 3, 16});
    }
  }
  if (shape.elements() == 0) {
    return view;
  }
  std::int64_t extent = 1;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    extent += (shape[axis] - 1) * view.stride(axis);
  }
  const std::int64_t guard = one_of<std::int64_t>({0, 64});
  const auto bytes = static_cast<std::int64_t>(kernels::size_of(dtype));
  view.data = memory_.allocate(static_cast<std::size_t>((before + extent) * bytes + guard)) + before * bytes;
  return view;
}

View OperandMaker::random(DType dtype, const Dims& shape, Layout layout, double deviation) {
  const View view = blank(dtype, shape, layout);
  for (std::int64_t i = 0; i < view.elements(); ++i) {
    set_element(view, i, kernels::is_floating(dtype) ? deviation * normal() : static_cast<double>(below(100)));
  }
  return view;
}

View OperandMaker::uniform(DType dtype, const Dims& shape, double low, double high) {
  const View view = blank(dtype, shape);
  for (std::int64_t i = 0; i < view.elements(); ++i) {
    set_element(view, i, uniform(low, high));
  }
  return view;
}

View OperandMaker::indices(std::int64_t count, std::int64_t bound) {
  const View view = blank(DType::kI32, {count});
  for (std::int64_t i = 0; i < count; ++i) {
    set_element(view, i, static_cast<double>(below(bound)));
  }
  return view;
}

View OperandMaker::matrix(DType dtype, std::int64_t rows, std::int64_t columns) {
  if (coin()) {
    return random(dtype, {rows, columns}, Layout::kGaps);
  }
  return kernels::transpose(random(dtype, {columns, rows}, Layout::kGaps));
}

std::byte* element_address(const kernels::ConstView& view, std::int64_t index) {
  std::int64_t offset = 0;
  for (int axis = view.rank() - 1; axis >= 0; --axis) {
    offset += index % view.size(axis) * view.stride(axis);
    index /= view.size(axis);
  }
  auto* base = static_cast<std::byte*>(const_cast<void*>(view.data));
  return base + offset * static_cast<std::int64_t>(kernels::size_of(view.dtype));
}

double element(const kernels::ConstView& view, std::int64_t index) {
  const std::byte* address = element_address(view, index);
  switch (view.dtype) {
    case DType::kF32:
      return read_as<float>(address);
    case DType::kF64:
      return read_as<double>(address);
    case DType::kBf16: {
      kernels::Bf16 value;
      std::memcpy(&value, address, sizeof(value));
      return static_cast<double>(kernels::to_float(value));
    }
    case DType::kI32:
      return read_as<std::int32_t>(address);
    case DType::kI64:
      return read_as<std::int64_t>(address);
    case DType::kU8:
      return read_as<std::uint8_t>(address);
  }
  throw base::InternalError("an unknown type");
}

void set_element(const View& view, std::int64_t index, double value) {
  std::byte* address = element_address(view, index);
  switch (view.dtype) {
    case DType::kF32:
      return write_as(address, static_cast<float>(value));
    case DType::kF64:
      return write_as(address, value);
    case DType::kBf16:
      return write_as(address, kernels::to_bf16(static_cast<float>(value)));
    case DType::kI32:
      return write_as(address, static_cast<std::int32_t>(value));
    case DType::kI64:
      return write_as(address, static_cast<std::int64_t>(value));
    case DType::kU8:
      return write_as(address, static_cast<std::uint8_t>(value));
  }
}

}  // namespace flyover::tests
