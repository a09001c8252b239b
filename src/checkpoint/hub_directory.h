// Reading a Hugging Face model directory: config.json and the tensors of model.safetensors or of its shards. What the
// keys and names mean is known to the model families, not here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "checkpoint/safetensors.h"

namespace flyover::checkpoint {

/// A tensor of a model directory and the file that holds it.
struct ModelTensor {
  const SafetensorsFile* file = nullptr;
  const TensorEntry* entry = nullptr;
};

/// An open model directory; files are mapped, pages are read when touched. Movable; what it hands out stays valid.
class ModelDirectory {
 public:
  /// Throws Error if anything is missing, damaged or contradictory: every tensor of the index must be in its shard, and
  /// every tensor of a shard in the index.
  static ModelDirectory open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  /// config.json, an object, with all keys in the file's order.
  const base::Json& config() const { return *config_; }
  /// Sorted by name.
  const std::vector<ModelTensor>& tensors() const { return tensors_; }
  /// The tensor with this name, or null.
  const ModelTensor* find(std::string_view name) const;
  /// Row-major elements, little-endian, aligned to one byte only. Throws Error if there is no such tensor.
  std::span<const std::byte> bytes(std::string_view name) const;
  /// Bytes of all tensors.
  std::uint64_t total_bytes() const;

 private:
  void open_single_file();
  void open_shards();
  void add_tensors(const SafetensorsFile& file);

  std::filesystem::path path_;
  std::shared_ptr<const base::Json> config_;
  std::vector<SafetensorsFile> files_;
  std::vector<ModelTensor> tensors_;
};

/// Bytes of a tensor's elements, as they are in the file.
std::span<const std::byte> bytes_of(const ModelTensor& tensor);
/// Gives back the memory behind them until they are touched again.
void release(const ModelTensor& tensor);

/// Throws Error naming file, tensor and element unless the elements in these bytes, a part of bytes_of(tensor), are
/// finite (see first_non_finite).
void check_finite(const ModelTensor& tensor, std::span<const std::byte> part);

/// A tensor's elements as f32 or bf16 (see convert_elements); `destination` has the elements' exact size. Throws Error
/// naming file and tensor for a type that cannot be converted, and as check_finite does.
void read_elements(const ModelTensor& tensor, kernels::DType to, std::span<std::byte> destination);

}  // namespace flyover::checkpoint
