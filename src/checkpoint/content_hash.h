// A hash of bytes that arrive in pieces, to recognise a file that was written before. Not against forgers.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

struct XXH3_state_s;

namespace flyover::checkpoint {

/// XXH3, 64 bits.
class ContentHash {
 public:
  ContentHash();
  void add(std::span<const std::byte> bytes);
  void add(std::string_view text);
  /// Of all bytes so far, as 16 hexadecimal digits.
  std::string text() const;

 private:
  struct Free {
    void operator()(XXH3_state_s* state) const;
  };
  std::unique_ptr<XXH3_state_s, Free> state_;
};

/// The hash of a file's bytes, read in pieces. Throws Error if it cannot be read.
std::string hash_of_file(const std::filesystem::path& path);

}  // namespace flyover::checkpoint
