// The optimizer that a recipe asks for.
#pragma once

#include <memory>
#include <vector>

#include "optim/muon.h"

namespace flyover::optim {

enum class OptimizerKind : std::uint8_t { kAdamW, kMuon };

/// An optimizer without the parameters.
struct OptimizerChoice {
  OptimizerKind kind = OptimizerKind::kAdamW;
  MuonOptimizer::Options options;  ///< AdamW alone uses options.adamw
};

/// `settings`: one for each parameter of the set, in order. Throws Error as the optimizers' constructors do.
std::unique_ptr<Optimizer> make_optimizer(tensor::Stream& stream, autograd::ParameterSet& parameters,
                                          std::vector<ParameterSettings> settings, const OptimizerChoice& choice);

}  // namespace flyover::optim
