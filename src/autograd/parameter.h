// Parameters: what is trained, what it is called in checkpoints, and where it lies.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "tensor/stream.h"

namespace flyover::autograd {

using tensor::Dims;
using tensor::DType;
using tensor::Tensor;

/// Handle of a parameter within its ParameterSet. The tape saves handles, never the storage behind them.
enum class ParameterId : std::int32_t {};

/// A tensor of the checkpoint that is part of a parameter: rows [first_row, first_row + shape[0]) of its first axis.
struct CheckpointSlice {
  std::string name;  ///< in the model directory, for example "model.layers.0.self_attn.q_proj.weight"
  Dims shape;        ///< in the model directory
  std::int64_t first_row = 0;
};

/// What a parameter is, for optimizers: decides on weight decay and, later, on which update rule.
enum class ParameterRole : std::uint8_t { kMatrix, kEmbedding, kOutput, kNorm, kBias };

/// What a model says of a parameter before it exists.
struct ParameterSpec {
  std::string name;  ///< of the parameter itself, for recipes' patterns and for messages
  Dims shape;
  ParameterRole role = ParameterRole::kMatrix;
  std::vector<CheckpointSlice> slices;  ///< in row order, covering the parameter exactly
};

/// A parameter: its value in the compute type, the fp32 master copy where that differs, and the fp32 gradient.
struct Parameter {
  ParameterSpec spec;
  Tensor value;   ///< [shape] bf16 | f32: what kernels read
  Tensor master;  ///< [shape] f32; the same storage as `value` when computing in f32, undefined when not training
  Tensor
      gradient;  ///< [shape] f32, accumulated over the micro-batches of a step; undefined when frozen or not training
  bool trainable = false;
};

/// Which copies of the parameters exist.
enum class ParameterUse : std::uint8_t { kInference, kTraining };

/// All parameters of a model, in the order of their creation.
class ParameterSet {
 public:
  /// Throws InternalError if the slices do not cover the parameter exactly or a name is taken.
  ParameterId add(ParameterSpec spec);

  Parameter& operator[](ParameterId id) { return parameters_[static_cast<std::size_t>(id)]; }
  const Parameter& operator[](ParameterId id) const { return parameters_[static_cast<std::size_t>(id)]; }
  std::vector<Parameter>& all() { return parameters_; }
  const std::vector<Parameter>& all() const { return parameters_; }
  /// Number of elements of all parameters.
  std::int64_t elements() const;

  /// Allocates values (undefined contents) in `compute`, and for training masters where `compute` is not f32, and
  /// gradients of the parameters whose `trainable` is set.
  void allocate(tensor::Stream& stream, DType compute, ParameterUse use);
  /// Sets all gradients to zero.
  void zero_gradients(tensor::Stream& stream);

 private:
  std::vector<Parameter> parameters_;
  std::unordered_set<std::string> names_;
};

}  // namespace flyover::autograd
