// Files put together by hand, so that reader and writer are not tested with each other only.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace flyover::checkpoint {

/// A safetensors file: length, header, data.
inline std::string safetensors_bytes(std::string_view header, std::string_view data) {
  std::string file;
  for (int i = 0; i < 8; ++i) {
    file.push_back(static_cast<char>((static_cast<std::uint64_t>(header.size()) >> (8 * i)) & 0xFFu));
  }
  return file + std::string(header) + std::string(data);
}

/// A new file, not an old one cut to nothing: some file systems flush those to the disk, which is slow.
inline void put_file(const std::filesystem::path& path, std::string_view contents) {
  std::filesystem::remove(path);
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(contents.data(), static_cast<std::streamsize>(contents.size()));
}

/// The message of the base::Error that `action` throws, or "no error".
template <typename Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const base::Error& error) {
    return error.what();
  }
  return "no error";
}

inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace flyover::checkpoint
