// Optimizers over a model's parameters, and the clipping of their gradients.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "autograd/parameter.h"
#include "tensor/stream.h"

namespace flyover::optim {

/// What the recipe decided for one parameter.
struct ParameterSettings {
  double learning_rate = 0.0;  ///< at the peak of the schedule
  double weight_decay = 0.0;
  std::optional<bool> as_matrix = {};  ///< whether Muon updates it, rather than AdamW; by its role where not given
};

/// A tensor that belongs to a checkpoint besides the weights, for example "first_moment/model.norm.weight".
struct StateTensor {
  std::string name;
  tensor::Tensor tensor;
};

/// Updates masters and values from gradients.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  /// Step number `step` (1 = the first). `factor` scales every learning rate; `gradient_scale` [1] f32 every gradient.
  virtual void step(std::int64_t step, double factor, const tensor::Tensor& gradient_scale) = 0;
  /// Everything but the step number that a resumed run needs.
  virtual std::vector<StateTensor> state() const = 0;
};

/// How an optimizer keeps what it remembers between steps. Steps are computed in the type of the master weights.
enum class StateStorage : std::uint8_t {
  kExact,  ///< as the master weights
  kBf16    ///< rounded to nearest: half the memory
};

/// The type of the state of a parameter.
tensor::DType state_dtype(StateStorage storage, const autograd::Parameter& parameter);

/// kernels::AdamW on every parameter that has a gradient.
class AdamWOptimizer final : public Optimizer {
 public:
  struct Options {
    double beta1 = 0.9;
    double beta2 = 0.95;
    double epsilon = 1e-8;
    StateStorage state = StateStorage::kExact;
  };
  using Selection = std::function<bool(const autograd::Parameter&, const ParameterSettings&)>;
  /// `settings`: one for each parameter of the set, in order. `selected`: which parameters it updates, all where empty.
  /// Moments start at zero. Throws Error for a beta2 with which moments in bf16 could not fall.
  AdamWOptimizer(tensor::Stream& stream, autograd::ParameterSet& parameters, std::vector<ParameterSettings> settings,
                 const Options& options, const Selection& selected = {});

  void step(std::int64_t step, double factor, const tensor::Tensor& gradient_scale) override;
  std::vector<StateTensor> state() const override;

 private:
  struct Moments {
    tensor::Tensor first;
    tensor::Tensor second;
  };

  tensor::Stream& stream_;
  autograd::ParameterSet& parameters_;
  std::vector<ParameterSettings> settings_;
  Options options_;
  std::vector<Moments> moments_;  ///< undefined for parameters that it does not update
};

/// The global gradient norm and the coefficient that clips it, both [1] f32 on the device.
struct ClippedNorm {
  tensor::Tensor norm;
  tensor::Tensor coefficient;
};

/// Euclidean norm over all gradients, parameters in order; `max_norm` <= 0 means no clipping.
ClippedNorm clip_gradients(tensor::Stream& stream, const autograd::ParameterSet& parameters, double max_norm);

}  // namespace flyover::optim
