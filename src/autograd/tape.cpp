#include "autograd/tape.h"

#include <utility>

#include "base/error.h"

namespace flyover::autograd {

struct Tape::Node {
  std::unique_ptr<Operation> operation;  ///< absent for a leaf, and once its work is done
  std::vector<int> inputs;
  Dims shape;
  DType dtype = DType::kF32;
  Tensor gradient;                           ///< of the output
  Tensor recomputed;                         ///< output made again for the consumers that asked for it
  std::string block_begin;                   ///< name of the block that starts with this node
  std::string block_end;                     ///< name of the block that ends with this node
  bool owes_weights = false;                 ///< input gradients are done, weight gradients are not
  tensor::Part part = tensor::Part::kOther;  ///< that the operation was recorded for, and its backward pass counts for
};

namespace {

kernels::View as_matrix(const Tensor& tensor) {
  const int rank = tensor.shape().rank();
  const std::int64_t width = rank == 0 ? 1 : tensor.size(rank - 1);
  const std::int64_t rows = width == 0 ? 0 : tensor.elements() / width;
  return tensor.reshape({rows, width}).view();
}

/// A block of which only the input is kept; its forward pass runs again, on a tape of its own, in the backward pass.
class BlockOperation final : public Operation {
 public:
  BlockOperation(std::string block, Tensor input, Tape::BlockFunction forward, ParameterSet& parameters)
      : block_(std::move(block)), input_(std::move(input)), forward_(std::move(forward)), parameters_(parameters) {}

  std::string_view name() const override { return block_; }

  void backward_inputs(BackwardPass& pass) override {
    inner_ = std::make_unique<Tape>(pass.stream(), parameters_, TapeOptions{});
    const Variable leaf = inner_->leaf(std::exchange(input_, {}));
    const Variable output = forward_(*inner_, leaf);
    inner_->backward(output, pass.output_gradient(), pass.weight_gradients());
    if (pass.needs(0)) {
      pass.pass_input_gradient(0, inner_->gradient_of(leaf));
    }
  }

  void backward_weights(BackwardPass& pass) override {
    if (pass.weight_gradients() == WeightGradients::kLater) {
      inner_->run_weight_gradients();
    }
    inner_.reset();
  }

 private:
  std::string block_;
  Tensor input_;
  Tape::BlockFunction forward_;
  ParameterSet& parameters_;
  std::unique_ptr<Tape> inner_;
};

void call(const BlockHooks* hooks, std::function<void(std::string_view)> BlockHooks::*hook, std::string_view block) {
  if (hooks != nullptr && hooks->*hook) {
    (hooks->*hook)(block);
  }
}

}  // namespace

std::string_view name_of(RecomputePolicy policy) {
  switch (policy) {
    case RecomputePolicy::kNone:
      return "none";
    case RecomputePolicy::kSelective:
      return "selective";
    case RecomputePolicy::kBlock:
      return "block";
  }
  return "?";
}

Tensor Operation::recompute(BackwardPass&) {
  throw base::InternalError(fmt::format("operation {} cannot be recomputed alone", name()));
}

Tape::Tape(tensor::Stream& stream, ParameterSet& parameters, TapeOptions options)
    : stream_(stream), parameters_(parameters), options_(options) {}

Tape::~Tape() = default;

Variable Tape::leaf(Tensor value) {
  if (!options_.recording) {
    return {std::move(value), -1};
  }
  auto node = std::make_unique<Node>();
  node->shape = value.shape();
  node->dtype = value.dtype();
  nodes_.push_back(std::move(node));
  return {std::move(value), static_cast<int>(nodes_.size()) - 1};
}

Variable Tape::record(std::unique_ptr<Operation> operation, Tensor output, std::initializer_list<Variable> inputs) {
  if (!options_.recording) {
    return {std::move(output), -1};
  }
  auto node = std::make_unique<Node>();
  node->operation = std::move(operation);
  node->part = stream_.part();
  for (const Variable& input : inputs) {
    node->inputs.push_back(input.node);
  }
  node->shape = output.shape();
  node->dtype = output.dtype();
  nodes_.push_back(std::move(node));
  return {std::move(output), static_cast<int>(nodes_.size()) - 1};
}

Saved Tape::save(const Variable& variable) const {
  Saved saved;
  if (!options_.recording) {
    return saved;
  }
  const bool drop = options_.recompute == RecomputePolicy::kSelective && variable.node >= 0 &&
                    nodes_[static_cast<std::size_t>(variable.node)]->operation != nullptr &&
                    nodes_[static_cast<std::size_t>(variable.node)]->operation->is_cheap();
  if (drop) {
    saved.producer_ = variable.node;
  } else {
    saved.value_ = variable.value;
  }
  return saved;
}

Variable Tape::block(const std::string& name, const Variable& input, BlockFunction forward) {
  call(options_.hooks, &BlockHooks::before_forward, name);
  Variable output;
  if (options_.recording && options_.recompute == RecomputePolicy::kBlock) {
    {
      Tape silent(stream_, parameters_, TapeOptions{false, RecomputePolicy::kNone, nullptr});
      output.value = forward(silent, {input.value, -1}).value;
    }
    output = record(std::make_unique<BlockOperation>(name, input.value, std::move(forward), parameters_),
                    std::move(output.value), {input});
    nodes_.back()->block_begin = nodes_.back()->block_end = name;
  } else {
    const std::size_t first = nodes_.size();
    output = forward(*this, input);
    if (options_.recording && nodes_.size() > first) {
      nodes_[first]->block_begin = name;
      nodes_.back()->block_end = name;
    }
  }
  if (options_.hooks != nullptr && options_.hooks->forward_output) {
    options_.hooks->forward_output(name, output.value);
  }
  call(options_.hooks, &BlockHooks::after_forward, name);
  return output;
}

void Tape::backward(const Variable& output, Tensor gradient, WeightGradients when) {
  base::check(output.node >= 0 && output.node < static_cast<int>(nodes_.size()),
              "backward from an unrecorded variable");
  nodes_[static_cast<std::size_t>(output.node)]->gradient = std::move(gradient);
  for (int index = output.node; index >= 0; --index) {
    Node& node = *nodes_[static_cast<std::size_t>(index)];
    if (!node.block_end.empty()) {
      call(options_.hooks, &BlockHooks::before_backward, node.block_end);
    }
    if (node.operation != nullptr && (node.gradient.defined() || node.operation->has_own_seed())) {
      const tensor::PartScope scope(stream_, node.part);
      BackwardPass pass(*this, index, when);
      node.operation->backward_inputs(pass);
      if (when == WeightGradients::kWithInputs) {
        node.operation->backward_weights(pass);
        node.operation.reset();
        node.gradient = Tensor();
      } else {
        node.owes_weights = true;
      }
    }
    node.recomputed = Tensor();
    if (!node.block_begin.empty()) {
      call(options_.hooks, &BlockHooks::after_backward, node.block_begin);
    }
  }
}

void Tape::run_weight_gradients() {
  for (int index = static_cast<int>(nodes_.size()) - 1; index >= 0; --index) {
    Node& node = *nodes_[static_cast<std::size_t>(index)];
    if (node.owes_weights) {
      node.owes_weights = false;
      const tensor::PartScope scope(stream_, node.part);
      BackwardPass pass(*this, index, WeightGradients::kLater);
      node.operation->backward_weights(pass);
      node.operation.reset();
      node.gradient = Tensor();
    }
    node.recomputed = Tensor();
  }
}

Tensor Tape::gradient_of(const Variable& leaf) const {
  base::check(leaf.node >= 0, "the gradient of an unrecorded variable");
  return nodes_[static_cast<std::size_t>(leaf.node)]->gradient;
}

const Tensor& BackwardPass::output_gradient() const {
  return tape_.nodes_[static_cast<std::size_t>(node_)]->gradient;
}

bool BackwardPass::needs(int index) const {
  return tape_.nodes_[static_cast<std::size_t>(node_)]->inputs[static_cast<std::size_t>(index)] >= 0;
}

Tensor BackwardPass::get(const Saved& saved) {
  if (saved.producer_ < 0) {
    base::check(saved.value_.defined(), "a tensor that was not saved is asked for");
    return saved.value_;
  }
  Tape::Node& producer = *tape_.nodes_[static_cast<std::size_t>(saved.producer_)];
  if (!producer.recomputed.defined()) {
    base::check(producer.operation != nullptr, "the producer of a dropped tensor is gone");
    const tensor::PartScope scope(tape_.stream_, producer.part);
    BackwardPass pass(tape_, saved.producer_, weight_gradients_);
    producer.recomputed = producer.operation->recompute(pass);
  }
  return producer.recomputed;
}

BackwardPass::Target BackwardPass::input_gradient(int index) {
  const Tape::Node& self = *tape_.nodes_[static_cast<std::size_t>(node_)];
  Tape::Node& input = *tape_.nodes_[static_cast<std::size_t>(self.inputs[static_cast<std::size_t>(index)])];
  if (!input.gradient.defined()) {
    input.gradient = stream().empty(input.shape, input.dtype);
    return {input.gradient.view(), false};
  }
  if (!input.gradient.is_only_owner()) {  // shared with another variable, which must not see the addition
    input.gradient = stream().convert(input.gradient, input.dtype);
  }
  return {input.gradient.view(), true};
}

void BackwardPass::write_input_gradient(int index, const std::function<void(const Tensor&)>& write) {
  const Tape::Node& self = *tape_.nodes_[static_cast<std::size_t>(node_)];
  const Tape::Node& input = *tape_.nodes_[static_cast<std::size_t>(self.inputs[static_cast<std::size_t>(index)])];
  Tensor fresh = stream().empty(input.shape, input.dtype);
  write(fresh);
  pass_input_gradient(index, std::move(fresh));
}

void BackwardPass::pass_input_gradient(int index, Tensor gradient) {
  const Tape::Node& self = *tape_.nodes_[static_cast<std::size_t>(node_)];
  Tape::Node& input = *tape_.nodes_[static_cast<std::size_t>(self.inputs[static_cast<std::size_t>(index)])];
  if (!input.gradient.defined()) {
    input.gradient = std::move(gradient);
    return;
  }
  const Tensor sum = input.gradient.is_only_owner() ? input.gradient : stream().empty(input.shape, input.dtype);
  stream().launch(kernels::Add{as_matrix(input.gradient), as_matrix(gradient), as_matrix(sum)});
  input.gradient = sum;
}

Tensor BackwardPass::own_output_gradient() {
  Tape::Node& self = *tape_.nodes_[static_cast<std::size_t>(node_)];
  if (self.gradient.is_only_owner()) {
    return self.gradient;
  }
  return stream().convert(self.gradient, self.dtype);
}

}  // namespace flyover::autograd
