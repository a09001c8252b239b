// Cross-entropy over a chunk of logits, and the log-probability that training and generation share.
#pragma once

#include "kernels/cost.h"

namespace flyover::kernels {

/// A target with this value is not trained on.
inline constexpr std::int32_t kIgnoredTarget = -1;

/// log_probability[i] = log softmax(logits[i] / temperature)[targets[i]] in fp32; 0 for an ignored target. The one
/// definition of a token's log-probability: generation records it, the trainer computes it, with the same bits.
struct LogProbability {
  static constexpr std::string_view kName = "log_probability";
  ConstView logits;      ///< [rows, vocabulary] f32
  ConstView targets;     ///< [rows] i32
  View log_probability;  ///< [rows] f32
  float temperature = 1.0f;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("logits", &LogProbability::logits), in("targets", &LogProbability::targets),
          out("log_probability", &LogProbability::log_probability),
          scalar("temperature", &LogProbability::temperature));
  };
  void check() const;
  Cost cost() const;
};

/// Forward and backward of cross-entropy in one pass: log_probability as above at temperature 1, and
/// dlogits[i, j] = weights[i] * (softmax(logits[i])[j] - [j == targets[i]]), zero for an ignored target.
struct CrossEntropy {
  static constexpr std::string_view kName = "cross_entropy";
  ConstView logits;      ///< [rows, vocabulary] f32
  ConstView targets;     ///< [rows] i32
  ConstView weights;     ///< [rows] f32: the row's weight in the loss (1 / targets of the global batch)
  View log_probability;  ///< [rows] f32
  View dlogits;          ///< [rows, vocabulary] bf16 | f32
  static constexpr auto fields = [](auto&& visit) {
    visit(in("logits", &CrossEntropy::logits), in("targets", &CrossEntropy::targets),
          in("weights", &CrossEntropy::weights), out("log_probability", &CrossEntropy::log_probability),
          out("dlogits", &CrossEntropy::dlogits));
  };
  void check() const;
  Cost cost() const;
};

/// sum += factor * sum over i of weights[i] * x[i], in an order fixed by the length.
struct WeightedSum {
  static constexpr std::string_view kName = "weighted_sum";
  ConstView x;        ///< [count] f32
  ConstView weights;  ///< [count] f32
  View sum;           ///< [1] f32
  float factor = 1.0f;
  static constexpr auto fields = [](auto&& visit) {
    visit(in("x", &WeightedSum::x), in("weights", &WeightedSum::weights), in_out("sum", &WeightedSum::sum),
          scalar("factor", &WeightedSum::factor));
  };
  void check() const;
  Cost cost() const;
};

}  // namespace flyover::kernels
