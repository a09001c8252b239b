// The header of a safetensors file as text and as a list of checked entries. Files are not opened here.
// Format: https://huggingface.co/docs/safetensors/index#format
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/safetensors.h"

namespace flyover::checkpoint {

/// What the header of a file says, and where the tensors' bytes begin.
struct SafetensorsHeader {
  std::vector<TensorEntry> tensors;  ///< by place in the file
  std::map<std::string, std::string> metadata;
  std::uint64_t data_begin = 0;  ///< from the start of the file
};

/// Reads and checks the header of a whole file's bytes: afterwards every entry lies within the file, has the bytes that
/// its shape and type need, and the entries fill the data without holes or overlaps. Throws Error naming `source`.
SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, std::string_view source);

/// The first bytes of a file with these tensors in this order: length, JSON and spaces up to a multiple of 64 bytes.
/// Throws Error if the header exceeds what readers accept.
std::string format_safetensors_header(std::span<const TensorSpec> tensors,
                                      const std::map<std::string, std::string>& metadata);

}  // namespace flyover::checkpoint
