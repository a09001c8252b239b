// Counter-based random numbers: every number is a pure function of its key and counter, nothing is stateful.
#pragma once

#include <array>
#include <cstdint>

namespace flyover::base {

/// What a stream of random numbers is for. Part of the key, so that two purposes never share numbers.
enum class RandomPurpose : std::uint32_t {
  kInitialisation = 1,
  kDataOrder = 2,
  kSampling = 3,
  kGeneratedData = 4,
  kTest = 5,
};

/// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): four 32-bit numbers.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

/// Random numbers keyed by (seed, purpose, step, sample, position): the same key gives the same numbers on every
/// machine, in whatever order they are asked for.
class Random {
 public:
  Random(std::uint64_t seed, RandomPurpose purpose, std::uint64_t step = 0, std::uint64_t sample = 0);

  /// 64 uniform bits at `position`.
  std::uint64_t bits(std::uint64_t position) const;
  /// Uniform in [0, 1) with 53 random bits.
  double uniform(std::uint64_t position) const;
  /// Uniform in [0, bound), bound > 0, without modulo bias above 2^-32 for bound < 2^32.
  std::uint64_t below(std::uint64_t position, std::uint64_t bound) const;
  /// Standard normal (Box-Muller).
  double normal(std::uint64_t position) const;

 private:
  std::array<std::uint32_t, 2> key_;
};

/// A pseudo-random permutation of 0 .. size-1 evaluated at one index without a table (a Feistel network over the
/// smallest even-bit domain, cycle-walked): the order of an epoch as a pure function of its key.
class Permutation {
 public:
  Permutation(const Random& random, std::uint64_t size);
  /// Where index goes; index < size.
  std::uint64_t operator()(std::uint64_t index) const;

 private:
  std::uint64_t size_;
  unsigned half_bits_;
  std::array<std::uint64_t, 4> round_keys_;
};

}  // namespace flyover::base
