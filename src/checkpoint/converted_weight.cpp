#include "checkpoint/converted_weight.h"

#include <algorithm>

namespace flyover::checkpoint {
namespace {

/// Blocks in a row of a weight, if it were stored so.
std::int64_t blocks_in_row(const std::vector<std::int64_t>& shape, WeightFormat format) {
  const std::int64_t columns = block_shape(format).columns;
  return (matrix_shape(shape).columns + columns - 1) / columns;
}

/// What the source remembers of the rows of a weight.
RememberedScales remembered_of(const ConvertedWeight& weight, DirectoryScales& known) {
  RememberedScales result;
  std::int64_t begin = 0;
  for (const SourceRows& rows : weight.rows) {
    const bool plain = rows.weight.format == WeightFormat::kPlain;
    if (const RememberedScales* const scales = plain ? known.find(*rows.weight.elements) : nullptr) {
      move_scales(*scales, blocks_in_row(weight.shape, scales->format), rows.first, rows.count, begin, result);
    }
    begin += rows.count;
  }
  return result;
}

/// The bytes of some rows of a tensor that has `rows` in all.
std::span<const std::byte> row_bytes(const ModelTensor& tensor, std::int64_t rows, std::int64_t first,
                                     std::int64_t count) {
  const std::span<const std::byte> bytes = bytes_of(tensor);
  const std::size_t row = bytes.size() / static_cast<std::size_t>(std::max<std::int64_t>(rows, 1));
  return bytes.subspan(static_cast<std::size_t>(first) * row, static_cast<std::size_t>(count) * row);
}

/// A row of FP8 blocks of the source.
struct SourceBlocks {
  const StoredWeight* weight = nullptr;
  std::int64_t row = 0;  ///< see block_row_of
};

/// For each row of FP8 blocks of the result, the one of the source that holds all of its rows; nothing if one of them
/// has rows of several.
std::optional<std::vector<SourceBlocks>> source_blocks(const ConvertedWeight& weight) {
  constexpr WeightFormat kFormat = WeightFormat::kFp8;
  const MatrixShape matrix = matrix_shape(weight.shape);
  std::vector<SourceBlocks> result;
  auto rows = weight.rows.begin();
  std::int64_t begin = 0;  // of `rows`, in rows of the result
  for (std::int64_t first = 0, end = 0; first < matrix.rows; first = end) {
    const std::int64_t inside = first % matrix.matrix_rows;
    end = first + std::min(block_shape(kFormat).rows, matrix.matrix_rows - inside);
    for (; first >= begin + rows->count; ++rows) {
      begin += rows->count;
    }
    const MatrixShape source = matrix_shape(rows->weight.shape());
    const std::int64_t block_row = block_row_of(source, kFormat, rows->first + first - begin);
    if (end > begin + rows->count || block_row_of(source, kFormat, rows->first + end - 1 - begin) != block_row) {
      return std::nullopt;
    }
    result.push_back({&rows->weight, block_row});
  }
  return result;
}

/// Whether scales of one type can be written in another without loss.
bool holds_scales(TensorType wide, TensorType narrow) {
  return wide == narrow || wide == TensorType::kF32 || (wide == TensorType::kBf16 && narrow == TensorType::kF8E8M0);
}

/// Whether the bytes of the sources, one after the other, are those of the result; of FP8 scales, a row for each row of
/// blocks, in the result's type. Rows of FP4 are independent of each other, those of an FP8 block are not.
bool copies_bytes(const ConvertedWeight& weight) {
  const bool same = std::all_of(weight.rows.begin(), weight.rows.end(), [&](const SourceRows& rows) {
    const WeightStorage from = storage_of(rows.weight);
    return from.format == weight.storage.format && from.elements == weight.storage.elements &&
           holds_scales(weight.storage.scales, from.scales);
  });
  return same && (weight.storage.format != WeightFormat::kFp8 || source_blocks(weight).has_value());
}

void copy_fp8_scales(const ConvertedWeight& weight, const PieceWriter& write) {
  const std::optional<std::vector<SourceBlocks>> rows = source_blocks(weight);
  for (const SourceBlocks& blocks : rows.value()) {
    const TensorEntry& entry = *blocks.weight->scales->entry;
    const auto stored = row_bytes(*blocks.weight->scales, matrix_shape(entry.shape).rows, blocks.row, 1);
    if (entry.dtype == weight.storage.scales) {
      write(stored);
      continue;
    }
    std::vector<float> scales;
    for (std::size_t place = 0; place < stored.size(); place += size_of(entry.dtype)) {
      scales.push_back(read_scale(entry.dtype, stored.data() + place));
    }
    std::vector<std::byte> bytes(scales.size() * size_of(weight.storage.scales));
    convert_elements(kernels::DType::kF32, std::as_bytes(std::span(scales)), weight.storage.scales, bytes);
    write(bytes);
  }
}

void copy_bytes(const SourceRows& rows, WeightPart part, const PieceWriter& write) {
  constexpr std::size_t kPiece = std::size_t{4} << 20;
  const ModelTensor& tensor = part == WeightPart::kScales ? *rows.weight.scales : *rows.weight.elements;
  const std::span<const std::byte> bytes =
      row_bytes(tensor, matrix_shape(rows.weight.shape()).rows, rows.first, rows.count);
  for (std::size_t begin = 0; begin < bytes.size(); begin += kPiece) {
    const auto piece = bytes.subspan(begin, std::min(kPiece, bytes.size() - begin));
    if (part == WeightPart::kElements) {
      check_finite(tensor, piece);
    }
    write(piece);
    tensor.file->release(piece);
  }
}

/// Rows [first, first + count) of the result.
void read_converted_rows(const ConvertedWeight& weight, std::int64_t first, std::int64_t count,
                         std::span<float> values) {
  const auto columns = static_cast<std::size_t>(matrix_shape(weight.shape).columns);
  std::int64_t begin = 0;  // of the source's rows, in rows of the result
  for (const SourceRows& rows : weight.rows) {
    const std::int64_t from = std::max(first, begin), to = std::min(first + count, begin + rows.count);
    if (from < to) {
      const std::int64_t place = rows.first + from - begin;
      read_rows(rows.weight, place, to - from,
                values.subspan(static_cast<std::size_t>(from - first) * columns,
                               static_cast<std::size_t>(to - from) * columns));
      const ModelTensor& elements = *rows.weight.elements;
      elements.file->release(row_bytes(elements, matrix_shape(rows.weight.shape()).rows, place, to - from));
    }
    begin += rows.count;
  }
}

void release_scales(const ConvertedWeight& weight) {
  for (const SourceRows& rows : weight.rows) {
    if (rows.weight.scales != nullptr) {
      release(*rows.weight.scales);
    }
  }
  if (weight.kept.has_value()) {
    release(*weight.kept->scales);
  }
}

}  // namespace

bool mixes_fp8_blocks(const ConvertedWeight& weight) {
  const bool fp8 = std::any_of(weight.rows.begin(), weight.rows.end(),
                               [](const SourceRows& rows) { return rows.weight.format == WeightFormat::kFp8; });
  return fp8 && weight.storage.format == WeightFormat::kFp8 && !source_blocks(weight).has_value();
}

bool loses_scales(const ConvertedWeight& weight, const DirectoryScales& known) {
  return weight.storage.format == WeightFormat::kPlain &&
         std::any_of(weight.rows.begin(), weight.rows.end(), [&](const SourceRows& rows) {
           return rows.weight.scales == nullptr ? known.has_file(*rows.weight.elements)
                                                : rows.weight.scales->entry->dtype == TensorType::kF8E8M0;
         });
}

std::optional<RememberedScales> lost_scales(const ConvertedWeight& weight, DirectoryScales& known, std::int64_t most) {
  RememberedScales result = remembered_of(weight, known);
  std::int64_t begin = 0;
  for (const SourceRows& rows : weight.rows) {
    if (rows.weight.scales != nullptr && rows.weight.scales->entry->dtype == TensorType::kF8E8M0) {
      const bool all = remember_scales(rows.weight, rows.first, rows.count, begin, most, result);
      release(*rows.weight.elements);
      release(*rows.weight.scales);
      if (!all) {
        return std::nullopt;
      }
    }
    begin += rows.count;
  }
  std::sort(result.blocks.begin(), result.blocks.end());
  return static_cast<std::int64_t>(result.blocks.size()) > most ? std::nullopt : std::optional(std::move(result));
}

void write_converted(const ConvertedWeight& weight, WeightPart part, DirectoryScales& known, const PieceWriter& write) {
  if (copies_bytes(weight)) {
    if (part == WeightPart::kScales && weight.storage.format == WeightFormat::kFp8) {
      copy_fp8_scales(weight, write);
      release_scales(weight);
      return;
    }
    for (const SourceRows& rows : weight.rows) {
      copy_bytes(rows, part, write);
    }
    return;
  }
  RememberedScales remembered;
  if (weight.storage.format != WeightFormat::kPlain && !weight.kept.has_value()) {
    remembered = remembered_of(weight, known);
  }
  WeightSource source{weight.name, weight.shape, {}, weight.kept, &remembered};
  source.rows = [&](std::int64_t first, std::int64_t count, std::span<float> values) {
    read_converted_rows(weight, first, count, values);
  };
  write_part(source, weight.storage, part, write);
  release_scales(weight);
}

}  // namespace flyover::checkpoint
