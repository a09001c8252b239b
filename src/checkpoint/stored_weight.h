// A weight of a model directory, quantised or not: the tensors that hold it, and its rows as floats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "checkpoint/block_quantisation.h"
#include "checkpoint/hub_directory.h"

namespace flyover::checkpoint {

/// The tensors of a weight [..., rows, columns]. FP8: elements F8_E4M3 [..., rows, columns] and scales
/// [..., rows / 128, columns / 128], rounded up. FP4: elements I8 [..., rows, columns / 2] and scales
/// [..., rows, columns / 32]. Types of scales: see is_scale_type. Leading axes count matrices, each with blocks of its
/// own.
struct StoredWeight {
  WeightFormat format = WeightFormat::kPlain;
  const ModelTensor* elements = nullptr;
  const ModelTensor* scales = nullptr;  ///< null where plain

  /// Of the weight, not of the tensor that packs it.
  std::vector<std::int64_t> shape() const;
};

/// The format that weights with elements of this type have.
WeightFormat format_of(TensorType elements);
/// The shapes that the tensors of a weight have. Not for a plain one.
std::vector<std::int64_t> element_shape(WeightFormat format, std::span<const std::int64_t> weight);
std::vector<std::int64_t> scale_shape(WeightFormat format, std::span<const std::int64_t> weight);
/// Whether a weight of this shape can be stored so: at least two axes; FP4: columns in multiples of 32.
bool can_store(WeightFormat format, std::span<const std::int64_t> weight);

/// The scales of a weight: "X.scale" (as DeepSeek-V4 is published) or "X.weight_scale_inv" beside "X.weight", else
/// "X_scale_inv" beside "X"; null if there are none.
const ModelTensor* find_scales(const ModelDirectory& directory, std::string_view weight);
/// Name of the scales in the published style: "X.scale" beside "X.weight".
std::string scale_name(std::string_view weight);

/// Throws Error naming file, tensor and block unless every scale is finite and not negative (code 255 is a NaN). Keeps
/// no memory behind the scales.
void check_scales(const StoredWeight& weight);

/// Throws the Error that read_rows would throw for any of its rows. Keeps no memory behind the weight.
void check_values(const StoredWeight& weight);

/// Rows [first, first + count) of the weight seen as a matrix with its last axis as columns (a vector: one column), as
/// f32: see dequantise and convert_elements. Throws Error naming file, tensor and block or element if a value is not
/// finite or does not fit f32, and for plain types that are no floats.
void read_rows(const StoredWeight& weight, std::int64_t first, std::int64_t count, std::span<float> values);

/// Rows and columns of a weight seen as one matrix, and how many rows each of its matrices has.
struct MatrixShape {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t matrix_rows = 0;
};
MatrixShape matrix_shape(std::span<const std::int64_t> weight);

/// The row of blocks in which a row of the weight lies, counted through all its matrices.
std::int64_t block_row_of(const MatrixShape& weight, WeightFormat format, std::int64_t row);

}  // namespace flyover::checkpoint
