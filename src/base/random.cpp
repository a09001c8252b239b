#include "base/random.h"

#include <cmath>
#include <numbers>

#include "base/error.h"

namespace flyover::base {

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53;
  constexpr std::uint64_t kMultiplier1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9;
  constexpr std::uint32_t kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = kMultiplier0 * counter[0];
    const std::uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

Random::Random(std::uint64_t seed, RandomPurpose purpose, std::uint64_t step, std::uint64_t sample) {
  // The key is itself drawn by Philox, so that all of seed, purpose, step and sample reach all of its bits.
  const auto low = [](std::uint64_t value) { return static_cast<std::uint32_t>(value); };
  const auto high = [](std::uint64_t value) { return static_cast<std::uint32_t>(value >> 32); };
  const auto first =
      philox4x32({low(step), high(step), static_cast<std::uint32_t>(purpose), 0}, {low(seed), high(seed)});
  const auto second = philox4x32({low(sample), high(sample), first[2], first[3]}, {first[0], first[1]});
  key_ = {second[0], second[1]};
}

std::uint64_t Random::bits(std::uint64_t position) const {
  const auto numbers =
      philox4x32({static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32), 0, 0}, key_);
  return (static_cast<std::uint64_t>(numbers[0]) << 32) | numbers[1];
}

double Random::uniform(std::uint64_t position) const {
  return static_cast<double>(bits(position) >> 11) * 0x1.0p-53;
}

std::uint64_t Random::below(std::uint64_t position, std::uint64_t bound) const {
  check(bound > 0, "Random::below: the bound must be positive");
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(bits(position)) * bound) >> 64);
}

double Random::normal(std::uint64_t position) const {
  const auto numbers =
      philox4x32({static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(position >> 32), 1, 0}, key_);
  const double first = (static_cast<double>(numbers[0]) + 0.5) * 0x1.0p-32;
  const double second = (static_cast<double>(numbers[1]) + 0.5) * 0x1.0p-32;
  return std::sqrt(-2.0 * std::log(first)) * std::cos(2.0 * std::numbers::pi * second);
}

Permutation::Permutation(const Random& random, std::uint64_t size) : size_(size), half_bits_(1) {
  while (half_bits_ < 32 && (std::uint64_t{1} << (2 * half_bits_)) < size) {
    ++half_bits_;
  }
  for (std::size_t i = 0; i < round_keys_.size(); ++i) {
    round_keys_[i] = random.bits(i);
  }
}

std::uint64_t Permutation::operator()(std::uint64_t index) const {
  check(index < size_, "Permutation: index {} of {}", index, size_);
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  do {
    std::uint64_t left = index >> half_bits_;
    std::uint64_t right = index & mask;
    for (const std::uint64_t key : round_keys_) {
      std::uint64_t mixed = (right ^ key) * 0x9E3779B97F4A7C15ull;
      mixed ^= mixed >> 32;
      mixed *= 0xD6E8FEB86659FD93ull;
      mixed ^= mixed >> 32;
      const std::uint64_t next = left ^ (mixed & mask);
      left = right;
      right = next;
    }
    index = (left << half_bits_) | right;
  } while (index >= size_);
  return index;
}

}  // namespace flyover::base
