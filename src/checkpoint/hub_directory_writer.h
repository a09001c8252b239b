// Writing a Hugging Face model directory that other programs load: all of it or nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/safetensors.h"

namespace flyover::checkpoint {

/// Takes the next bytes of the tensor that is being written.
using PieceWriter = std::function<void(std::span<const std::byte>)>;

/// What a model directory is made of.
struct ModelDirectoryContents {
  /// In the order in which they fill the shards. Names differ.
  std::vector<TensorSpec> tensors;
  /// Called once a tensor, one at a time: hands all of its bytes to the writer, in pieces of any size.
  std::function<void(const TensorSpec&, const PieceWriter&)> write_tensor;
  /// Tensor bytes of one file; a single larger tensor gets a file of its own.
  std::uint64_t max_shard_bytes = 5'000'000'000;
  /// Where tokenizer, chat template and generation settings are copied from (see kCompanionFiles), if anywhere.
  std::optional<std::filesystem::path> tokenizer_source;
  /// File name -> contents, instead of or in addition to the copied ones.
  std::map<std::string, std::string> extra_files;
  /// Called with the finished directory before it takes its name; what it throws leaves the old state.
  std::function<void(const std::filesystem::path&)> verify = {};
};

/// `target` as an absolute path without "." and ".." and without a slash at its end. Throws Error if no name is left.
std::filesystem::path model_directory_path(const std::filesystem::path& target);

/// Bytes that the directory will take, without what the file system adds. Throws Error if a file to copy cannot be
/// read.
std::uint64_t required_bytes(const base::Json& config, const ModelDirectoryContents& contents);

/// Throws Error saying how much is missing if the file system of `path` has fewer bytes free.
void require_disk_space(const std::filesystem::path& path, std::uint64_t bytes);

/// Throws Error unless write_model_directory may write to `target`: its parent exists, and it does not exist, is an
/// empty directory, or is a model directory and `replace_existing` is set.
void require_model_directory_writable(const std::filesystem::path& target, bool replace_existing);

/// Writes config.json, the weights (one file, or shards and their index) and the other files into a hidden sibling of
/// `target`, flushes them to the disk and renames it to `target` (an old one is exchanged for it, then removed): a
/// crash or an error leaves the old state. What a killed process left is tidied by the next call. Throws Error (disk
/// full, ...).
void write_model_directory(const std::filesystem::path& target, const base::Json& config,
                           const ModelDirectoryContents& contents, bool replace_existing = false);

}  // namespace flyover::checkpoint
