#include "checkpoint/content_hash.h"

#include <algorithm>
#include <new>

#include <fmt/core.h>
#include <xxhash.h>

#include "base/files.h"

namespace flyover::checkpoint {

ContentHash::ContentHash() : state_(XXH3_createState()) {
  if (state_ == nullptr) {
    throw std::bad_alloc();
  }
  XXH3_64bits_reset(state_.get());
}

void ContentHash::Free::operator()(XXH3_state_s* state) const {
  XXH3_freeState(state);
}

void ContentHash::add(std::span<const std::byte> bytes) {
  XXH3_64bits_update(state_.get(), bytes.data(), bytes.size());
}

void ContentHash::add(std::string_view text) {
  add(std::as_bytes(std::span(text.data(), text.size())));
}

std::string ContentHash::text() const {
  return fmt::format("{:016x}", XXH3_64bits_digest(state_.get()));
}

std::string hash_of_file(const std::filesystem::path& path) {
  constexpr std::size_t kPiece = std::size_t{1} << 20;
  const base::MappedFile file(path);
  ContentHash hash;
  for (std::size_t begin = 0; begin < file.bytes().size(); begin += kPiece) {
    const auto piece = file.bytes().subspan(begin, std::min(kPiece, file.bytes().size() - begin));
    hash.add(piece);
    file.release(piece);
  }
  return hash.text();
}

}  // namespace flyover::checkpoint
