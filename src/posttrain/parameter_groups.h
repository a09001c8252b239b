// A recipe's parameter groups: which parameters their patterns name, and what that means for each.
#pragma once

#include <vector>

#include "autograd/parameter.h"
#include "optim/optimizer.h"
#include "recipe/stage.h"

namespace flyover::posttrain {

/// What the optimizer does with each parameter, and which are frozen. Throws Error for a pattern that matches nothing,
/// or only some of the checkpoint's tensors in a parameter.
struct ParameterDecisions {
  std::vector<optim::ParameterSettings> settings;
  std::vector<bool> frozen;
};
ParameterDecisions decide_parameters(const autograd::ParameterSet& parameters, const recipe::Stage& stage);

}  // namespace flyover::posttrain
