// The weights files of a model directory that is written: which tensors are in which, and the index over them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/safetensors.h"

namespace flyover::checkpoint {

/// One weights file and its tensors in the order in which they are written.
struct Shard {
  std::string file;
  std::vector<TensorSpec> tensors;
  std::uint64_t bytes() const;  ///< of the whole file
};

/// transformers refuses files without it.
const std::map<std::string, std::string>& shard_metadata();

/// Cuts the list, in its order, into files of at most `max_shard_bytes` of tensors; a single larger tensor gets a file
/// of its own.
std::vector<Shard> split_into_shards(const std::vector<TensorSpec>& tensors, std::uint64_t max_shard_bytes);

/// The text of the index. Throws InternalError if a name occurs twice.
std::string index_text(const std::vector<Shard>& shards);

/// Names of the files beside the weights that `source` has and that belong to any copy of the model (kCompanionFiles).
/// Throws Error if `source` is not a directory.
std::vector<std::string> companion_files(const std::filesystem::path& source);

}  // namespace flyover::checkpoint
