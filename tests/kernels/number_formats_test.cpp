// Every code against the definition of its format, and rounding against a search through all codes.
#include "kernels/number_formats.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"

namespace flyover::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// A small binary format: the value of a code from its fields.
double value_of(int code, int exponent_bits, int fraction_bits, int bias) {
  const int fraction = code & ((1 << fraction_bits) - 1);
  const int exponent = (code >> fraction_bits) & ((1 << exponent_bits) - 1);
  const bool negative = ((code >> (fraction_bits + exponent_bits)) & 1) != 0;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, 1 - bias - fraction_bits)
                                         : std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
  return negative ? -magnitude : magnitude;
}

double e4m3_value(int code) {
  return (code & 0x7F) == 0x7F ? std::numeric_limits<double>::quiet_NaN() : value_of(code, 4, 3, 7);
}

double e2m1_value(int code) {
  return value_of(code, 2, 1, 1);
}

bool same(double a, double b) {
  return std::isnan(b) ? std::isnan(a) : a == b && std::signbit(a) == std::signbit(b);
}

/// The code of the nearest value among codes 0 .. largest, ties to the even code, with the sign of `value`.
int nearest_code(float value, int largest, int sign_bit, double (*decode)(int)) {
  const double magnitude = std::fabs(static_cast<double>(value));
  int best = 0;
  for (int code = 1; code <= largest; ++code) {
    const double distance = std::fabs(decode(code) - magnitude), least = std::fabs(decode(best) - magnitude);
    if (distance < least || (distance == least && code % 2 == 0)) {
      best = code;
    }
  }
  return best | (std::signbit(value) ? sign_bit : 0);
}

/// Each value of the format, the middles between neighbours and the floats beside all of them, with both signs.
std::vector<float> interesting_values(int largest, double (*decode)(int)) {
  std::vector<float> values;
  const auto add = [&](float value) {
    for (const float near : {value, std::nextafter(value, kInfinity), std::nextafter(value, -kInfinity)}) {
      values.push_back(near);
      values.push_back(-near);
    }
  };
  for (int code = 0; code <= largest; ++code) {
    add(static_cast<float>(decode(code)));
    if (code < largest) {
      add(static_cast<float>((decode(code) + decode(code + 1)) / 2));
    }
  }
  const base::Random random(3, base::RandomPurpose::kTest);
  for (std::uint64_t i = 0; i < 5000; ++i) {
    const double exponent = 40.0 * random.uniform(2 * i) - 25.0;
    values.push_back(static_cast<float>(std::exp2(exponent)) * (random.bits(2 * i + 1) % 2 == 0 ? 1.0f : -1.0f));
  }
  return values;
}

TEST(NumberFormats, EveryE4m3CodeHasTheValueOfItsFields) {
  for (int code = 0; code < 256; ++code) {
    EXPECT_TRUE(same(decode_e4m3(static_cast<std::uint8_t>(code)), e4m3_value(code))) << code;
  }
  EXPECT_EQ(decode_e4m3(0x7E), kLargestE4m3);
}

TEST(NumberFormats, EveryE4m3CodeSurvivesDecodingAndEncoding) {
  for (int code = 0; code < 256; ++code) {
    EXPECT_EQ(encode_e4m3(decode_e4m3(static_cast<std::uint8_t>(code))), code);
  }
}

TEST(NumberFormats, E4m3RoundsToTheNearestTiesToEven) {
  for (const float value : interesting_values(0x7E, e4m3_value)) {
    ASSERT_EQ(encode_e4m3(value), nearest_code(value, 0x7E, 0x80, e4m3_value)) << value;
  }
}

TEST(NumberFormats, E4m3SaturatesAndKeepsNan) {
  EXPECT_EQ(encode_e4m3(449.0f), 0x7E);
  EXPECT_EQ(encode_e4m3(1e30f), 0x7E);
  EXPECT_EQ(encode_e4m3(-kInfinity), 0xFE);
  EXPECT_EQ(encode_e4m3(kNan) & 0x7F, 0x7F);
}

TEST(NumberFormats, EveryE2m1CodeHasTheValueOfItsFields) {
  for (int code = 0; code < 16; ++code) {
    EXPECT_TRUE(same(decode_e2m1(static_cast<std::uint8_t>(code)), e2m1_value(code))) << code;
    EXPECT_EQ(encode_e2m1(decode_e2m1(static_cast<std::uint8_t>(code))), code);
  }
  EXPECT_EQ(decode_e2m1(0xF2), 1.0f);  // the upper half of the byte is another element
  EXPECT_EQ(decode_e2m1(7), kLargestE2m1);
}

TEST(NumberFormats, E2m1RoundsToTheNearestTiesToEven) {
  for (const float value : interesting_values(7, e2m1_value)) {
    ASSERT_EQ(encode_e2m1(value), nearest_code(value, 7, 8, e2m1_value)) << value;
  }
  EXPECT_EQ(encode_e2m1(-kInfinity), 15);
}

TEST(NumberFormats, EveryScaleIsItsPowerOfTwo) {
  for (int code = 0; code < 255; ++code) {
    const float scale = decode_ue8m0(static_cast<std::uint8_t>(code));
    EXPECT_EQ(static_cast<double>(scale), std::ldexp(1.0, code - 127)) << code;
    EXPECT_EQ(encode_ue8m0(scale), code);
  }
  EXPECT_TRUE(std::isnan(decode_ue8m0(kNanUe8m0)));
}

TEST(NumberFormats, PowersOfTwoAreRoundedUpToThemselvesAndOthersToTheNext) {
  for (int exponent = -126; exponent < 127; ++exponent) {
    const auto power = static_cast<float>(std::ldexp(1.0, exponent));
    EXPECT_EQ(ceil_power_of_two(power), power);
    EXPECT_EQ(ceil_power_of_two(std::nextafter(power, kInfinity)), 2 * power);
    EXPECT_EQ(ceil_power_of_two(power * 1.5f), 2 * power);
  }
}

static_assert(decode_e4m3(0x38) == 1.0f && encode_e4m3(1.0f) == 0x38 && decode_e2m1(10) == -1.0f,
              "the formats can be computed at compile time");

}  // namespace
}  // namespace flyover::kernels
