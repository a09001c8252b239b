#include "checkpoint/stored_weight.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "checkpoint/json_events.h"

namespace flyover::checkpoint {
namespace {

using kernels::DType;

constexpr std::string_view kWeightSuffix = ".weight";

std::int64_t divided_up(std::int64_t a, std::int64_t b) {
  return a / b + (a % b != 0 ? 1 : 0);
}

[[noreturn]] void fail_for_block(const ModelTensor& tensor, std::int64_t block_row, std::int64_t block,
                                 std::string_view what) {
  base::fail("{}: the tensor {}: block [{}, {}] {}; the file is damaged, get it again from where it came from",
             tensor.file->path().string(), quote(tensor.entry->name), block_row, block, what);
}

/// Where a run of rows in one row of blocks lies in the tensors of a quantised weight.
struct Strip {
  BlockRow shape;
  std::int64_t block_row = 0;  ///< counted through all matrices
  std::span<const std::byte> elements;
  std::span<const std::byte> scales;
};

/// The rows from `first` to the end of their row of blocks, at most `count`.
Strip strip_at(const StoredWeight& weight, const MatrixShape& matrix, std::int64_t first, std::int64_t count) {
  const std::int64_t block_rows = block_shape(weight.format).rows;
  const std::int64_t row = first % matrix.matrix_rows;
  const std::int64_t end = std::min((row / block_rows + 1) * block_rows, matrix.matrix_rows);
  Strip strip;
  strip.shape = {weight.format, weight.scales->entry->dtype, std::min(count, end - row), matrix.columns};
  strip.block_row = block_row_of(matrix, weight.format, first);
  const std::int64_t row_bytes = strip.shape.element_bytes() / strip.shape.rows;
  strip.elements =
      bytes_of(*weight.elements)
          .subspan(static_cast<std::size_t>(first * row_bytes), static_cast<std::size_t>(strip.shape.element_bytes()));
  const std::size_t scale_bytes = strip.shape.scale_bytes();
  strip.scales = bytes_of(*weight.scales).subspan(static_cast<std::size_t>(strip.block_row) * scale_bytes, scale_bytes);
  return strip;
}

}  // namespace

std::vector<std::int64_t> StoredWeight::shape() const {
  std::vector<std::int64_t> result = elements->entry->shape;
  if (format == WeightFormat::kFp4) {
    result.back() *= 2;
  }
  return result;
}

WeightFormat format_of(TensorType elements) {
  return elements == TensorType::kF8E4M3 ? WeightFormat::kFp8
         : elements == TensorType::kI8   ? WeightFormat::kFp4
                                         : WeightFormat::kPlain;
}

std::vector<std::int64_t> element_shape(WeightFormat format, std::span<const std::int64_t> weight) {
  std::vector<std::int64_t> shape(weight.begin(), weight.end());
  if (format == WeightFormat::kFp4) {
    shape.back() /= 2;
  }
  return shape;
}

std::vector<std::int64_t> scale_shape(WeightFormat format, std::span<const std::int64_t> weight) {
  base::check(weight.size() >= 2, "a quantised weight of shape {}", format_shape(weight));
  std::vector<std::int64_t> shape(weight.begin(), weight.end());
  const BlockShape block = block_shape(format);
  shape.back() = divided_up(shape.back(), block.columns);
  shape[shape.size() - 2] = divided_up(shape[shape.size() - 2], block.rows);
  return shape;
}

bool can_store(WeightFormat format, std::span<const std::int64_t> weight) {
  return format == WeightFormat::kPlain ||
         (weight.size() >= 2 && (format != WeightFormat::kFp4 || weight.back() % block_shape(format).columns == 0));
}

const ModelTensor* find_scales(const ModelDirectory& directory, std::string_view weight) {
  const ModelTensor* scales = weight.ends_with(kWeightSuffix) ? directory.find(scale_name(weight)) : nullptr;
  return scales != nullptr ? scales : directory.find(std::string(weight) + "_scale_inv");
}

std::string scale_name(std::string_view weight) {
  return weight.ends_with(kWeightSuffix)
             ? std::string(weight.substr(0, weight.size() - kWeightSuffix.size())) + ".scale"
             : std::string(weight) + "_scale_inv";
}

void check_scales(const StoredWeight& weight) {
  if (weight.format == WeightFormat::kPlain) {
    return;
  }
  const TensorType type = weight.scales->entry->dtype;
  const std::span<const std::byte> bytes = bytes_of(*weight.scales);
  const auto columns = static_cast<std::size_t>(weight.scales->entry->shape.back());
  for (std::size_t i = 0; i * size_of(type) < bytes.size(); ++i) {
    const float scale = read_scale(type, bytes.data() + i * size_of(type));
    if (!(scale >= 0 && std::isfinite(scale))) {
      const std::string what =
          type == TensorType::kF8E8M0 ? "has the scale byte 255, which is NaN" : fmt::format("has the scale {}", scale);
      fail_for_block(*weight.scales, static_cast<std::int64_t>(i / columns), static_cast<std::int64_t>(i % columns),
                     what);
    }
  }
  release(*weight.scales);
}

void check_values(const StoredWeight& weight) {
  if (weight.format == WeightFormat::kPlain) {
    check_finite(*weight.elements, bytes_of(*weight.elements));
  } else {
    constexpr std::int64_t kPiece = 128;
    const MatrixShape matrix = matrix_shape(weight.shape());
    std::vector<float> values;
    for (std::int64_t row = 0; row < matrix.rows; row += kPiece) {
      const std::int64_t count = std::min(kPiece, matrix.rows - row);
      values.resize(static_cast<std::size_t>(count * matrix.columns));
      read_rows(weight, row, count, values);
    }
    release(*weight.scales);
  }
  release(*weight.elements);
}

void read_rows(const StoredWeight& weight, std::int64_t first, std::int64_t count, std::span<float> values) {
  const MatrixShape matrix = matrix_shape(weight.shape());
  base::check(first >= 0 && count >= 0 && first + count <= matrix.rows &&
                  values.size() == static_cast<std::size_t>(count * matrix.columns),
              "rows {} + {} of {} x {} into {} values", first, count, matrix.rows, matrix.columns, values.size());
  if (weight.format == WeightFormat::kPlain) {
    const auto row_bytes = static_cast<std::size_t>(matrix.columns) * size_of(weight.elements->entry->dtype);
    const auto bytes =
        bytes_of(*weight.elements)
            .subspan(static_cast<std::size_t>(first) * row_bytes, static_cast<std::size_t>(count) * row_bytes);
    try {
      convert_elements(weight.elements->entry->dtype, bytes, DType::kF32, std::as_writable_bytes(values));
    } catch (const base::Error& error) {
      base::fail("{}: the tensor {}: {}", weight.elements->file->path().string(), quote(weight.elements->entry->name),
                 error.what());
    }
    check_finite(*weight.elements, bytes);
    return;
  }
  for (std::int64_t row = 0; row < count;) {
    const Strip strip = strip_at(weight, matrix, first + row, count - row);
    const auto bad = dequantise(strip.shape, strip.elements, strip.scales,
                                values.subspan(static_cast<std::size_t>(row * matrix.columns),
                                               static_cast<std::size_t>(strip.shape.rows * matrix.columns)));
    if (bad.has_value()) {
      check_scales(weight);
      fail_for_block(*weight.elements, strip.block_row, *bad, "has a value that is NaN or too large for f32");
    }
    row += strip.shape.rows;
  }
}

MatrixShape matrix_shape(std::span<const std::int64_t> weight) {
  MatrixShape result{1, weight.size() < 2 ? 1 : weight.back(), 1};
  const std::size_t leading = weight.size() < 2 ? weight.size() : weight.size() - 1;
  for (std::size_t axis = 0; axis < leading; ++axis) {
    result.rows *= weight[axis];
  }
  result.matrix_rows = leading == 0 ? 1 : weight[leading - 1];
  return result;
}

std::int64_t block_row_of(const MatrixShape& weight, WeightFormat format, std::int64_t row) {
  const std::int64_t block_rows = block_shape(format).rows;
  return row / weight.matrix_rows * divided_up(weight.matrix_rows, block_rows) + row % weight.matrix_rows / block_rows;
}

}  // namespace flyover::checkpoint
