#include "tokenizer/piece_cache.h"

#include <cstring>

namespace flyover::tokenizer {
namespace {

constexpr std::size_t kSlots = std::size_t{1} << 16;  // 512 KiB of slots, about 10 MB when full
constexpr std::size_t kProbes = 8;

std::uint64_t mix(std::uint64_t value) {
  value *= 0x9E3779B97F4A7C15u;
  return value ^ (value >> 32);
}

}  // namespace

PieceCache::PieceCache() : slots_(std::make_unique<std::atomic<const Entry*>[]>(kSlots)) {}

PieceCache::~PieceCache() {
  for (std::size_t i = 0; i < kSlots; ++i) {
    delete slots_[i].load(std::memory_order_relaxed);
  }
}

std::uint64_t PieceCache::hash(std::string_view piece) {
  std::uint64_t state = piece.size();
  std::size_t i = 0;
  for (; i + 8 <= piece.size(); i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, piece.data() + i, 8);
    state = mix(state ^ word) + i;
  }
  std::uint64_t rest = 0;
  for (; i < piece.size(); ++i) {
    rest = (rest << 8) | static_cast<std::uint8_t>(piece[i]);
  }
  return mix(mix(state ^ rest) + 1);
}

bool PieceCache::append(std::string_view piece, std::uint64_t hash, std::vector<PieceToken>& tokens) const {
  for (std::size_t probe = 0; probe < kProbes; ++probe) {
    const Entry* entry = slots_[(hash + probe) % kSlots].load(std::memory_order_acquire);
    if (entry == nullptr) {
      return false;
    }
    if (entry->hash == hash && entry->piece == piece) {
      tokens.insert(tokens.end(), entry->tokens.begin(), entry->tokens.end());
      return true;
    }
  }
  return false;
}

void PieceCache::remember(std::string_view piece, std::uint64_t hash, std::span<const PieceToken> tokens) {
  std::unique_ptr<const Entry> entry;
  for (std::size_t probe = 0; probe < kProbes; ++probe) {
    std::atomic<const Entry*>& slot = slots_[(hash + probe) % kSlots];
    if (slot.load(std::memory_order_relaxed) != nullptr) {
      continue;
    }
    if (entry == nullptr) {
      entry.reset(new Entry{hash, std::string(piece), {tokens.begin(), tokens.end()}});
    }
    const Entry* expected = nullptr;
    if (slot.compare_exchange_strong(expected, entry.get(), std::memory_order_release, std::memory_order_relaxed)) {
      static_cast<void>(entry.release());  // the slot owns it now
      return;
    }
  }
}

}  // namespace flyover::tokenizer
