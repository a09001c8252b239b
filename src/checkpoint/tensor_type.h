// Element types as safetensors files name them, and the conversion of elements to and from the engine's types.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.h"

namespace flyover::checkpoint {

/// Element type of a tensor in a file; whole bytes only.
enum class TensorType : std::uint8_t {
  kF64,
  kF32,
  kF16,
  kBf16,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool,
};

/// "F32", "BF16", "F8_E4M3", ... as the files write them.
std::string_view name_of(TensorType type);

/// The type with this name, or nothing.
std::optional<TensorType> find_tensor_type(std::string_view name);

/// "F64, F32, ...": every name, for messages.
std::string tensor_type_names();

/// Bytes of one element.
std::size_t size_of(TensorType type);

/// The file's type for elements of the engine's type.
TensorType tensor_type_of(kernels::DType dtype);

/// Bytes that a tensor occupies, or nothing if a size is negative or the product exceeds 63 bits.
std::optional<std::uint64_t> tensor_bytes(TensorType type, std::span<const std::int64_t> shape);

/// "[3, 576]".
std::string format_shape(std::span<const std::int64_t> shape);

/// The index of the first of these elements (of any alignment) that is NaN, infinite or too large for f32; nothing if
/// there is none, and for types that are neither F64, F32, F16, BF16 nor F8_E4M3.
std::optional<std::size_t> first_non_finite(TensorType type, std::span<const std::byte> elements);

/// Elements of a file (F32, BF16, F16, F64; little-endian, of any alignment) as f32 or bf16, rounded once to the
/// nearest, ties to even; too large ones become infinite, NaNs stay NaN. Throws Error for any other pair of types.
/// The spans hold the same number of elements and do not overlap.
void convert_elements(TensorType from, std::span<const std::byte> source, kernels::DType to,
                      std::span<std::byte> destination);

/// The way back: f32 or bf16 as F32, BF16 or F16, by the same rules.
void convert_elements(kernels::DType from, std::span<const std::byte> source, TensorType to,
                      std::span<std::byte> destination);

}  // namespace flyover::checkpoint
