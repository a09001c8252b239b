// Safetensors files: reading by memory map, with every claim of the header checked, and writing piece by piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "checkpoint/tensor_type.h"

namespace flyover::checkpoint {

inline constexpr std::size_t kMaximumTensorRank = 8;

/// Name, type and shape of a tensor in a file.
struct TensorSpec {
  std::string name;
  TensorType dtype = TensorType::kF32;
  std::vector<std::int64_t> shape;  ///< row-major, at most kMaximumTensorRank sizes; empty = one element
};

/// A tensor of a file that was read: its bytes are [begin, end) of the file's data.
struct TensorEntry : TensorSpec {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint64_t byte_count() const { return end - begin; }
};

/// Bytes of a tensor that Flyover made. Throws InternalError if they do not fit 63 bits.
std::uint64_t byte_count(const TensorSpec& tensor);

/// A file mapped into memory. Entries and bytes live as long as the file object (or the one it is moved to).
class SafetensorsFile {
 public:
  /// Throws Error naming the file, the tensor, what was found and expected, for whatever is wrong with the file.
  static SafetensorsFile open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  /// By place in the file.
  const std::vector<TensorEntry>& tensors() const { return tensors_; }
  /// The tensor with this name, or null.
  const TensorEntry* find(std::string_view name) const;
  /// The tensor's elements, row-major, little-endian, aligned to one byte only.
  std::span<const std::byte> bytes(const TensorEntry& tensor) const;
  /// Gives back the memory behind a part of `bytes` until it is touched again.
  void release(std::span<const std::byte> part) const { file_.release(part); }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  std::filesystem::path path_;
  base::MappedFile file_;
  std::vector<TensorEntry> tensors_;
  std::vector<std::size_t> by_name_;  ///< indices into tensors_
  std::map<std::string, std::string> metadata_;
  std::uint64_t data_begin_ = 0;
};

/// The order in which the library of the format writes tensors: larger elements first (each tensor then starts at a
/// multiple of its element size), then by name. Readers do not require it.
void sort_for_writing(std::vector<TensorSpec>& tensors);

/// Bytes of the whole file that SafetensorsWriter writes.
std::uint64_t safetensors_file_bytes(std::span<const TensorSpec> tensors,
                                     const std::map<std::string, std::string>& metadata);

/// Writes a file without ever holding it: the header first, then the bytes of each tensor in the order of the list, in
/// pieces of any size. The same input gives the same bytes; the data begin at a multiple of 64 bytes.
class SafetensorsWriter {
 public:
  /// Throws Error if the file cannot be created or the header is too large.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorSpec> tensors,
                    const std::map<std::string, std::string>& metadata);

  /// Appends to the tensor `name`, whose turn it must be. Throws Error with the system's reason (disk full, ...).
  void write(std::string_view name, std::span<const std::byte> piece);
  /// Makes the file visible under its name; every tensor must be complete. Without it nothing is left.
  void commit();

 private:
  void skip_complete_tensors();

  std::vector<TensorSpec> tensors_;
  base::FileWriter file_;
  std::size_t current_ = 0;    ///< index into tensors_ of the one being written
  std::uint64_t written_ = 0;  ///< bytes of the current tensor
};

}  // namespace flyover::checkpoint
