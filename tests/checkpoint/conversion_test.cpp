// Number formats against their definitions: values by powers of two, rounding by nearbyint in double precision.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "checkpoint/tensor_type.h"

namespace flyover::checkpoint {
namespace {

using kernels::DType;

/// A binary floating-point format (IEEE 754-2019, section 3.3).
struct Format {
  int fraction_bits;
  int smallest_exponent;  ///< of normal numbers
  int largest_exponent;
};
constexpr Format kHalf = {10, -14, 15};
constexpr Format kBfloat = {7, -126, 127};
constexpr Format kSingle = {23, -126, 127};

double value_of(std::uint32_t bits, Format format) {
  const int exponent_bits = std::bit_width(static_cast<unsigned>(2 * format.largest_exponent + 1));
  const std::uint32_t fraction = bits & ((1u << format.fraction_bits) - 1);
  const auto exponent = static_cast<int>((bits >> format.fraction_bits) & ((1u << exponent_bits) - 1));
  const bool negative = ((bits >> (format.fraction_bits + exponent_bits)) & 1u) != 0;
  double magnitude = 0;
  if (exponent > 2 * format.largest_exponent) {
    magnitude = fraction == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(fraction, format.smallest_exponent - format.fraction_bits);
  } else {
    magnitude = std::ldexp(fraction + std::ldexp(1.0, format.fraction_bits),
                           exponent - format.largest_exponent - format.fraction_bits);
  }
  return std::copysign(magnitude, negative ? -1.0 : 1.0);
}

/// The nearest value of the format, ties to even, infinite beyond the largest.
double nearest_in(double value, Format format) {
  if (!std::isfinite(value) || value == 0) {
    return value;
  }
  const int exponent = std::max(std::ilogb(value), format.smallest_exponent);
  const double scaled = std::nearbyint(std::ldexp(value, format.fraction_bits - exponent));
  const double rounded = std::ldexp(scaled, exponent - format.fraction_bits);
  const bool overflows = std::ilogb(rounded) > format.largest_exponent && rounded != 0;
  return overflows ? std::copysign(std::numeric_limits<double>::infinity(), value) : std::copysign(rounded, value);
}

/// Equal values with equal signs, or both NaN.
testing::AssertionResult same(double found, double expected) {
  if (std::isnan(expected) ? std::isnan(found) : found == expected && std::signbit(found) == std::signbit(expected)) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << "found " << testing::PrintToString(found) << ", expected "
                                     << testing::PrintToString(expected);
}

template <typename Target, typename Source, typename From, typename To>
std::vector<Target> convert(const std::vector<Source>& source, From from, To to) {
  std::vector<Target> destination(source.size());
  convert_elements(from, std::as_bytes(std::span(source)), to, std::as_writable_bytes(std::span(destination)));
  return destination;
}

std::vector<std::uint16_t> all_16_bit_patterns() {
  std::vector<std::uint16_t> patterns(65536);
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    patterns[i] = static_cast<std::uint16_t>(i);
  }
  return patterns;
}

TEST(Conversion, EveryHalfIsReadExactlyAsF32) {
  const auto patterns = all_16_bit_patterns();
  const auto floats = convert<float>(patterns, TensorType::kF16, DType::kF32);
  for (const std::uint16_t bits : patterns) {
    ASSERT_TRUE(same(floats[bits], value_of(bits, kHalf))) << "half " << bits;
  }
}

TEST(Conversion, EveryHalfIsReadAsTheNearestBf16) {
  const auto patterns = all_16_bit_patterns();
  const auto bfloats = convert<std::uint16_t>(patterns, TensorType::kF16, DType::kBf16);
  for (const std::uint16_t bits : patterns) {
    ASSERT_TRUE(same(value_of(bfloats[bits], kBfloat), nearest_in(value_of(bits, kHalf), kBfloat))) << "half " << bits;
  }
}

TEST(Conversion, EveryBf16IsReadExactlyAsF32AndWrittenBack) {
  const auto patterns = all_16_bit_patterns();
  const auto floats = convert<float>(patterns, TensorType::kBf16, DType::kF32);
  for (const std::uint16_t bits : patterns) {
    ASSERT_TRUE(same(floats[bits], value_of(bits, kBfloat))) << "bf16 " << bits;
  }
  const auto back = convert<std::uint16_t>(floats, DType::kF32, TensorType::kBf16);
  for (const std::uint16_t bits : patterns) {
    ASSERT_TRUE(same(value_of(back[bits], kBfloat), value_of(bits, kBfloat))) << "bf16 " << bits;
    ASSERT_TRUE(back[bits] == bits || std::isnan(value_of(bits, kBfloat))) << "bf16 " << bits;
  }
  EXPECT_EQ(convert<std::uint16_t>(patterns, TensorType::kBf16, DType::kBf16), patterns);
  EXPECT_EQ(convert<std::uint16_t>(patterns, DType::kBf16, TensorType::kBf16), patterns);
}

TEST(Conversion, EveryBf16IsWrittenAsTheNearestHalf) {
  const auto patterns = all_16_bit_patterns();
  const auto halves = convert<std::uint16_t>(patterns, DType::kBf16, TensorType::kF16);
  for (const std::uint16_t bits : patterns) {
    ASSERT_TRUE(same(value_of(halves[bits], kHalf), nearest_in(value_of(bits, kBfloat), kHalf))) << "bf16 " << bits;
  }
}

/// Around every value of the format: the value, its neighbours, the middle to the next value and its neighbours.
std::vector<float> floats_around(Format format) {
  std::vector<float> values;
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const double value = value_of(bits, format);
    if (!std::isfinite(value)) {
      values.push_back(static_cast<float>(value));
      continue;
    }
    const double next =
        std::isfinite(value_of(bits + 1, format)) ? value_of(bits + 1, format) : std::ldexp(value < 0 ? -1.0 : 1.0, 16);
    for (const double center : {value, (value + next) / 2}) {
      const auto single = static_cast<float>(center);
      values.push_back(single);
      values.push_back(std::nextafter(single, std::numeric_limits<float>::infinity()));
      values.push_back(std::nextafter(single, -std::numeric_limits<float>::infinity()));
    }
  }
  const base::Random random(3, base::RandomPurpose::kTest);
  for (std::uint64_t i = 0; i < 100000; ++i) {
    values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(random.bits(i))));
  }
  return values;
}

TEST(Conversion, F32IsRoundedToTheNearestHalfAtEveryBoundary) {
  const auto values = floats_around(kHalf);
  const auto halves = convert<std::uint16_t>(values, DType::kF32, TensorType::kF16);
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_TRUE(same(value_of(halves[i], kHalf), nearest_in(values[i], kHalf))) << "f32 " << values[i];
  }
  // A half that goes out as f32 comes back as the same bits.
  const auto patterns = all_16_bit_patterns();
  const auto back =
      convert<std::uint16_t>(convert<float>(patterns, TensorType::kF16, DType::kF32), DType::kF32, TensorType::kF16);
  for (const std::uint16_t bits : patterns) {
    ASSERT_TRUE(back[bits] == bits || std::isnan(value_of(bits, kHalf))) << "half " << bits;
  }
}

TEST(Conversion, F32IsRoundedToTheNearestBf16AtEveryBoundary) {
  const auto values = floats_around(kBfloat);
  const auto read = convert<std::uint16_t>(values, TensorType::kF32, DType::kBf16);
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_TRUE(same(value_of(read[i], kBfloat), nearest_in(values[i], kBfloat))) << "f32 " << values[i];
  }
  EXPECT_EQ(convert<std::uint16_t>(values, DType::kF32, TensorType::kBf16), read);
}

TEST(Conversion, F64IsRoundedOnceNotTwice) {
  std::vector<double> values = {0.0, -0.0, 1e300, -1e300, 5e-324, -5e-324, 1e-46, NAN, INFINITY, -INFINITY};
  for (std::uint32_t bits = 0; bits < 65535; ++bits) {
    const double value = value_of(bits, kBfloat);
    const double middle = (value + value_of(bits + 1, kBfloat)) / 2;
    // A middle plus less than f32 can hold: rounding to f32 first would lose the excess and then round to even.
    for (const double v : {value, middle, std::nextafter(middle, INFINITY), std::nextafter(middle, -INFINITY)}) {
      values.push_back(v);
    }
  }
  const auto bfloats = convert<std::uint16_t>(values, TensorType::kF64, DType::kBf16);
  const auto floats = convert<float>(values, TensorType::kF64, DType::kF32);
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_TRUE(same(value_of(bfloats[i], kBfloat), nearest_in(values[i], kBfloat))) << "f64 " << values[i];
    ASSERT_TRUE(same(floats[i], nearest_in(values[i], kSingle))) << "f64 " << values[i];
  }
}

TEST(Conversion, ElementsNeedNoAlignment) {
  const std::vector<float> values = {1.5f, -2.25f, 1e-20f};
  std::vector<std::byte> shifted(1 + values.size() * sizeof(float));
  std::ranges::copy(std::as_bytes(std::span(values)), shifted.begin() + 1);
  std::vector<std::byte> destination(1 + values.size() * 2);
  convert_elements(TensorType::kF32, std::span(shifted).subspan(1), DType::kBf16, std::span(destination).subspan(1));
  // 1.5 = 0x3FC0, -2.25 = 0xC010, 1e-20 is nearest to 0x1E3D in bf16; little-endian.
  const std::vector<int> expected = {0xC0, 0x3F, 0x10, 0xC0, 0x3D, 0x1E};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(std::to_integer<int>(destination[i + 1]), expected[i]);
  }
}

TEST(Conversion, OtherTypesAreRefusedByName) {
  std::vector<std::byte> source(8);
  std::vector<std::byte> destination(64);
  for (const TensorType type : {TensorType::kF8E4M3, TensorType::kI8, TensorType::kBool}) {
    try {
      convert_elements(type, source, DType::kF32, std::span(destination).first(32));
      FAIL();
    } catch (const base::Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(std::string(name_of(type))));
    }
  }
  EXPECT_THROW(convert_elements(TensorType::kF32, source, DType::kI32, std::span(destination).first(8)), base::Error);
  EXPECT_THROW(convert_elements(DType::kF32, source, TensorType::kF64, std::span(destination).first(16)), base::Error);
  EXPECT_THROW(convert_elements(DType::kI32, source, TensorType::kF32, std::span(destination).first(8)), base::Error);
}

TEST(Conversion, DifferentElementCountsAreABug) {
  std::vector<std::byte> source(8);
  std::vector<std::byte> destination(12);
  EXPECT_THROW(convert_elements(TensorType::kF32, source, DType::kF32, destination), base::InternalError);
  EXPECT_THROW(convert_elements(DType::kF32, source, TensorType::kF16, std::span(destination).first(3)),
               base::InternalError);
}

/// Whether one element with these bits, somewhere among zeros, is found there.
template <typename Bits>
bool is_found(TensorType type, Bits bits) {
  constexpr std::size_t kCount = 5000, kPlace = 4099;  // in the second block, not at a multiple of a vector
  std::vector<std::byte> elements(1 + kCount * sizeof(Bits));
  std::memcpy(elements.data() + 1 + kPlace * sizeof(Bits), &bits, sizeof(bits));
  const auto found = first_non_finite(type, std::span(elements).subspan(1));
  EXPECT_TRUE(!found.has_value() || *found == kPlace);
  return found.has_value();
}

TEST(FirstNonFinite, IsWhatF32DoesNotHoldAsANumber) {
  for (std::uint32_t bits = 0; bits < 0x10000u; bits += 7) {
    const auto half = static_cast<std::uint16_t>(bits);
    ASSERT_EQ(is_found(TensorType::kF16, half), !std::isfinite(value_of(bits, kHalf))) << bits;
    ASSERT_EQ(is_found(TensorType::kBf16, half), !std::isfinite(value_of(bits, kBfloat))) << bits;
  }
  const double largest = std::numeric_limits<float>::max(), half_step = std::ldexp(1.0, 127 - 24);
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double value : {0.0, 1.0, largest, std::nextafter(largest + half_step, 0.0), largest + half_step, infinity,
                             std::numeric_limits<double>::quiet_NaN(), 1e300}) {
    for (const double sign : {1.0, -1.0}) {
      const double both = sign * value;
      const auto single = static_cast<float>(both);
      EXPECT_EQ(is_found(TensorType::kF64, std::bit_cast<std::uint64_t>(both)), !std::isfinite(single)) << both;
      EXPECT_EQ(is_found(TensorType::kF32, std::bit_cast<std::uint32_t>(single)), !std::isfinite(single)) << both;
    }
  }
  for (int code = 0; code < 256; ++code) {
    EXPECT_EQ(is_found(TensorType::kF8E4M3, static_cast<std::uint8_t>(code)), code == 0x7F || code == 0xFF) << code;
  }
  EXPECT_FALSE(is_found(TensorType::kI64, std::uint64_t{0x7FFFFFFFFFFFFFFF}));
}

TEST(TensorTypes, EveryTypeHasItsNameAndSize) {
  const std::vector<std::pair<std::string_view, std::size_t>> expected = {
      {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"I64", 8},
      {"I32", 4}, {"I16", 2}, {"I8", 1},  {"U64", 8},  {"U32", 4},     {"U16", 2},     {"U8", 1},      {"BOOL", 1}};
  for (const auto& [name, size] : expected) {
    const auto type = find_tensor_type(name);
    ASSERT_TRUE(type.has_value()) << name;
    EXPECT_EQ(name_of(*type), name);
    EXPECT_EQ(size_of(*type), size) << name;
  }
  EXPECT_FALSE(find_tensor_type("f32").has_value());
  EXPECT_FALSE(find_tensor_type("F4").has_value());
  EXPECT_EQ(tensor_type_of(DType::kBf16), TensorType::kBf16);
  EXPECT_EQ(tensor_type_of(DType::kI64), TensorType::kI64);
}

TEST(TensorTypes, BytesThatDoNotFitAreNoNumber) {
  const std::int64_t big = std::int64_t{1} << 31;
  EXPECT_EQ(tensor_bytes(TensorType::kF32, std::vector<std::int64_t>{}), 4u);
  EXPECT_EQ(tensor_bytes(TensorType::kF32, std::vector<std::int64_t>{3, 0, 5}), 0u);
  EXPECT_EQ(tensor_bytes(TensorType::kU8, std::vector<std::int64_t>{big, big}), std::uint64_t{1} << 62);
  EXPECT_EQ(tensor_bytes(TensorType::kU16, std::vector<std::int64_t>{big, big}), std::nullopt);
  EXPECT_EQ(tensor_bytes(TensorType::kU8, std::vector<std::int64_t>{2, -1}), std::nullopt);
}

}  // namespace
}  // namespace flyover::checkpoint
