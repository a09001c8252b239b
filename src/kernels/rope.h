// Rotary position embedding (Su et al., "RoFormer", 2021).
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

/// cosine[t, i] = cos(positions[t] * inverse_frequencies[i]), sine likewise; the angle is formed and reduced in f64.
struct RopeTable {
  static constexpr std::string_view kName = "rope_table";
  ConstView positions;            ///< [tokens] i32
  ConstView inverse_frequencies;  ///< [pairs] f32 | f64
  View cosine;                    ///< [tokens, pairs] f32 | f64
  View sine;                      ///< [tokens, pairs] as cosine
  static constexpr auto fields = [](auto&& visit) {
    visit(in("positions", &RopeTable::positions), in("inverse_frequencies", &RopeTable::inverse_frequencies),
          out("cosine", &RopeTable::cosine), out("sine", &RopeTable::sine));
  };
  void check() const;
  Cost cost() const;
};

/// Which two dimensions of a head form the pair i.
enum class RopePairing : std::uint8_t {
  kHalves,      ///< (i, i + pairs): Llama, Qwen
  kInterleaved  ///< (2 i, 2 i + 1): DeepSeek
};

/// Rotates, in place, the `2 * pairs` dimensions of every head that start at `first_dimension`:
/// (a, b) -> (a cos - b sin, a sin + b cos), or by the opposite angle. The backward pass is the inverse rotation.
struct RopeApply {
  static constexpr std::string_view kName = "rope_apply";
  View x;            ///< [tokens, heads, head_dim] bf16 | f32; last axis dense
  ConstView cosine;  ///< [tokens, pairs] f32
  ConstView sine;    ///< [tokens, pairs] f32
  RopePairing pairing = RopePairing::kHalves;
  bool inverse = false;
  std::int64_t first_dimension = 0;
  static constexpr auto fields = [](auto&& visit) {
    visit(in_out("x", &RopeApply::x), in("cosine", &RopeApply::cosine), in("sine", &RopeApply::sine),
          scalar("pairing", &RopeApply::pairing), scalar("inverse", &RopeApply::inverse),
          scalar("first_dimension", &RopeApply::first_dimension));
  };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
