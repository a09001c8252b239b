// The short number formats of quantised weights, element by element: e4m3, e2m1 and the scale format ue8m0 (Open
// Compute Project, "Microscaling Formats (MX) Specification" 1.0 and "8-bit Floating Point Specification" 1.0). Which
// elements share a scale is not known here.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace flyover::kernels {

/// Largest values: S.1111.110 of e4m3 and S.11.1 of e2m1. Neither format has infinities; e2m1 has no NaN either.
inline constexpr float kLargestE4m3 = 448.0f;
inline constexpr float kLargestE2m1 = 6.0f;
/// The code of ue8m0 that is no scale.
inline constexpr std::uint8_t kNanUe8m0 = 255;

/// Sign, 4 bits of exponent (bias 7), 3 of fraction; S.1111.111 is NaN. Exact.
constexpr float decode_e4m3(std::uint8_t code) {
  const std::uint32_t sign = (code & 0x80u) << 24;
  const std::uint32_t magnitude = code & 0x7Fu;
  std::uint32_t bits = (magnitude << 20) + ((127u - 7u) << 23);
  if (magnitude < 8) {
    bits = std::bit_cast<std::uint32_t>(static_cast<float>(magnitude) * 0x1p-9f);
  } else if (magnitude == 0x7F) {
    bits = 0x7FC00000u;
  }
  return std::bit_cast<float>(sign | bits);
}

/// The nearest code, ties to even; what is larger than kLargestE4m3 becomes that (also infinities), a NaN stays one.
/// Without branches, so that a loop around it becomes vector code.
constexpr std::uint8_t encode_e4m3(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 24) & 0x80u;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  // Floats in [2^14, 2^15) are 2^-9 apart, as subnormal codes are: the addition rounds to one of them.
  constexpr float kGrid = 0x1p14f;
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + kGrid) - std::bit_cast<std::uint32_t>(kGrid);
  const std::uint32_t normal = (magnitude + 0x7FFFFu + ((magnitude >> 20) & 1u) - ((127u - 7u) << 23)) >> 20;
  std::uint32_t code = magnitude < std::bit_cast<std::uint32_t>(0x1p-6f) ? subnormal : normal;
  code = magnitude >= std::bit_cast<std::uint32_t>(kLargestE4m3) ? 0x7Eu : code;
  code = magnitude > 0x7F800000u ? 0x7Fu : code;
  return static_cast<std::uint8_t>(sign | code);
}

/// Sign, 2 bits of exponent (bias 1), 1 of fraction, in the lower half of a byte. Exact.
constexpr float decode_e2m1(std::uint8_t code) {
  constexpr std::array<float, 16> kValues = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                             -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
  return kValues[code & 0xFu];
}

/// The nearest code, ties to even; what is larger than kLargestE2m1 becomes that. Not for NaNs.
constexpr std::uint8_t encode_e2m1(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const float size = std::bit_cast<float>(bits & 0x7FFFFFFFu);
  // The borders lie between neighbours; those that are ties go to the neighbour with an even code.
  const int code = (size > 0.25f ? 1 : 0) + (size >= 0.75f ? 1 : 0) + (size > 1.25f ? 1 : 0) + (size >= 1.75f ? 1 : 0) +
                   (size > 2.5f ? 1 : 0) + (size >= 3.5f ? 1 : 0) + (size > 5.0f ? 1 : 0);
  return static_cast<std::uint8_t>(((bits >> 28) & 8u) | static_cast<std::uint32_t>(code));
}

/// 2^(code - 127); kNanUe8m0 is NaN. Exact.
constexpr float decode_ue8m0(std::uint8_t code) {
  if (code == kNanUe8m0) {
    return std::bit_cast<float>(0x7FC00000u);
  }
  return std::bit_cast<float>(code == 0 ? 0x00400000u : static_cast<std::uint32_t>(code) << 23);
}

/// The code of a power of two from 2^-127 to 2^127. Not for other values.
constexpr std::uint8_t encode_ue8m0(float power_of_two) {
  return static_cast<std::uint8_t>(std::bit_cast<std::uint32_t>(power_of_two) >> 23);
}

/// 2^ceil(log2(value)) of a normal positive value of at most 2^127, by its bits.
constexpr float ceil_power_of_two(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return std::bit_cast<float>((bits & 0x7F800000u) + ((bits & 0x7FFFFFu) != 0 ? 0x800000u : 0u));
}

}  // namespace flyover::kernels
