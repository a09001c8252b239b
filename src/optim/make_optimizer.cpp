#include "optim/make_optimizer.h"

#include <utility>

namespace flyover::optim {

std::unique_ptr<Optimizer> make_optimizer(tensor::Stream& stream, autograd::ParameterSet& parameters,
                                          std::vector<ParameterSettings> settings, const OptimizerChoice& choice) {
  if (choice.kind == OptimizerKind::kMuon) {
    return std::make_unique<MuonOptimizer>(stream, parameters, std::move(settings), choice.options);
  }
  return std::make_unique<AdamWOptimizer>(stream, parameters, std::move(settings), choice.options.adamw);
}

}  // namespace flyover::optim
