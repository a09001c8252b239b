// Choosing the next token.
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

/// For every row: with temperature 0 the token of the largest logit (lowest index on ties); otherwise a token drawn
/// from softmax(logits / temperature) restricted to the top_k most likely tokens (0 = all) and then to the smallest set
/// of them whose probability reaches top_p (1 = all), ties by lowest index, by inverting the cumulative sum at
/// `uniform`. log_probability is that of LogProbability at the same temperature (1 where the temperature is 0): before
/// top-k, top-p.
struct Sample {
  static constexpr std::string_view kName = "sample";
  ConstView logits;       ///< [rows, vocabulary] f32
  ConstView temperature;  ///< [rows] f32
  ConstView top_k;        ///< [rows] i32
  ConstView top_p;        ///< [rows] f32
  ConstView uniform;      ///< [rows] f32 in [0, 1)
  View token;             ///< [rows] i32
  View log_probability;   ///< [rows] f32
  static constexpr auto fields = [](auto&& visit) {
    visit(in("logits", &Sample::logits), in("temperature", &Sample::temperature), in("top_k", &Sample::top_k),
          in("top_p", &Sample::top_p), in("uniform", &Sample::uniform), out("token", &Sample::token),
          out("log_probability", &Sample::log_probability));
  };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
