// Weights whose blocks of elements share a scale: FP8 (e4m3) in blocks of 128 x 128 and FP4 (e2m1, MXFP4) in blocks of
// 1 x 32, as DeepSeek-V4 is published. Between floats and the bytes of elements and scales; files are not known here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "checkpoint/tensor_type.h"

namespace flyover::checkpoint {

/// How the elements of a weight are stored: one by one, or as codes that are multiplied with the scale of their block.
enum class WeightFormat : std::uint8_t { kPlain, kFp8, kFp4 };

/// "FP8", "FP4"; "plain".
std::string_view name_of(WeightFormat format);

/// Whether scales may have this type. FP4: F8_E8M0; FP8: also F32 (as DeepSeek-V3 is published), BF16 and F16 (as
/// Qwen3 is).
bool is_scale_type(WeightFormat format, TensorType type);

/// Rows and columns of a matrix that share a scale; blocks at the lower and right edges may be smaller. Not for kPlain.
struct BlockShape {
  std::int64_t rows;
  std::int64_t columns;
};
BlockShape block_shape(WeightFormat format);

/// Rows of a weight that lie in the same row of blocks, all columns: one row of scales belongs to them.
struct BlockRow {
  WeightFormat format = WeightFormat::kFp8;     ///< not kPlain
  TensorType scale_type = TensorType::kF8E8M0;  ///< see is_scale_type
  std::int64_t rows = 0;                        ///< at most block_shape(format).rows
  std::int64_t columns = 0;                     ///< FP4: a multiple of 32
  std::int64_t element_bytes() const;           ///< of all rows
  std::int64_t scale_count() const;             ///< blocks
  std::size_t scale_bytes() const;              ///< of all scales
};

/// The scale that is stored in these bytes (of any alignment).
float read_scale(TensorType type, const std::byte* bytes);

/// values[row, column] = code * scale, rounded once to f32 (to nearest, ties to even): exact where scales are powers of
/// two, up to the smallest values of f32. FP4 has two codes in a byte, the even column in the lower half. Returns the
/// first block with a value that is not a finite number (codes or scales that are NaN, or too large a product).
[[nodiscard]] std::optional<std::int64_t> dequantise(const BlockRow& shape, std::span<const std::byte> elements,
                                                     std::span<const std::byte> scales, std::span<float> values);

/// The way back: the code nearest to value / scale, ties to even. Returns the first block that holds a value which is
/// not finite, or too large for the format's neighbourhood of it to be finite.
///
/// The scale of a block is the power of two 2^ceil(log2(amax / largest code)) with amax = max |value|, at least 1e-4
/// for FP8 and 6 * 2^-126 for FP4; F32 scales of FP8 are amax / 448, BF16 and F16 ones the next number that is not
/// below it. Three cases differ from that, in none of which the values that the codes stand for change:
/// * `kept` holds scales (as many as `scales`) and with its scale the block's values are exactly codes: then that one.
///   Weights that were read from a quantised checkpoint and have not changed give that checkpoint's bytes again.
/// * FP4 whose values are exactly codes up to 3 with twice the scale: then twice the scale. A block of weights with
///   amax / scale between 3 and 3.5 is rounded to codes up to 3; read and written, it would get half the scale and
///   twice the codes otherwise.
/// * FP4 with values so small that only the scale 2^-127 makes them codes: then that.
///
/// So FP4 that this rule wrote (or the rule without its exceptions) comes back bit for bit, without `kept`, from the
/// values of every block but one whose largest code is 6 and none is +-0.5 or +-1.5: that gets twice the scale and half
/// the codes, because its values could as well be codes up to 3. Of 32 normally distributed weights that happens about
/// once in 150,000 blocks. Blocks that no such rule writes also change, in bytes and not in values: those with codes up
/// to 2 and a scale above 2^-126, and zeros with another scale than 2^-126.
///
/// An empty `elements` or `scales` is not written.
[[nodiscard]] std::optional<std::int64_t> quantise(const BlockRow& shape, std::span<const float> values,
                                                   std::span<const std::byte> kept, std::span<std::byte> elements,
                                                   std::span<std::byte> scales);

}  // namespace flyover::checkpoint
