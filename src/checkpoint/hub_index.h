// model.safetensors.index.json: which shard holds which tensor. The shards are not opened here.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace flyover::checkpoint {

/// Tensor name -> file name.
using WeightMap = std::map<std::string, std::string, std::less<>>;

/// Reads an index. Throws Error naming `source` if it is not valid, names a tensor twice, or names a file that is not
/// a plain name within the directory.
WeightMap parse_hub_index(std::string_view text, const std::string& source);

/// The text of an index, as the Hugging Face libraries write it. `total_size`: bytes of all tensors.
std::string format_hub_index(const WeightMap& weight_map, std::uint64_t total_size);

}  // namespace flyover::checkpoint
