#include "checkpoint/hub_shards.h"

#include <system_error>

#include "base/error.h"
#include "checkpoint/hub_index.h"
#include "checkpoint/hub_names.h"

namespace flyover::checkpoint {

std::uint64_t Shard::bytes() const {
  return safetensors_file_bytes(tensors, shard_metadata());
}

const std::map<std::string, std::string>& shard_metadata() {
  static const std::map<std::string, std::string> metadata = {{"format", "pt"}};
  return metadata;
}

std::vector<Shard> split_into_shards(const std::vector<TensorSpec>& tensors, std::uint64_t max_shard_bytes) {
  std::vector<Shard> shards(1);
  std::uint64_t shard_bytes = 0;
  for (const TensorSpec& tensor : tensors) {
    const std::uint64_t bytes = byte_count(tensor);
    const bool fits = bytes <= max_shard_bytes && shard_bytes <= max_shard_bytes - bytes;
    if (!fits && !shards.back().tensors.empty()) {
      shards.emplace_back();
      shard_bytes = 0;
    }
    shards.back().tensors.push_back(tensor);
    shard_bytes += bytes;
  }
  for (std::size_t i = 0; i < shards.size(); ++i) {
    sort_for_writing(shards[i].tensors);
    shards[i].file = shards.size() == 1 ? std::string(kSingleWeightsFile)
                                        : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
  }
  return shards;
}

std::string index_text(const std::vector<Shard>& shards) {
  WeightMap weight_map;
  std::uint64_t total = 0;
  for (const Shard& shard : shards) {
    for (const TensorSpec& tensor : shard.tensors) {
      base::check(weight_map.emplace(tensor.name, shard.file).second, "the tensor \"{}\" is written twice",
                  tensor.name);
      total += byte_count(tensor);
    }
  }
  return format_hub_index(weight_map, total);
}

std::vector<std::string> companion_files(const std::filesystem::path& source) {
  std::error_code error;
  base::require(std::filesystem::is_directory(source, error), "{}: no such directory to copy the tokenizer from",
                source.string());
  std::vector<std::string> names;
  for (const std::string_view name : kCompanionFiles) {
    if (std::filesystem::exists(source / name, error)) {
      names.emplace_back(name);
    }
  }
  return names;
}

}  // namespace flyover::checkpoint
