#include "checkpoint/safetensors.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "checkpoint/safetensors_header.h"

namespace flyover::checkpoint {

std::uint64_t byte_count(const TensorSpec& tensor) {
  const std::optional<std::uint64_t> bytes = tensor_bytes(tensor.dtype, tensor.shape);
  base::check(bytes.has_value(), "the tensor \"{}\" has the impossible shape {}", tensor.name,
              format_shape(tensor.shape));
  return *bytes;
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile result;
  result.path_ = path;
  result.file_ = base::MappedFile(path);
  SafetensorsHeader header = parse_safetensors_header(result.file_.bytes(), path.string());
  result.tensors_ = std::move(header.tensors);
  result.metadata_ = std::move(header.metadata);
  result.data_begin_ = header.data_begin;
  result.by_name_.resize(result.tensors_.size());
  std::iota(result.by_name_.begin(), result.by_name_.end(), std::size_t{0});
  std::sort(result.by_name_.begin(), result.by_name_.end(),
            [&](std::size_t a, std::size_t b) { return result.tensors_[a].name < result.tensors_[b].name; });
  return result;
}

const TensorEntry* SafetensorsFile::find(std::string_view name) const {
  const auto found =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [&](std::size_t index, std::string_view key) { return tensors_[index].name < key; });
  return found == by_name_.end() || tensors_[*found].name != name ? nullptr : &tensors_[*found];
}

std::span<const std::byte> SafetensorsFile::bytes(const TensorEntry& tensor) const {
  base::check(tensor.begin <= tensor.end && tensor.end <= file_.bytes().size() - data_begin_,
              "{}: the tensor \"{}\" is not of this file", path_.string(), tensor.name);
  return file_.bytes().subspan(data_begin_ + tensor.begin, tensor.byte_count());
}

void sort_for_writing(std::vector<TensorSpec>& tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorSpec& a, const TensorSpec& b) {
    const std::size_t size_a = size_of(a.dtype);
    const std::size_t size_b = size_of(b.dtype);
    return size_a != size_b ? size_a > size_b : a.name < b.name;
  });
}

std::uint64_t safetensors_file_bytes(std::span<const TensorSpec> tensors,
                                     const std::map<std::string, std::string>& metadata) {
  std::uint64_t bytes = format_safetensors_header(tensors, metadata).size();
  for (const TensorSpec& tensor : tensors) {
    bytes += byte_count(tensor);
  }
  return bytes;
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorSpec> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : tensors_(std::move(tensors)), file_(path) {
  file_.write(format_safetensors_header(tensors_, metadata));
  skip_complete_tensors();
}

void SafetensorsWriter::write(std::string_view name, std::span<const std::byte> piece) {
  if (piece.empty()) {
    return;
  }
  base::check(current_ < tensors_.size(), "the tensor \"{}\" is written after the last one", name);
  const TensorSpec& tensor = tensors_[current_];
  base::check(tensor.name == name, "the tensor \"{}\" is written where \"{}\" must follow", name, tensor.name);
  base::check(piece.size() <= byte_count(tensor) - written_, "{} bytes more than the {} of the tensor \"{}\"",
              piece.size() - (byte_count(tensor) - written_), byte_count(tensor), name);
  file_.write(piece);
  written_ += piece.size();
  skip_complete_tensors();
}

void SafetensorsWriter::skip_complete_tensors() {
  while (current_ < tensors_.size() && written_ == byte_count(tensors_[current_])) {
    ++current_;
    written_ = 0;
  }
}

void SafetensorsWriter::commit() {
  base::check(current_ == tensors_.size(), "a safetensors file is committed without all of the tensor \"{}\"",
              current_ == tensors_.size() ? "" : tensors_[current_].name);
  file_.commit();
}

}  // namespace flyover::checkpoint
