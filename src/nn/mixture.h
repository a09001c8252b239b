// Mixture of experts as a layer.
#pragma once

#include <optional>

#include "nn/batch.h"
#include "nn/layers.h"
#include "ops/experts.h"

namespace flyover::nn {

/// Each token goes to some experts, chosen by a router, and to the shared expert where there is one:
///   y = sum over chosen e of weight_e * down_e(silu(gate_e(x)) * up_e(x)) + shared(x).
struct MixtureOfExperts {
  ParameterId router;                ///< [experts, hidden]
  std::optional<ParameterId> bias;   ///< [experts]: takes part in the choice alone
  std::optional<ParameterId> table;  ///< [vocabulary, choices] i32: each token id's experts, instead of a choice
  ParameterId gate_up;               ///< [experts, 2 * width, hidden]
  ParameterId down;                  ///< [experts, hidden, width]
  std::optional<GatedMlp> shared;
  kernels::RouterRule rule;
  std::int64_t choices = 0;
  std::int64_t experts = 0;
  float limit = std::numeric_limits<float>::infinity();  ///< of the activation
  std::int64_t index = 0;                                ///< among the model's mixtures: its row of the load

  Variable operator()(Tape& tape, const Variable& x, const TokenBatch& batch) const;
};

}  // namespace flyover::nn
