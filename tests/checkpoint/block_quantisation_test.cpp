// Blocks of codes and scales against the definitions of the formats and the rule for scales (see quantised_model.h).
#include "checkpoint/block_quantisation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include <gtest/gtest.h>

#include "base/random.h"
#include "checkpoint/quantised_model.h"
#include "devices/cpu/device.h"
#include "devices/reference/families.h"
#include "kernels/all.h"

namespace flyover::checkpoint {
namespace {

using base::Random;
using base::RandomPurpose;

constexpr BlockRow kFp4Row = {WeightFormat::kFp4, TensorType::kF8E8M0, 1, 32};

/// A block row's bytes.
struct Stored {
  std::vector<std::byte> elements;
  std::vector<std::byte> scales;
  bool operator==(const Stored&) const = default;
};

Stored sized(const BlockRow& shape) {
  return {std::vector<std::byte>(static_cast<std::size_t>(shape.element_bytes())),
          std::vector<std::byte>(shape.scale_bytes())};
}

std::vector<float> values_of(const BlockRow& shape, const Stored& stored) {
  std::vector<float> values(static_cast<std::size_t>(shape.rows * shape.columns));
  EXPECT_EQ(dequantise(shape, stored.elements, stored.scales, values), std::nullopt);
  return values;
}

Stored quantised(const BlockRow& shape, const std::vector<float>& values, std::span<const std::byte> kept = {}) {
  Stored stored = sized(shape);
  EXPECT_EQ(quantise(shape, values, kept, stored.elements, stored.scales), std::nullopt);
  return stored;
}

std::vector<float> through_bf16(std::vector<float> values) {
  for (float& value : values) {
    value = kernels::to_float(kernels::to_bf16(value));
  }
  return values;
}

int code_of(const Stored& stored, int column) {
  return (std::to_integer<int>(stored.elements[static_cast<std::size_t>(column / 2)]) >> (column % 2 * 4)) & 15;
}

void put_code(Stored& stored, int column, int code) {
  auto& pair = stored.elements[static_cast<std::size_t>(column / 2)];
  pair = column % 2 == 0 ? (pair & std::byte{0xF0}) | static_cast<std::byte>(code)
                         : (pair & std::byte{0x0F}) | static_cast<std::byte>(code << 4);
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// The rule for scales in double precision.
double scale_by_rule(double largest, double least, double top) {
  return std::exp2(std::ceil(std::log2(std::max(largest, least) / top)));
}

/// A row of FP4 from floats, by searching all codes: what a published checkpoint holds.
Stored fp4_by_search(const std::vector<float>& values) {
  double largest = 0;
  for (const float value : values) {
    largest = std::max(largest, std::fabs(static_cast<double>(value)));
  }
  const double scale = scale_by_rule(largest, 6 * std::exp2(-126.0), 6);
  Stored stored = sized(kFp4Row);
  stored.scales[0] = static_cast<std::byte>(std::ilogb(scale) + 127);
  for (int column = 0; column < 32; ++column) {
    const double value = values[static_cast<std::size_t>(column)];
    int best = 0;
    for (int code = 1; code < 8; ++code) {
      const double distance = std::fabs(std::fabs(value) / scale - fp4_value(code));
      const double least = std::fabs(std::fabs(value) / scale - fp4_value(best));
      best = distance < least || (distance == least && code % 2 == 0) ? code : best;
    }
    put_code(stored, column, best + (std::signbit(value) ? 8 : 0));
  }
  return stored;
}

/// Normal numbers of a random size: of ordinary weights, or tiny ones.
std::vector<float> random_row(std::uint64_t seed, double smallest_exponent, double largest_exponent) {
  const Random random(seed, RandomPurpose::kTest);
  const double size = std::exp2(smallest_exponent + (largest_exponent - smallest_exponent) * random.uniform(1000));
  std::vector<float> values;
  for (std::uint64_t i = 0; i < 32; ++i) {
    values.push_back(static_cast<float>(size * random.normal(i)));
  }
  return values;
}

TEST(BlockQuantisation, PublishedBytesHaveTheirValues) {
  // Bytes of a published checkpoint: 0xA0 is 0 in the even column and -1 in the odd one, the scale 0x78 is 2^-7.
  Stored stored = sized(kFp4Row);
  stored.elements[3] = std::byte{0xA0};
  stored.scales[0] = std::byte{0x78};
  const std::vector<float> values = values_of(kFp4Row, stored);
  EXPECT_EQ(values[6], 0.0f);
  EXPECT_EQ(values[7], -0x1p-7f);
}

TEST(BlockQuantisation, RowsAreCodesTimesTheScaleOfTheirBlock) {
  const BlockRow fp8 = {WeightFormat::kFp8, TensorType::kF8E8M0, 5, 300};  // three blocks, the last one narrow
  Stored stored = sized(fp8);
  ASSERT_EQ(stored.scales.size(), 3u);
  const Random random(1, RandomPurpose::kTest);
  for (std::size_t i = 0; i < stored.elements.size(); ++i) {
    stored.elements[i] = static_cast<std::byte>(random.below(i, 127));
  }
  stored.scales = {std::byte{100}, std::byte{127}, std::byte{140}};
  const std::vector<float> values = values_of(fp8, stored);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const int scale = std::to_integer<int>(stored.scales[i % 300 / 128]);
    ASSERT_EQ(static_cast<double>(values[i]), fp8_value(std::to_integer<int>(stored.elements[i])) * scale_value(scale));
  }
}

TEST(BlockQuantisation, AF32ScaleIsRoundedOnce) {
  const BlockRow shape = {WeightFormat::kFp8, TensorType::kF32, 1, 2};
  Stored stored = sized(shape);
  const float scale = 0x1.abcdefp-9f;
  std::memcpy(stored.scales.data(), &scale, sizeof(scale));
  stored.elements = {std::byte{0x0F}, std::byte{0xC5}};
  const std::vector<float> values = values_of(shape, stored);
  EXPECT_EQ(values[0], static_cast<float>(fp8_value(0x0F) * static_cast<double>(scale)));
  EXPECT_EQ(values[1], static_cast<float>(fp8_value(0xC5) * static_cast<double>(scale)));
}

TEST(BlockQuantisation, Fp4FollowsTheRuleForScalesAndRoundsToTheNearest) {
  int largest_is_three = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    const std::vector<float> values = seed % 4 == 0 ? random_row(seed, -135, -120) : random_row(seed, -30, 20);
    ASSERT_TRUE(quantised(kFp4Row, values) == fp4_by_search(values)) << seed;
    const Stored stored = quantised(kFp4Row, values);
    int top = 0;
    for (int column = 0; column < 32; ++column) {
      top = std::max(top, code_of(stored, column) & 7);
    }
    largest_is_three += top == 5 ? 1 : 0;
  }
  EXPECT_GT(largest_is_three, 100);  // the case that would come back with another scale is not rare
}

TEST(BlockQuantisation, Fp4OfPublishedCheckpointsSurvivesBf16BitForBit) {
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    const std::vector<float> weights = seed % 4 == 0 ? random_row(seed, -135, -120) : random_row(seed, -30, 20);
    const Stored stored = fp4_by_search(weights);
    const std::vector<float> values = values_of(kFp4Row, stored);
    ASSERT_TRUE(same_bits(values, through_bf16(values)));
    ASSERT_TRUE(quantised(kFp4Row, values) == stored) << seed;
  }
}

TEST(BlockQuantisation, Fp4OfAnyBytesKeepsItsValuesAndItsBytesWhereStated) {
  int restored = 0, changed = 0;
  for (std::uint64_t seed = 0; seed < 20000; ++seed) {
    const Random random(seed, RandomPurpose::kTest, 7);
    Stored stored = sized(kFp4Row);
    // Few different codes, small largest ones, many zeros of both signs, every scale that keeps values finite.
    const int largest = static_cast<int>(random.below(40, 8));
    const bool even_only = random.below(41, 3) == 0, sparse = random.below(42, 3) == 0;
    int top = 0;
    bool fine = false;  // +-0.5 or +-1.5
    for (int column = 0; column < 32; ++column) {
      const auto at = static_cast<std::uint64_t>(column);
      int code = static_cast<int>(random.below(at, static_cast<std::uint64_t>(largest) + 1));
      code = (even_only && (code == 1 || code == 3)) || (sparse && random.below(100 + at, 8) != 0) ? 0 : code;
      top = std::max(top, code);
      fine = fine || code == 1 || code == 3;
      put_code(stored, column, code + static_cast<int>(8 * random.below(200 + at, 2)));
    }
    const int scale = static_cast<int>(random.below(43, 4) == 0 ? random.below(44, 4) : random.below(44, 253));
    stored.scales[0] = static_cast<std::byte>(scale);
    const std::vector<float> values = values_of(kFp4Row, stored);
    ASSERT_TRUE(same_bits(values, through_bf16(values)));
    const Stored again = quantised(kFp4Row, values);
    ASSERT_TRUE(same_bits(values_of(kFp4Row, again), values)) << seed;
    const bool tiny = scale == 1 && top <= 5;  // the least scale, whatever the codes
    const bool stated = tiny || top == 5 || top == 6 || (top == 7 && fine);
    if (stated && scale >= 1) {
      ASSERT_TRUE(again == stored) << seed << ": largest code " << top << ", scale byte " << scale;
    }
    (again == stored ? restored : changed) += 1;
    ASSERT_TRUE(quantised(kFp4Row, values, stored.scales) == stored) << seed;  // told the scale: always
  }
  EXPECT_GT(restored, 5000);
  EXPECT_GT(changed, 500);  // so that telling the scale is needed
}

TEST(BlockQuantisation, AScaleThatDoesNotRestoreTheValuesIsNotKept) {
  std::vector<float> values = random_row(5, 0, 1);
  const Stored stored = quantised(kFp4Row, values);
  const std::vector<std::byte> kept = {std::byte{120}};
  EXPECT_TRUE(quantised(kFp4Row, values, kept) == stored);
  for (const int bad : {0, 255}) {
    EXPECT_TRUE(quantised(kFp4Row, values, std::vector<std::byte>{static_cast<std::byte>(bad)}) == stored);
  }
}

TEST(BlockQuantisation, ZerosKeepTheirSignsAndGetTheLeastScale) {
  std::vector<float> values(32, 0.0f);
  values[1] = values[30] = -0.0f;
  const Stored stored = quantised(kFp4Row, values);
  EXPECT_EQ(stored.scales[0], std::byte{1});  // 2^-126
  EXPECT_EQ(code_of(stored, 0), 0);
  EXPECT_EQ(code_of(stored, 1), 8);
  EXPECT_EQ(code_of(stored, 30), 8);
  EXPECT_TRUE(same_bits(values_of(kFp4Row, stored), values));
}

TEST(BlockQuantisation, Fp8FollowsTheRuleForScalesAndRoundsToTheNearest) {
  const BlockRow shape = {WeightFormat::kFp8, TensorType::kF8E8M0, 128, 200};
  const Random random(9, RandomPurpose::kTest);
  std::vector<float> values;
  for (std::uint64_t i = 0; i < 128 * 200; ++i) {
    values.push_back(static_cast<float>((i % 200 < 128 ? 0.02 : 1e-6) * random.normal(i)));
  }
  const Stored stored = quantised(shape, values);
  double largest = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    largest = i % 200 < 128 ? std::max(largest, std::fabs(static_cast<double>(values[i]))) : largest;
  }
  EXPECT_EQ(scale_value(std::to_integer<int>(stored.scales[0])), scale_by_rule(largest, 1e-4, 448));
  EXPECT_EQ(scale_value(std::to_integer<int>(stored.scales[1])), scale_by_rule(0, 1e-4, 448));  // below the least
  const std::vector<float> back = values_of(shape, stored);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double scale = scale_value(std::to_integer<int>(stored.scales[i % 200 / 128]));
    const double size = std::fabs(static_cast<double>(values[i])) / scale;
    const double spacing = size < 0.015625 ? std::exp2(-9.0) : std::exp2(std::floor(std::log2(size)) - 3);
    ASSERT_LE(std::fabs(static_cast<double>(back[i]) - static_cast<double>(values[i])), spacing * scale / 2) << i;
  }
}

TEST(BlockQuantisation, Fp8KeepsItsValuesThroughBf16AndItsBytesIfItsScaleIsTold) {
  const BlockRow shape = {WeightFormat::kFp8, TensorType::kF8E8M0, 16, 128};
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const Random random(seed, RandomPurpose::kTest, 8);
    Stored stored = sized(shape);
    const std::uint64_t bound = 1 + random.below(1 << 20, 127);
    int top = 0;
    for (std::size_t i = 0; i < stored.elements.size(); ++i) {
      const int code = static_cast<int>(random.below(i, bound));
      top = std::max(top, code);
      stored.elements[i] = static_cast<std::byte>(code + static_cast<int>(128 * random.below((1 << 21) + i, 2)));
    }
    stored.scales[0] = static_cast<std::byte>(seed % 3 == 0 ? 3 + random.below(1 << 22, 236) : 115 + seed % 20);
    const std::vector<float> values = values_of(shape, stored);
    ASSERT_TRUE(same_bits(values, through_bf16(values)));
    const Stored again = quantised(shape, values);
    const int scale = std::to_integer<int>(stored.scales[0]);
    if (scale >= 115) {
      ASSERT_TRUE(same_bits(values_of(shape, again), values)) << seed;
      // More than half of the largest code: no smaller scale will do.
      ASSERT_TRUE(fp8_value(top) <= 224 || fp8_value(top) * scale_value(scale) < 1e-4 || again == stored) << seed;
    }
    ASSERT_TRUE(quantised(shape, values, stored.scales) == stored) << seed;
  }
}

TEST(BlockQuantisation, F32ScalesUseTheWholeRange) {
  const BlockRow shape = {WeightFormat::kFp8, TensorType::kF32, 1, 3};
  const Stored stored = quantised(shape, {0.3f, -0.15f, 0.0f});
  EXPECT_EQ(read_scale(TensorType::kF32, stored.scales.data()), 0.3f / 448.0f);
  EXPECT_EQ(std::to_integer<int>(stored.elements[0]), 0x7E);
  EXPECT_EQ(std::to_integer<int>(stored.elements[1]), 0xF6);  // -224
}

TEST(BlockQuantisation, NarrowScalesAreTheLeastThatAreNotTooSmall) {
  const Random random(12, RandomPurpose::kTest);
  for (const TensorType type : {TensorType::kBf16, TensorType::kF16}) {
    const BlockRow shape = {WeightFormat::kFp8, type, 1, 128};
    const auto number = [&](std::uint16_t bits) {
      return type == TensorType::kBf16 ? std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16)
             : bits < 0x400            ? std::ldexp(static_cast<float>(bits), -24)
                                       : std::ldexp(1024.0f + static_cast<float>(bits % 1024), bits / 1024 - 25);
    };
    for (std::uint64_t block = 0; block < 200; ++block) {
      std::vector<float> values(128);
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<float>(std::ldexp(random.normal(block * 128 + i), static_cast<int>(block % 20) - 10));
      }
      const Stored stored = quantised(shape, values);
      float largest = 0;
      for (const float value : values) {
        largest = std::max(largest, std::abs(value));
      }
      std::uint16_t bits = 0;
      std::memcpy(&bits, stored.scales.data(), sizeof(bits));
      EXPECT_GE(number(bits), largest / 448.0f);
      EXPECT_LT(number(static_cast<std::uint16_t>(bits - 1)), largest / 448.0f);
      const std::vector<float> restored = values_of(shape, stored);
      for (std::size_t i = 0; i < values.size(); ++i) {
        EXPECT_NEAR(restored[i], values[i], std::abs(values[i]) / 16 + number(bits) / 1024);
      }
      EXPECT_EQ(quantised(shape, restored, stored.scales), stored);
    }
  }
}

TEST(BlockQuantisation, AScaleThatF16DoesNotHoldIsReported) {
  const BlockRow shape = {WeightFormat::kFp8, TensorType::kF16, 1, 128};
  Stored stored = sized(shape);
  const std::vector<float> values(128, 1e30f);
  EXPECT_EQ(quantise(shape, values, {}, stored.elements, stored.scales), 0);
}

TEST(BlockQuantisation, WhatIsNoFiniteNumberIsReportedWithItsBlock) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad :
       {infinity, -infinity, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::max()}) {
    for (const WeightFormat format : {WeightFormat::kFp4, WeightFormat::kFp8}) {
      const BlockRow shape = {format, TensorType::kF8E8M0, 1, 256};
      std::vector<float> values(256, 1.0f);
      values[200] = bad;
      Stored stored = sized(shape);
      EXPECT_EQ(quantise(shape, values, {}, stored.elements, stored.scales), 200 / block_shape(format).columns) << bad;
    }
  }
  const BlockRow shape = {WeightFormat::kFp8, TensorType::kF8E8M0, 1, 300};
  Stored stored = sized(shape);
  std::vector<float> values(300);
  stored.elements[299] = std::byte{0xFF};
  EXPECT_EQ(dequantise(shape, stored.elements, stored.scales, values), 2);
  stored.scales[1] = std::byte{255};
  EXPECT_EQ(dequantise(shape, stored.elements, stored.scales, values), 1);
  stored = sized(kFp4Row);
  stored.elements[0] = std::byte{0x06};
  stored.scales[0] = std::byte{254};  // 4 * 2^127
  EXPECT_EQ(dequantise(kFp4Row, stored.elements, stored.scales, std::span(values).first(32)), 0);
}

/// What storing a block does to it is what the kernels of quantisation-aware training do to it.
TEST(Fp4Blocks, AreWhatTheRoundingKernelsCompute) {
  const std::vector<devices::KernelTable> tables = [] {
    std::vector<devices::KernelTable> result = {devices::reference::kernel_table()};
    for (const auto set : devices::cpu::available_instruction_sets()) {
      result.push_back(devices::cpu::kernel_table(set));
    }
    return result;
  }();
  const Random random(31, RandomPurpose::kTest);
  std::uint64_t position = 0;
  for (int trial = 0; trial < 4000; ++trial) {
    std::vector<float> values(32);
    // From below the least scale to near the largest; every third block of eighths of a scale, where ties are.
    const int exponent = static_cast<int>(random.below(position++, 260)) - 136;
    for (float& value : values) {
      const double number =
          trial % 3 == 0 ? static_cast<double>(random.below(position++, 97)) / 8.0 - 6.0 : random.normal(position++);
      value = static_cast<float>(std::ldexp(number, exponent));
    }
    const std::vector<float> expected = values_of(kFp4Row, quantised(kFp4Row, values));
    for (const devices::KernelTable& table : tables) {
      std::vector<float> found(32, -1.0f);
      kernels::RoundToFp4 kernel{{values.data(), kernels::DType::kF32, {1, 32}, {32, 1}},
                                 {found.data(), kernels::DType::kF32, {1, 32}, {32, 1}}};
      kernel.check();
      table[kernels::kernel_id<kernels::RoundToFp4>](&kernel, {});
      ASSERT_EQ(std::memcmp(found.data(), expected.data(), sizeof(float) * 32), 0) << "trial " << trial;
    }
  }
}

}  // namespace
}  // namespace flyover::checkpoint
