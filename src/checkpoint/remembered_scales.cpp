#include "checkpoint/remembered_scales.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "checkpoint/json_events.h"

namespace flyover::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFp4 = "fp4", kFp8 = "fp8";
constexpr std::uint8_t kNoScale = 255;

auto first_at(const RememberedScales& remembered, std::int64_t place) {
  return std::lower_bound(remembered.blocks.begin(), remembered.blocks.end(), place,
                          [](const auto& block, std::int64_t value) { return block.first < value; });
}

/// Collects {"weights": {name: {"fp4" or "fp8": [block, scale, block, scale, ...]}}}.
class ScalesEvents : public JsonEvents {
 public:
  ScalesEvents(std::string source, ScaleMemory& memory) : JsonEvents(std::move(source)), memory_(memory) {}

  bool start_object(std::size_t) override {
    if (depth_ >= kInWeight) {
      unexpected("an object");
    }
    ++depth_;
    return true;
  }

  bool end_object() override {
    if (depth_ == kInWeight && scales_->format == WeightFormat::kPlain) {
      unexpected("no scales");
    }
    if (depth_ == 1 && !has_weights_) {
      unexpected("no \"weights\"");
    }
    --depth_;
    return true;
  }

  bool key(string_t& text) override {
    if (depth_ == 1 && text == "weights" && !has_weights_) {
      has_weights_ = true;
    } else if (depth_ == 2 && !memory_.contains(text)) {
      scales_ = &memory_[text];
      name_ = text;
    } else if (depth_ == kInWeight && scales_->format == WeightFormat::kPlain && (text == kFp4 || text == kFp8)) {
      scales_->format = text == kFp4 ? WeightFormat::kFp4 : WeightFormat::kFp8;
    } else {
      unexpected("the key " + quote(text));
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (depth_ != kInWeight) {
      unexpected("an array");
    }
    ++depth_;
    place_.reset();
    return true;
  }

  bool end_array() override {
    if (place_.has_value()) {
      unexpected("a block without its scale");
    }
    --depth_;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    const std::int64_t last = depth_ <= kInWeight || scales_->blocks.empty() ? -1 : scales_->blocks.back().first;
    const bool fits = place_.has_value() ? value < kNoScale : std::in_range<std::int64_t>(value);
    if (depth_ <= kInWeight || !fits || (!place_.has_value() && static_cast<std::int64_t>(value) <= last)) {
      unexpected(fmt::format("the number {}", value));
    }
    if (place_.has_value()) {
      scales_->blocks.emplace_back(*place_, static_cast<std::uint8_t>(value));
      place_.reset();
    } else {
      place_ = static_cast<std::int64_t>(value);
    }
    return true;
  }

 protected:
  std::string expectation() const override {
    return fmt::format(
        "weights.{}: expected {{\"fp4\" or \"fp8\": [block, scale, block, scale, ...]}} with rising blocks", name_);
  }

 private:
  static constexpr int kInWeight = 3;  ///< open objects within the one of a weight

  ScaleMemory& memory_;
  int depth_ = 0;  ///< objects and arrays that are open
  bool has_weights_ = false;
  std::string name_;
  RememberedScales* scales_ = nullptr;
  std::optional<std::int64_t> place_;  ///< waits for its scale
};

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
  ScaleMemory memory;
  ScalesEvents events{std::string(source), memory};
  read_json_events(text, events);
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

namespace {

ScaleMemory read_scales(const fs::path& file) {
  return parse_scales(base::read_file(file), file.string());
}

}  // namespace

DirectoryScales::DirectoryScales(const ModelDirectory& directory) {
  const std::vector<fs::path> paths = scales_files(directory);
  files_.insert(paths.begin(), paths.end());
}

bool DirectoryScales::has_file(const ModelTensor& weight) const {
  return files_.contains(scales_file(weight.file->path().string()));
}

const RememberedScales* DirectoryScales::find(const ModelTensor& weight) {
  const fs::path file = scales_file(weight.file->path().string());
  if (!files_.contains(file)) {
    return nullptr;
  }
  auto known = std::find_if(read_.begin(), read_.end(), [&](const auto& entry) { return entry.first == file; });
  if (known == read_.end()) {
    if (read_.size() == kMostRead) {
      read_.pop_front();
    }
    read_.emplace_back(file, read_scales(file));
    known = std::prev(read_.end());
  }
  const auto found = known->second.find(weight.entry->name);
  return found == known->second.end() ? nullptr : &found->second;
}

void DirectoryScales::check() const {
  for (const fs::path& file : files_) {
    read_scales(file);
  }
}

bool remember_scales(const StoredWeight& weight, std::int64_t first, std::int64_t count, std::int64_t target,
                     std::int64_t most, RememberedScales& remembered) {
  const MatrixShape matrix = matrix_shape(weight.shape());
  const std::int64_t block_rows = block_shape(weight.format).rows;
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
    const std::int64_t block_row = block_row_of(matrix, weight.format, row);
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
