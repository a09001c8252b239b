#include "checkpoint/block_quantisation.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "base/error.h"
#include "kernels/number_formats.h"

namespace flyover::checkpoint {
namespace {

constexpr std::uint32_t kInfinityBits = 0x7F800000u;

constexpr std::array<float, 256> make_e4m3_table() {
  std::array<float, 256> table{};
  for (std::size_t code = 0; code < table.size(); ++code) {
    table[code] = kernels::decode_e4m3(static_cast<std::uint8_t>(code));
  }
  return table;
}

struct Fp8 {
  static constexpr float kLargest = kernels::kLargestE4m3;
  static constexpr float kLeastMaximum = 1e-4f;
  static constexpr std::array<float, 256> kValues = make_e4m3_table();
  static std::uint8_t encode(float value) { return kernels::encode_e4m3(value); }
  static float decode(std::uint8_t code) { return kValues[code]; }
};

struct Fp4 {
  static constexpr float kLargest = kernels::kLargestE2m1;
  static constexpr float kLeastMaximum = 0x1.8p-124f;  // 6 * 2^-126
  static std::uint8_t encode(float value) { return kernels::encode_e2m1(value); }
  static float decode(std::uint8_t code) { return kernels::decode_e2m1(code); }
};

/// A block's place in the rows of a matrix.
struct Block {
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t first_column;
  std::int64_t stride;  ///< from row to row
};

Block block_of(const BlockRow& shape, std::int64_t index) {
  const std::int64_t width = block_shape(shape.format).columns;
  return {shape.rows, std::min(width, shape.columns - index * width), index * width, shape.columns};
}

/// visit(row, column) for the elements of a block, until one is not accepted.
template <typename Visit>
bool all_of(const Block& block, Visit visit) {
  for (std::int64_t row = 0; row < block.rows; ++row) {
    for (std::int64_t column = block.first_column; column < block.first_column + block.columns; ++column) {
      if (!visit(row, column)) {
        return false;
      }
    }
  }
  return true;
}

/// max |value| as bits, which order magnitudes like numbers and put what is not finite above them.
std::uint32_t largest_magnitude(const Block& block, const float* values) {
  std::uint32_t largest = 0;
  for (std::int64_t row = 0; row < block.rows; ++row) {
    const float* begin = values + row * block.stride + block.first_column;
    for (std::int64_t column = 0; column < block.columns; ++column) {
      largest = std::max(largest, std::bit_cast<std::uint32_t>(begin[column]) & 0x7FFFFFFFu);
    }
  }
  return largest;
}

/// Whether every value of the block is a code times the scale, with its sign.
template <typename Format>
bool restores(const Block& block, const float* values, float scale) {
  return all_of(block, [&](std::int64_t row, std::int64_t column) {
    const float value = values[row * block.stride + column];
    const float restored = Format::decode(Format::encode(value / scale)) * scale;
    return std::bit_cast<std::uint32_t>(restored) == std::bit_cast<std::uint32_t>(value);
  });
}

void write_scale(TensorType type, float scale, std::byte* bytes) {
  if (type == TensorType::kF8E8M0) {
    *bytes = std::byte{kernels::encode_ue8m0(scale)};
  } else {
    convert_elements(kernels::DType::kF32, std::as_bytes(std::span(&scale, 1)), type, {bytes, size_of(type)});
  }
}

/// The least number of a floating-point type that is not below a positive value.
float ceil_to_type(TensorType type, float value) {
  std::array<std::byte, sizeof(float)> bytes{};
  write_scale(type, value, bytes.data());
  if (read_scale(type, bytes.data()) < value) {  // not of F32, which holds every value
    std::uint16_t pattern = 0;
    std::memcpy(&pattern, bytes.data(), sizeof(pattern));
    ++pattern;
    std::memcpy(bytes.data(), &pattern, sizeof(pattern));
  }
  return read_scale(type, bytes.data());
}

template <typename Format>
float choose_scale(TensorType type, const Block& block, const float* values, float largest, const std::byte* kept) {
  if (kept != nullptr) {
    const float scale = read_scale(type, kept);
    if (scale > 0 && std::isfinite(scale) && restores<Format>(block, values, scale)) {
      return scale;
    }
  }
  const float ratio = std::max(largest, Format::kLeastMaximum) / Format::kLargest;
  if (type != TensorType::kF8E8M0) {
    return ceil_to_type(type, ratio);
  }
  const float scale = kernels::ceil_power_of_two(ratio);
  if constexpr (std::is_same_v<Format, Fp4>) {
    if (largest == scale * Format::kLargest && restores<Format>(block, values, 2 * scale)) {
      return 2 * scale;
    }
    if (largest < Format::kLeastMaximum && !restores<Format>(block, values, scale) &&
        restores<Format>(block, values, 0x1p-127f)) {
      return 0x1p-127f;
    }
  }
  return scale;
}

/// Codes of consecutive values. A power of two is divided by exactly when its reciprocal is multiplied with.
template <typename Format>
void encode_run(const float* values, std::int64_t count, float scale, bool power_of_two, std::uint8_t* codes) {
  const float reciprocal = 1.0f / scale;
  for (std::int64_t i = 0; i < count; ++i) {
    codes[i] = Format::encode(power_of_two ? values[i] * reciprocal : values[i] / scale);
  }
}

template <typename Format>
void encode_block(const BlockRow& shape, const Block& block, const float* values, float scale, std::byte* elements) {
  const bool power_of_two = shape.scale_type == TensorType::kF8E8M0;
  std::array<std::uint8_t, 128> codes{};
  const auto count = static_cast<std::size_t>(block.columns);
  for (std::int64_t row = 0; row < block.rows; ++row) {
    const std::int64_t begin = row * block.stride + block.first_column;
    encode_run<Format>(values + begin, block.columns, scale, power_of_two, codes.data());
    if constexpr (std::is_same_v<Format, Fp8>) {
      std::memcpy(elements + begin, codes.data(), count);
    } else {
      for (std::size_t i = 0; i < count / 2; ++i) {
        elements[begin / 2 + static_cast<std::int64_t>(i)] =
            static_cast<std::byte>(codes[2 * i] | (codes[2 * i + 1] << 4));
      }
    }
  }
}

template <typename Format>
std::optional<std::int64_t> quantise_as(const BlockRow& shape, const float* values, std::span<const std::byte> kept,
                                        std::span<std::byte> elements, std::span<std::byte> scales) {
  const std::size_t scale_size = size_of(shape.scale_type);
  for (std::int64_t index = 0; index < shape.scale_count(); ++index) {
    const Block block = block_of(shape, index);
    const auto place = static_cast<std::size_t>(index) * scale_size;
    const std::uint32_t largest_bits = largest_magnitude(block, values);
    if (largest_bits >= kInfinityBits) {
      return index;
    }
    const auto largest = std::bit_cast<float>(largest_bits);
    const float scale =
        choose_scale<Format>(shape.scale_type, block, values, largest, kept.empty() ? nullptr : kept.data() + place);
    if (!std::isfinite(scale) || !std::isfinite(Format::decode(Format::encode(largest / scale)) * scale)) {
      return index;
    }
    if (!scales.empty()) {
      write_scale(shape.scale_type, scale, scales.data() + place);
    }
    if (!elements.empty()) {
      encode_block<Format>(shape, block, values, scale, elements.data());
    }
  }
  return std::nullopt;
}

template <typename Format>
std::uint8_t code_at(const std::byte* elements, std::int64_t index) {
  if constexpr (std::is_same_v<Format, Fp8>) {
    return std::to_integer<std::uint8_t>(elements[index]);
  } else {
    const auto pair = std::to_integer<std::uint8_t>(elements[index / 2]);
    return static_cast<std::uint8_t>(index % 2 == 0 ? pair & 0xFu : pair >> 4);
  }
}

/// One block; false if a value is not finite.
template <typename Format>
bool decode_block(const Block& block, const std::byte* elements, float scale, float* values) {
  std::uint32_t largest = 0;
  for (std::int64_t row = 0; row < block.rows; ++row) {
    const std::int64_t begin = row * block.stride + block.first_column;
    for (std::int64_t i = begin; i < begin + block.columns; ++i) {
      values[i] = Format::decode(code_at<Format>(elements, i)) * scale;
      largest = std::max(largest, std::bit_cast<std::uint32_t>(values[i]) & 0x7FFFFFFFu);
    }
  }
  return largest < kInfinityBits;
}

void check_shape(const BlockRow& shape, std::size_t values, std::size_t elements, std::size_t scales) {
  base::check(is_scale_type(shape.format, shape.scale_type) && shape.rows > 0 &&
                  shape.rows <= block_shape(shape.format).rows && shape.columns >= 0 &&
                  (shape.format == WeightFormat::kFp8 || shape.columns % block_shape(shape.format).columns == 0) &&
                  values == static_cast<std::size_t>(shape.rows * shape.columns) &&
                  (elements == 0 || elements == static_cast<std::size_t>(shape.element_bytes())) &&
                  (scales == 0 || scales == shape.scale_bytes()),
              "block row of {} x {} with {} values, {} bytes of elements and {} of scales", shape.rows, shape.columns,
              values, elements, scales);
}

}  // namespace

std::string_view name_of(WeightFormat format) {
  return format == WeightFormat::kFp8 ? "FP8" : format == WeightFormat::kFp4 ? "FP4" : "plain";
}

bool is_scale_type(WeightFormat format, TensorType type) {
  const bool floating = type == TensorType::kF32 || type == TensorType::kBf16 || type == TensorType::kF16;
  return type == TensorType::kF8E8M0 ? format != WeightFormat::kPlain : format == WeightFormat::kFp8 && floating;
}

BlockShape block_shape(WeightFormat format) {
  base::check(format != WeightFormat::kPlain, "a plain weight has no blocks");
  return format == WeightFormat::kFp8 ? BlockShape{128, 128} : BlockShape{1, 32};
}

std::int64_t BlockRow::element_bytes() const {
  return format == WeightFormat::kFp4 ? rows * columns / 2 : rows * columns;
}

std::int64_t BlockRow::scale_count() const {
  const std::int64_t width = block_shape(format).columns;
  return columns / width + (columns % width != 0 ? 1 : 0);
}

std::size_t BlockRow::scale_bytes() const {
  return static_cast<std::size_t>(scale_count()) * size_of(scale_type);
}

float read_scale(TensorType type, const std::byte* bytes) {
  if (type == TensorType::kF8E8M0) {
    return kernels::decode_ue8m0(std::to_integer<std::uint8_t>(*bytes));
  }
  float scale = 0.0f;
  convert_elements(type, {bytes, size_of(type)}, kernels::DType::kF32, std::as_writable_bytes(std::span(&scale, 1)));
  return scale;
}

std::optional<std::int64_t> dequantise(const BlockRow& shape, std::span<const std::byte> elements,
                                       std::span<const std::byte> scales, std::span<float> values) {
  check_shape(shape, values.size(), elements.size(), scales.size());
  for (std::int64_t index = 0; index < shape.scale_count(); ++index) {
    const std::byte* place = scales.data() + static_cast<std::size_t>(index) * size_of(shape.scale_type);
    const float scale = read_scale(shape.scale_type, place);
    const Block block = block_of(shape, index);
    const bool finite = shape.format == WeightFormat::kFp8
                            ? decode_block<Fp8>(block, elements.data(), scale, values.data())
                            : decode_block<Fp4>(block, elements.data(), scale, values.data());
    if (!finite) {
      return index;
    }
  }
  return std::nullopt;
}

std::optional<std::int64_t> quantise(const BlockRow& shape, std::span<const float> values,
                                     std::span<const std::byte> kept, std::span<std::byte> elements,
                                     std::span<std::byte> scales) {
  check_shape(shape, values.size(), elements.size(), scales.size());
  base::check(kept.empty() || kept.size() == shape.scale_bytes(), "{} bytes of scales to keep", kept.size());
  return shape.format == WeightFormat::kFp8 ? quantise_as<Fp8>(shape, values.data(), kept, elements, scales)
                                            : quantise_as<Fp4>(shape, values.data(), kept, elements, scales);
}

}  // namespace flyover::checkpoint
