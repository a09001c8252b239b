#include "checkpoint/remembered_scales.h"

#include <algorithm>
#include <set>
#include <system_error>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"

namespace flyover::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFp4 = "fp4", kFp8 = "fp8";
constexpr std::uint8_t kNoScale = 255;

auto first_at(const RememberedScales& remembered, std::int64_t place) {
  return std::lower_bound(remembered.blocks.begin(), remembered.blocks.end(), place,
                          [](const auto& block, std::int64_t value) { return block.first < value; });
}

RememberedScales parse_weight(const base::Json& value, std::string_view name, std::string_view source) {
  RememberedScales remembered;
  const auto wrong = [&] {
    base::fail("{}: weights.{}: expected {{\"fp4\" or \"fp8\": [block, scale, block, scale, ...]}} with rising blocks",
               source, name);
  };
  if (!value.is_object() || value.size() != 1 || (!value.contains(kFp4) && !value.contains(kFp8))) {
    wrong();
  }
  remembered.format = value.contains(kFp4) ? WeightFormat::kFp4 : WeightFormat::kFp8;
  const base::Json& numbers = value.begin().value();
  if (!numbers.is_array() || numbers.size() % 2 != 0) {
    wrong();
  }
  std::int64_t last = -1;
  for (std::size_t i = 0; i < numbers.size(); i += 2) {
    if (!numbers[i].is_number_unsigned() || !numbers[i + 1].is_number_unsigned()) {
      wrong();
    }
    const auto place = numbers[i].get<std::int64_t>();
    const auto scale = numbers[i + 1].get<std::uint64_t>();
    if (place <= last || scale >= kNoScale) {
      wrong();
    }
    remembered.blocks.emplace_back(place, static_cast<std::uint8_t>(scale));
    last = place;
  }
  return remembered;
}

}  // namespace

std::string scales_file(std::string_view weights_file) {
  return fs::path(weights_file).replace_extension(".scales.json").string();
}

std::string format_scales(const ScaleMemory& memory) {
  std::string text = "{\"weights\": {";
  for (const auto& [name, remembered] : memory) {
    if (remembered.blocks.empty()) {
      continue;
    }
    text += fmt::format("{}\n{}: {{\"{}\": [", text.back() == '{' ? "" : ",", base::Json(name).dump(),
                        remembered.format == WeightFormat::kFp4 ? kFp4 : kFp8);
    for (const auto& [place, scale] : remembered.blocks) {
      text += fmt::format("{}{}, {}", text.back() == '[' ? "" : ", ", place, scale);
    }
    text += "]}";
  }
  return text + "}}\n";
}

ScaleMemory parse_scales(std::string_view text, std::string_view source) {
  const base::Json json = base::parse_json(text, source);
  const base::Json* const weights = base::find_member(json, "weights", source);
  base::require(weights != nullptr && weights->is_object(), "{}: expected an object \"weights\"", source);
  ScaleMemory memory;
  for (const auto& [name, value] : weights->items()) {
    memory[name] = parse_weight(value, name, source);
  }
  return memory;
}

std::vector<fs::path> scales_files(const ModelDirectory& directory) {
  std::set<fs::path> files;
  for (const ModelTensor& tensor : directory.tensors()) {
    const fs::path file = scales_file(tensor.file->path().string());
    std::error_code error;
    if (fs::exists(file, error)) {
      files.insert(file);
    }
  }
  return {files.begin(), files.end()};
}

ScaleMemory read_scales(const ModelDirectory& directory) {
  ScaleMemory memory;
  for (const fs::path& file : scales_files(directory)) {
    memory.merge(parse_scales(base::read_file(file), file.string()));
  }
  return memory;
}

bool remember_scales(const StoredWeight& weight, std::int64_t first, std::int64_t count, std::int64_t target,
                     std::int64_t most, RememberedScales& remembered) {
  const MatrixShape matrix = matrix_shape(weight.shape());
  const std::int64_t block_rows = block_shape(weight.format).rows;
  const std::int64_t matrix_blocks = (matrix.matrix_rows + block_rows - 1) / block_rows;
  const std::span<const std::byte> scales = bytes_of(*weight.scales);
  remembered.format = weight.format;
  std::vector<float> values;
  std::vector<std::byte> chosen;
  for (std::int64_t row = first; row < first + count;) {
    const std::int64_t inside = row % matrix.matrix_rows, begin = row - inside % block_rows;
    const std::int64_t rows = std::min(block_rows, matrix.matrix_rows - (begin % matrix.matrix_rows));
    const BlockRow shape{weight.format, TensorType::kF8E8M0, rows, matrix.columns};
    values.resize(static_cast<std::size_t>(rows * matrix.columns));
    chosen.resize(shape.scale_bytes());
    read_rows(weight, begin, rows, values);
    const bool all_finite = !quantise(shape, values, {}, {}, chosen).has_value();
    const std::int64_t block_row = row / matrix.matrix_rows * matrix_blocks + inside / block_rows;
    for (std::size_t i = 0; all_finite && i < chosen.size(); ++i) {
      const std::byte stored = scales[static_cast<std::size_t>(block_row) * chosen.size() + i];
      if (stored != chosen[i]) {
        remembered.blocks.emplace_back(
            (target + row - first) * static_cast<std::int64_t>(chosen.size()) + static_cast<std::int64_t>(i),
            static_cast<std::uint8_t>(stored));
      }
    }
    if (static_cast<std::int64_t>(remembered.blocks.size()) > most) {
      return false;
    }
    row = begin + rows;
  }
  return true;
}

void move_scales(const RememberedScales& from, std::int64_t blocks_in_row, std::int64_t first, std::int64_t count,
                 std::int64_t target, RememberedScales& to) {
  to.format = from.format;
  for (auto block = first_at(from, first * blocks_in_row);
       block != from.blocks.end() && block->first < (first + count) * blocks_in_row; ++block) {
    to.blocks.emplace_back(block->first + (target - first) * blocks_in_row, block->second);
  }
}

std::vector<std::byte> scales_of_row(const RememberedScales& remembered, std::int64_t row, std::int64_t blocks_in_row) {
  std::vector<std::byte> scales;
  const std::int64_t begin = row * blocks_in_row;
  for (auto block = first_at(remembered, begin);
       block != remembered.blocks.end() && block->first < begin + blocks_in_row; ++block) {
    scales.resize(static_cast<std::size_t>(blocks_in_row), std::byte{kNoScale});
    scales[static_cast<std::size_t>(block->first - begin)] = std::byte{block->second};
  }
  return scales;
}

}  // namespace flyover::checkpoint
