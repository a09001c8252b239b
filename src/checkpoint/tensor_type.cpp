#include "checkpoint/tensor_type.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace flyover::checkpoint {
namespace {

using kernels::DType;
using kernels::to_bf16;

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

struct TypeRow {
  TensorType type;
  std::string_view name;
  std::size_t size;
};

constexpr std::array<TypeRow, 16> kTypes = {{
    {TensorType::kF64, "F64", 8},
    {TensorType::kF32, "F32", 4},
    {TensorType::kF16, "F16", 2},
    {TensorType::kBf16, "BF16", 2},
    {TensorType::kF8E4M3, "F8_E4M3", 1},
    {TensorType::kF8E5M2, "F8_E5M2", 1},
    {TensorType::kF8E8M0, "F8_E8M0", 1},
    {TensorType::kI64, "I64", 8},
    {TensorType::kI32, "I32", 4},
    {TensorType::kI16, "I16", 2},
    {TensorType::kI8, "I8", 1},
    {TensorType::kU64, "U64", 8},
    {TensorType::kU32, "U32", 4},
    {TensorType::kU16, "U16", 2},
    {TensorType::kU8, "U8", 1},
    {TensorType::kBool, "BOOL", 1},
}};

const TypeRow& row_of(TensorType type) {
  const auto index = static_cast<std::size_t>(type);
  base::check(index < kTypes.size() && kTypes[index].type == type, "unknown tensor type {}", index);
  return kTypes[index];
}

/// IEEE 754 binary16 as binary32; exact. Branchless, so that the loop around it becomes vector code, and without
/// arithmetic on subnormal floats, so that flush-to-zero modes do not change it.
float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t magnitude = half & 0x7FFFu;
  const auto subnormal = std::bit_cast<std::uint32_t>(static_cast<float>(magnitude) * 0x1p-24f);
  constexpr std::uint32_t kBiasDifference = (127u - 15u) << 23;
  const std::uint32_t special = magnitude >= 0x7C00u ? kBiasDifference : 0u;
  const std::uint32_t quiet = magnitude > 0x7C00u ? 0x400000u : 0u;
  const std::uint32_t normal = ((magnitude << 13) + kBiasDifference + special) | quiet;
  return std::bit_cast<float>(sign | (magnitude < 0x400u ? subnormal : normal));
}

std::uint16_t float_to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  constexpr std::uint32_t kInfinity = 0x7F800000u;
  constexpr std::uint32_t kOverflow = 0x477FF000u;        // 65520, halfway between the largest finite half and 2^16
  constexpr std::uint32_t kSmallestNormal = 0x38800000u;  // 2^-14
  const std::uint32_t nan = 0x7E00u | ((magnitude >> 13) & 0x3FFu);
  const std::uint32_t normal = (magnitude + 0xFFFu + ((magnitude >> 13) & 1u) - ((127u - 15u) << 23)) >> 13;
  // Floats in [0.5, 1) are 2^-24 apart, as subnormal halves are: the addition rounds to one of them.
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - std::bit_cast<std::uint32_t>(0.5f);
  std::uint32_t half = magnitude < kSmallestNormal ? subnormal : normal;
  half = magnitude >= kOverflow ? 0x7C00u : half;
  half = magnitude > kInfinity ? nan : half;
  return static_cast<std::uint16_t>(sign | half);
}

/// The float next to `value` towards zero, or away from it, whose last bit is odd, unless `value` is a float. A second
/// rounding to a shorter format then gives what a single one would (Boldo and Melquiond, "Emulation of a FMA and
/// correctly rounded sums: proved algorithms using rounding to odd", IEEE Transactions on Computers 57(4), 2008).
float round_to_odd(double value) {
  const auto nearest = static_cast<float>(value);
  const auto bits = std::bit_cast<std::uint32_t>(nearest);
  if (std::isnan(value) || static_cast<double>(nearest) == value || (bits & 1u) != 0) {
    return nearest;
  }
  const bool beyond = std::fabs(static_cast<double>(nearest)) > std::fabs(value);
  return std::bit_cast<float>(beyond ? bits - 1 : bits + 1);
}

/// destination[i] = convert(source[i]) for elements of any alignment.
template <typename Source, typename Target, typename Convert>
void convert_each(std::span<const std::byte> source, std::span<std::byte> destination, Convert convert) {
  const std::size_t count = source.size() / sizeof(Source);
  for (std::size_t i = 0; i < count; ++i) {
    Source element;
    std::memcpy(&element, source.data() + i * sizeof(Source), sizeof(Source));
    const Target converted = convert(element);
    std::memcpy(destination.data() + i * sizeof(Target), &converted, sizeof(Target));
  }
}

/// The first element whose bits without the sign are `limit` or more. Magnitudes are ordered as these numbers, with
/// infinity and NaN above them.
template <typename Bits>
std::optional<std::size_t> first_from(Bits limit, std::span<const std::byte> elements) {
  constexpr std::size_t kBlock = 4096;
  const std::size_t count = elements.size() / sizeof(Bits);
  const auto is_hit = [&](std::size_t index) {
    Bits bits;
    std::memcpy(&bits, elements.data() + index * sizeof(Bits), sizeof(Bits));
    return static_cast<Bits>(bits & (static_cast<Bits>(-1) >> 1)) >= limit;
  };
  for (std::size_t begin = 0; begin < count; begin += kBlock) {
    const std::size_t end = std::min(begin + kBlock, count);
    // Not left early, so that it becomes vector code.
    Bits hits = 0;
    for (std::size_t i = begin; i < end; ++i) {
      hits = static_cast<Bits>(hits | static_cast<Bits>(is_hit(i)));
    }
    for (std::size_t i = begin; hits != 0 && i < end; ++i) {
      if (is_hit(i)) {
        return i;
      }
    }
  }
  return std::nullopt;
}

void copy(std::span<const std::byte> source, std::span<std::byte> destination) {
  if (!source.empty()) {
    std::memcpy(destination.data(), source.data(), source.size());
  }
}

void check_sizes(std::span<const std::byte> source, std::size_t source_element, std::span<const std::byte> destination,
                 std::size_t destination_element) {
  base::check(source.size() % source_element == 0 && destination.size() % destination_element == 0 &&
                  source.size() / source_element == destination.size() / destination_element,
              "convert_elements: {} bytes of {}-byte elements into {} bytes of {}-byte elements", source.size(),
              source_element, destination.size(), destination_element);
}

}  // namespace

std::string_view name_of(TensorType type) {
  return row_of(type).name;
}

std::optional<TensorType> find_tensor_type(std::string_view name) {
  for (const TypeRow& row : kTypes) {
    if (row.name == name) {
      return row.type;
    }
  }
  return std::nullopt;
}

std::string tensor_type_names() {
  std::string names;
  for (const TypeRow& row : kTypes) {
    names += (names.empty() ? "" : ", ");
    names += row.name;
  }
  return names;
}

std::size_t size_of(TensorType type) {
  return row_of(type).size;
}

TensorType tensor_type_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return TensorType::kF32;
    case DType::kBf16:
      return TensorType::kBf16;
    case DType::kF64:
      return TensorType::kF64;
    case DType::kI32:
      return TensorType::kI32;
    case DType::kI64:
      return TensorType::kI64;
    case DType::kU8:
      return TensorType::kU8;
  }
  base::check(false, "unknown element type {}", static_cast<int>(dtype));
  return {};
}

std::optional<std::uint64_t> tensor_bytes(TensorType type, std::span<const std::int64_t> shape) {
  auto bytes = static_cast<std::int64_t>(size_of(type));
  for (const std::int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) {
      return std::nullopt;
    }
  }
  return static_cast<std::uint64_t>(bytes);
}

std::string format_shape(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (const std::int64_t size : shape) {
    text += fmt::format("{}{}", text.size() > 1 ? ", " : "", size);
  }
  return text + "]";
}

std::optional<std::size_t> first_non_finite(TensorType type, std::span<const std::byte> elements) {
  switch (type) {
    case TensorType::kF64:
      return first_from<std::uint64_t>(0x47EFFFFFF0000000u, elements);  // the least that rounds to infinity in f32
    case TensorType::kF32:
      return first_from<std::uint32_t>(0x7F800000u, elements);
    case TensorType::kF16:
      return first_from<std::uint16_t>(0x7C00u, elements);
    case TensorType::kBf16:
      return first_from<std::uint16_t>(0x7F80u, elements);
    case TensorType::kF8E4M3:
      return first_from<std::uint8_t>(0x7Fu, elements);
    default:
      return std::nullopt;
  }
}

void convert_elements(TensorType from, std::span<const std::byte> source, DType to, std::span<std::byte> destination) {
  base::require(to == DType::kF32 || to == DType::kBf16,
                "elements of type {} cannot be read as {}, only as f32 or bf16", name_of(from), kernels::name_of(to));
  check_sizes(source, size_of(from), destination, kernels::size_of(to));
  const bool to_f32 = to == DType::kF32;
  switch (from) {
    case TensorType::kF32:
      return to_f32 ? copy(source, destination)
                    : convert_each<float, std::uint16_t>(source, destination,
                                                         [](float value) { return to_bf16(value).bits; });
    case TensorType::kBf16:
      return to_f32 ? convert_each<std::uint16_t, float>(
                          source, destination, [](std::uint16_t bits) { return to_float(kernels::Bf16{bits}); })
                    : copy(source, destination);
    case TensorType::kF16:
      return to_f32 ? convert_each<std::uint16_t, float>(source, destination, half_to_float)
                    : convert_each<std::uint16_t, std::uint16_t>(
                          source, destination, [](std::uint16_t half) { return to_bf16(half_to_float(half)).bits; });
    case TensorType::kF64:
      return to_f32 ? convert_each<double, float>(source, destination,
                                                  [](double value) { return static_cast<float>(value); })
                    : convert_each<double, std::uint16_t>(
                          source, destination, [](double value) { return to_bf16(round_to_odd(value)).bits; });
    default:
      base::fail(
          "elements of type {} cannot be read as {}: only F32, BF16, F16 and F64 weights are supported; "
          "use an unquantized version of the model",
          name_of(from), kernels::name_of(to));
  }
}

void convert_elements(DType from, std::span<const std::byte> source, TensorType to, std::span<std::byte> destination) {
  base::require((from == DType::kF32 || from == DType::kBf16) &&
                    (to == TensorType::kF32 || to == TensorType::kBf16 || to == TensorType::kF16),
                "elements of type {} cannot be written as {}: only f32 and bf16 as F32, BF16 or F16",
                kernels::name_of(from), name_of(to));
  check_sizes(source, kernels::size_of(from), destination, size_of(to));
  if (to != TensorType::kF16) {
    convert_elements(tensor_type_of(from), source, to == TensorType::kF32 ? DType::kF32 : DType::kBf16, destination);
  } else if (from == DType::kF32) {
    convert_each<float, std::uint16_t>(source, destination, float_to_half);
  } else {
    convert_each<std::uint16_t, std::uint16_t>(
        source, destination, [](std::uint16_t bits) { return float_to_half(to_float(kernels::Bf16{bits})); });
  }
}

}  // namespace flyover::checkpoint
