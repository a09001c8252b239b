// What quantisation-aware training does to weights and activations: rounding to FP4 without storing codes, and the
// rotation before it that spreads large values over their neighbours (DeepSeek-V4 report, 2026, section on FP4).
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

/// Elements that share a scale in FP4 (MXFP4: blocks of 32 along the last axis).
inline constexpr std::int64_t kFp4BlockWidth = 32;
/// The widest row that Hadamard takes.
inline constexpr std::int64_t kMaximumHadamardWidth = 4096;

/// y = the value that x has when it is stored as FP4: in each block of kFp4BlockWidth elements of a row
/// code * 2^ceil(log2(amax / 6)), amax = max(max |x|, 6 * 2^-126), with the e2m1 code nearest to x / scale, ties to the
/// even code. Rounded to y's type, which is exact but for bf16 beyond its range. A block with an element that is not
/// finite becomes NaN. y may be x.
struct RoundToFp4 {
  static constexpr std::string_view kName = "round_to_fp4";
  ConstView x;  ///< [rows, width] bf16 | f32; width a multiple of kFp4BlockWidth; last axis dense
  View y;       ///< [rows, width] bf16 | f32; last axis dense
  static constexpr auto fields = [](auto&& visit) { visit(in("x", &RoundToFp4::x), out("y", &RoundToFp4::y)); };
  void check() const;
  Cost cost() const;
};

/// y = H x / sqrt(width) for every row, H[i, j] = (-1)^(number of bits that i and j share) (Sylvester's order), in
/// fp32, rounded once. Orthonormal and its own inverse, thus its own gradient. y may be x.
struct Hadamard {
  static constexpr std::string_view kName = "hadamard";
  ConstView x;  ///< [rows, width] bf16 | f32; width a power of two, at most kMaximumHadamardWidth; last axis dense
  View y;       ///< [rows, width] as x
  static constexpr auto fields = [](auto&& visit) { visit(in("x", &Hadamard::x), out("y", &Hadamard::y)); };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
