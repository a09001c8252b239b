// The tape: records what the forward pass did and runs the backward pass from it.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/parameter.h"
#include "tensor/stream.h"

namespace flyover::autograd {

class Tape;
class BackwardPass;

/// A tensor that the tape knows. Node -1: nothing flows back to it.
struct Variable {
  Tensor value;
  int node = -1;
};

/// A tensor that an operation keeps for its backward pass, or the knowledge of how to make it again.
class Saved {
 public:
  Saved() = default;

 private:
  friend class Tape;
  friend class BackwardPass;
  Tensor value_;
  int producer_ = -1;  ///< node to ask when value_ was dropped
};

/// One differentiable operation as the tape keeps it: one output, any number of inputs, any number of parameters.
/// The two halves of its backward pass may run at different times; each only reads what the forward pass saved.
class Operation {
 public:
  virtual ~Operation() = default;
  virtual std::string_view name() const = 0;
  /// Gradients of the inputs, from the gradient of the output.
  virtual void backward_inputs(BackwardPass& pass) = 0;
  /// Adds the gradients of the parameters.
  virtual void backward_weights(BackwardPass&) {}
  /// Whether gradients flow from it without any that reaches it: a loss that formed them in its forward pass.
  virtual bool has_own_seed() const { return false; }
  /// Whether the output is cheap to make again from what the operation saved anyway (policy `selective`).
  virtual bool is_cheap() const { return false; }
  /// Makes the output again. Only where is_cheap().
  virtual Tensor recompute(BackwardPass& pass);
};

/// What is kept for the backward pass and what is computed again.
enum class RecomputePolicy : std::uint8_t {
  kNone,       ///< everything is kept
  kSelective,  ///< outputs of cheap operations (norms, activations) are computed again
  kBlock       ///< only the input of each block is kept
};

std::string_view name_of(RecomputePolicy policy);

/// Called around each block, by name, in forward and backward: where sharded weights are gathered and released.
struct BlockHooks {
  std::function<void(std::string_view block)> before_forward, after_forward, before_backward, after_backward;
  /// Sees the output of each block of a forward pass, before after_forward.
  std::function<void(std::string_view block, const Tensor& output)> forward_output = {};
};

struct TapeOptions {
  bool recording = true;  ///< false: nothing is kept, there is no backward pass
  RecomputePolicy recompute = RecomputePolicy::kNone;
  const BlockHooks* hooks = nullptr;
};

/// When the weight gradients are computed.
enum class WeightGradients : std::uint8_t {
  kWithInputs,  ///< operation by operation
  kLater        ///< by run_weight_gradients(), after the input gradients have gone on (zero-bubble pipelines)
};

/// Records one forward pass (one micro-batch). Several tapes may be alive at once.
class Tape {
 public:
  Tape(tensor::Stream& stream, ParameterSet& parameters, TapeOptions options);
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;
  ~Tape();

  tensor::Stream& stream() const { return stream_; }
  ParameterSet& parameters() const { return parameters_; }
  const Tensor& value_of(ParameterId id) const { return parameters_[id].value; }
  bool recording() const { return options_.recording; }

  /// A variable whose gradient can be asked for after the backward pass.
  Variable leaf(Tensor value);
  /// The output of `operation`; `inputs` in the order in which the operation numbers them.
  Variable record(std::unique_ptr<Operation> operation, Tensor output, std::initializer_list<Variable> inputs);
  /// Keeps a tensor for the backward pass, or only its producer where the policy says so.
  Saved save(const Variable& variable) const;

  /// Runs `forward` as a block: hooks before and after, and under policy kBlock only `input` is kept. `forward` may be
  /// called again in the backward pass; what it refers to must live until then.
  using BlockFunction = std::function<Variable(Tape&, const Variable&)>;
  Variable block(const std::string& name, const Variable& input, BlockFunction forward);

  /// Runs the backward pass from `output` with the given gradient (undefined: the output is a loss with its own seed).
  /// Other losses with own seeds that were recorded before it take part. Each operation's saved tensors go as soon as
  /// it is done.
  void backward(const Variable& output, Tensor gradient, WeightGradients when = WeightGradients::kWithInputs);
  /// The weight gradients postponed by kLater.
  void run_weight_gradients();
  /// Gradient of a leaf after backward(); undefined where nothing flowed.
  Tensor gradient_of(const Variable& leaf) const;

 private:
  friend class BackwardPass;
  struct Node;

  tensor::Stream& stream_;
  ParameterSet& parameters_;
  TapeOptions options_;
  std::vector<std::unique_ptr<Node>> nodes_;
};

/// What an operation sees in its backward pass.
class BackwardPass {
 public:
  tensor::Stream& stream() const { return tape_.stream_; }
  const Parameter& parameter(ParameterId id) const { return tape_.parameters_[id]; }

  WeightGradients weight_gradients() const { return weight_gradients_; }

  /// Gradient of the output; undefined for an operation that carries its own seed (a loss).
  const Tensor& output_gradient() const;
  /// A saved tensor, made again where it had been dropped.
  Tensor get(const Saved& saved);
  /// Whether input `index` wants a gradient.
  bool needs(int index) const;

  /// Where to write the gradient of input `index`, and whether to add to what is there.
  struct Target {
    tensor::View view;
    bool accumulate;
  };
  Target input_gradient(int index);
  /// Like input_gradient for kernels that cannot add: `write` fills a fresh tensor, which is added where needed.
  void write_input_gradient(int index, const std::function<void(const Tensor&)>& write);
  /// The gradient of input `index` is (or grows by) this tensor, which may be shared.
  void pass_input_gradient(int index, Tensor gradient);
  /// A tensor with the bits of the output's gradient that may be overwritten.
  Tensor own_output_gradient();

 private:
  friend class Tape;
  BackwardPass(Tape& tape, int node, WeightGradients weight_gradients)
      : tape_(tape), node_(node), weight_gradients_(weight_gradients) {}

  Tape& tape_;
  int node_;
  WeightGradients weight_gradients_;
};

}  // namespace flyover::autograd
