// Muon for matrices, AdamW for the rest.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "optim/matrices.h"
#include "optim/newton_schulz.h"
#include "optim/optimizer.h"

namespace flyover::optim {

/// Parameters with the role kMatrix (ParameterSpec), or as ParameterSettings::as_matrix says: for each of their
/// logically independent matrices, in DeepSeek-V4's form (section 2.4 of its report),
///   M <- momentum M + G;  O = newton_schulz(X / ||X||_F) sqrt(max(rows, columns)) update_rms  with X = momentum M + G;
///   W <- W (1 - learning_rate weight_decay) - learning_rate O.
/// Products are made in the type of the parameter's value. All other parameters that have a gradient: AdamWOptimizer.
class MuonOptimizer final : public Optimizer {
 public:
  struct Options {
    double momentum = 0.95;
    double update_rms = 0.18;  ///< root mean square of O where the matrix has full rank
    std::vector<NewtonSchulzPhase> newton_schulz = hybrid_newton_schulz();
    StateStorage state = StateStorage::kExact;  ///< of the momentum
    std::uint64_t temporary_bytes = 16 << 20;   ///< at a time, to stay in caches; more only where a matrix needs more
    AdamWOptimizer::Options adamw;              ///< for the other parameters
  };
  /// `settings`: one for each parameter of the set, in order. The state starts at zero.
  MuonOptimizer(tensor::Stream& stream, autograd::ParameterSet& parameters, std::vector<ParameterSettings> settings,
                const Options& options);

  void step(std::int64_t step, double factor, const tensor::Tensor& gradient_scale) override;
  /// "momentum/<parameter>" of the matrices, and the moments of the others.
  std::vector<StateTensor> state() const override;

 private:
  void step_batch(const MatrixBatch& batch, double factor, const tensor::Tensor& gradient_scale);

  tensor::Stream& stream_;
  autograd::ParameterSet& parameters_;
  std::vector<ParameterSettings> settings_;
  Options options_;
  AdamWOptimizer adamw_;
  std::vector<tensor::Tensor> momenta_;  ///< as the parameters; undefined where AdamW or nothing updates them
  std::vector<MatrixBatch> batches_;
  std::map<std::int64_t, tensor::Tensor> offsets_;  ///< by the rows of a matrix, for the largest batch that has them
};

}  // namespace flyover::optim
