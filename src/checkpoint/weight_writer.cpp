#include "checkpoint/weight_writer.h"

#include <algorithm>

#include "base/error.h"
#include "checkpoint/json_events.h"

namespace flyover::checkpoint {
namespace {

/// Elements that are held at once, unless a row of blocks has more.
constexpr std::int64_t kElementsAtOnce = std::int64_t{1} << 20;

bool same_shape(std::span<const std::int64_t> a, std::span<const std::int64_t> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

/// Rows that are read at once: whole rows of blocks, within one matrix.
std::int64_t rows_at_once(std::int64_t columns, std::int64_t block_rows) {
  const std::int64_t rows = kElementsAtOnce / std::max<std::int64_t>(columns, 1);
  return std::max(rows / block_rows, std::int64_t{1}) * block_rows;
}

void write_plain(const WeightSource& source, TensorType type, const PieceWriter& write) {
  const MatrixShape matrix = matrix_shape(source.shape);
  const std::int64_t step = rows_at_once(matrix.columns, 1);
  std::vector<float> values;
  std::vector<std::byte> bytes;
  for (std::int64_t row = 0; row < matrix.rows; row += step) {
    const std::int64_t count = std::min(step, matrix.rows - row);
    values.resize(static_cast<std::size_t>(count * matrix.columns));
    source.rows(row, count, values);
    bytes.resize(values.size() * size_of(type));
    convert_elements(kernels::DType::kF32, std::as_bytes(std::span(values)), type, bytes);
    write(bytes);
  }
}

/// Quantises row of blocks after row of blocks and collects the bytes of one part.
class PartWriter {
 public:
  PartWriter(const WeightSource& source, const WeightStorage& storage, WeightPart part)
      : source_(source), storage_(storage), part_(part) {
    if (source.kept.has_value() && source.kept->format == storage.format &&
        source.kept->scales->entry->dtype == storage.scales && same_shape(source.kept->shape(), source.shape)) {
      kept_ = bytes_of(*source.kept->scales);
    }
  }

  /// Appends the part's bytes for the next row of blocks, which begins with row `first` of the weight.
  void append(std::span<const float> values, std::int64_t first, std::int64_t rows, std::int64_t columns) {
    const BlockRow shape{storage_.format, storage_.scales, rows, columns};
    const bool wants_scales = part_ == WeightPart::kScales;
    const std::size_t size = wants_scales ? shape.scale_bytes() : static_cast<std::size_t>(shape.element_bytes());
    const std::size_t begin = bytes_.size();
    bytes_.resize(begin + size);
    const std::span<std::byte> place = std::span(bytes_).subspan(begin);
    const RememberedScales* const memory = source_.remembered;
    std::vector<std::byte> remembered;
    std::span<const std::byte> kept;
    if (!kept_.empty()) {
      kept = kept_.subspan(static_cast<std::size_t>(block_row_) * shape.scale_bytes(), shape.scale_bytes());
    } else if (memory != nullptr && memory->format == storage_.format && storage_.scales == TensorType::kF8E8M0) {
      remembered = scales_of_row(*memory, first, shape.scale_count());
      kept = remembered;
    }
    const auto bad = quantise(shape, values, kept, wants_scales ? std::span<std::byte>() : place,
                              wants_scales ? place : std::span<std::byte>());
    if (bad.has_value()) {
      base::fail(
          "the weight {}: block [{}, {}] holds a value that is not finite or too large: it cannot be stored as {}",
          quote(source_.name), block_row_, *bad, name_of(storage_.format));
    }
    ++block_row_;
  }

  void flush(const PieceWriter& write) {
    write(bytes_);
    bytes_.clear();
  }

 private:
  const WeightSource& source_;
  const WeightStorage& storage_;
  WeightPart part_;
  std::span<const std::byte> kept_;
  std::vector<std::byte> bytes_;
  std::int64_t block_row_ = 0;
};

void write_quantised(const WeightSource& source, const WeightStorage& storage, WeightPart part,
                     const PieceWriter& write) {
  base::require(can_store(storage.format, source.shape), "the weight {} {} cannot be stored as {}{}",
                quote(source.name), format_shape(source.shape), name_of(storage.format),
                storage.format == WeightFormat::kFp4 ? ": it needs columns in multiples of 32" : "");
  const MatrixShape matrix = matrix_shape(source.shape);
  const std::int64_t block_rows = block_shape(storage.format).rows;
  const std::int64_t step = rows_at_once(matrix.columns, block_rows);
  PartWriter writer(source, storage, part);
  std::vector<float> values;
  for (std::int64_t first = 0; first < matrix.rows;) {
    const std::int64_t count = std::min(step, matrix.matrix_rows - first % matrix.matrix_rows);
    values.resize(static_cast<std::size_t>(count * matrix.columns));
    source.rows(first, count, values);
    for (std::int64_t row = 0; row < count; row += block_rows) {
      const std::int64_t rows = std::min(block_rows, count - row);
      writer.append(std::span(values).subspan(static_cast<std::size_t>(row * matrix.columns),
                                              static_cast<std::size_t>(rows * matrix.columns)),
                    first + row, rows, matrix.columns);
    }
    writer.flush(write);
    first += count;
  }
}

}  // namespace

WeightStorage quantised_storage(const std::string& weight, models::ReleasedAs stored) {
  switch (stored) {
    case models::ReleasedAs::kFp4:
      return {WeightFormat::kFp4, TensorType::kI8, TensorType::kF8E8M0, scale_name(weight)};
    case models::ReleasedAs::kFp8:
      return {WeightFormat::kFp8, TensorType::kF8E4M3, TensorType::kF8E8M0, scale_name(weight)};
    case models::ReleasedAs::kFp8WithF32Scales:
      return {WeightFormat::kFp8, TensorType::kF8E4M3, TensorType::kF32, weight + "_scale_inv"};
    case models::ReleasedAs::kFp8WithBf16Scales:
      return {WeightFormat::kFp8, TensorType::kF8E4M3, TensorType::kBf16, weight + "_scale_inv"};
    default:
      throw base::InternalError(fmt::format("the weight {} is not published quantised", weight));
  }
}

bool is_quantised(models::ReleasedAs stored) {
  using models::ReleasedAs;
  return stored == ReleasedAs::kFp8 || stored == ReleasedAs::kFp8WithF32Scales ||
         stored == ReleasedAs::kFp8WithBf16Scales || stored == ReleasedAs::kFp4;
}

std::optional<StoredWeight> find_weight(const ModelDirectory& directory, std::string_view name,
                                        std::span<const std::int64_t> shape) {
  const ModelTensor* elements = directory.find(name);
  if (elements == nullptr) {
    return std::nullopt;
  }
  StoredWeight weight{format_of(elements->entry->dtype), elements, nullptr};
  if (weight.format == WeightFormat::kPlain) {
    return same_shape(elements->entry->shape, shape) ? std::optional(weight) : std::nullopt;
  }
  weight.scales = find_scales(directory, name);
  const bool fits = weight.scales != nullptr && can_store(weight.format, shape) &&
                    same_shape(elements->entry->shape, element_shape(weight.format, shape)) &&
                    same_shape(weight.scales->entry->shape, scale_shape(weight.format, shape)) &&
                    is_scale_type(weight.format, weight.scales->entry->dtype);
  return fits ? std::optional(weight) : std::nullopt;
}

WeightStorage storage_of(const StoredWeight& weight) {
  WeightStorage storage{weight.format, weight.elements->entry->dtype, TensorType::kF8E8M0, ""};
  if (weight.scales != nullptr) {
    storage.scales = weight.scales->entry->dtype;
    storage.scales_name = weight.scales->entry->name;
  }
  return storage;
}

TensorSpec part_spec(const std::string& weight, const std::vector<std::int64_t>& shape, const WeightStorage& storage,
                     WeightPart part) {
  if (part == WeightPart::kScales) {
    return {storage.scales_name, storage.scales, scale_shape(storage.format, shape)};
  }
  return {weight, storage.elements, element_shape(storage.format, shape)};
}

std::vector<TensorSpec> released_tensors(std::span<const models::ReleasedWeight> weights) {
  using models::ReleasedAs;
  std::vector<TensorSpec> tensors;
  for (const models::ReleasedWeight& weight : weights) {
    const auto sizes = weight.shape.values();
    const std::vector<std::int64_t> shape(sizes.begin(), sizes.end());
    if (is_quantised(weight.stored)) {
      const WeightStorage storage = quantised_storage(weight.name, weight.stored);
      tensors.push_back(part_spec(weight.name, shape, storage, WeightPart::kScales));
      tensors.push_back(part_spec(weight.name, shape, storage, WeightPart::kElements));
    } else {
      const TensorType type = weight.stored == ReleasedAs::kF32   ? TensorType::kF32
                              : weight.stored == ReleasedAs::kI64 ? TensorType::kI64
                                                                  : TensorType::kBf16;
      tensors.push_back({weight.name, type, shape});
    }
  }
  return tensors;
}

void write_part(const WeightSource& source, const WeightStorage& storage, WeightPart part, const PieceWriter& write) {
  if (storage.format == WeightFormat::kPlain) {
    write_plain(source, storage.elements, write);
  } else {
    write_quantised(source, storage, part, write);
  }
}

}  // namespace flyover::checkpoint
