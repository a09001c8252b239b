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

/// A tensor of the checkpoint that is part of a parameter: its elements lie together, in the same order. A parameter of
/// shape [experts, out, in] may be cut into matrices of some rows of one expert.
struct CheckpointSlice {
  std::string name;  ///< in the model directory, for example "model.layers.0.self_attn.q_proj.weight"
  Dims shape;        ///< in the model directory
  std::int64_t first_element = 0;
  /// The slice's elements of a tensor of the parameter's shape: [elements], sharing the storage.
  Tensor of(const Tensor& parameter) const {
    return parameter.reshape({parameter.elements()}).rows(first_element, shape.elements());
  }
};

/// What a parameter is, for optimizers: decides on weight decay and on the update rule.
enum class ParameterRole : std::uint8_t {
  kMatrix,
  kEmbedding,
  kOutput,
  kNorm,
  kBias,    ///< biases, gates, sinks: what shifts or scales and is not multiplied with activations
  kBalance  ///< moved by a rule of its own, never by a gradient: the bias of a router's choice
};

/// In which type a parameter is stored and computed with.
enum class ParameterStorage : std::uint8_t {
  kCompute,  ///< the model's compute type, bf16 or f32, with an f32 master copy in training
  kExact,    ///< f32 always: what reports and checkpoints demand in full precision
  kIndices   ///< i32, never trained: tables of expert numbers
};

/// Whose gradients reach a parameter. Without that loss it must be frozen: weight decay alone would move it.
enum class TrainedBy : std::uint8_t {
  kPrediction,         ///< the loss of the next token; others may add to it
  kFurtherPrediction,  ///< only the loss of the token after the next
  kIndexer             ///< only the indexers' own loss
};

/// What a model says of a parameter before it exists.
struct ParameterSpec {
  std::string name;  ///< of the parameter itself, for recipes' patterns and for messages
  Dims shape;
  ParameterRole role = ParameterRole::kMatrix;
  std::vector<CheckpointSlice> slices;  ///< in order, covering the parameter exactly
  ParameterStorage storage = ParameterStorage::kCompute;
  /// Rows (of the last axis) of each logically independent matrix, in order, repeated until the parameter is covered;
  /// empty = the last two axes are one matrix. What Muon orthogonalises.
  std::vector<std::int64_t> matrix_rows = {};

  /// Of kIndices: every index is below it.
  std::int64_t index_limit = 0;

  TrainedBy trained_by = TrainedBy::kPrediction;

  /// Whether gradients move it.
  bool has_gradient() const { return storage != ParameterStorage::kIndices && role != ParameterRole::kBalance; }
};

/// A parameter: its value in the compute type, the fp32 master copy where that differs, and the fp32 gradient.
struct Parameter {
  ParameterSpec spec;
  Tensor value;   ///< [shape] bf16 | f32 | i32: what kernels read
  Tensor master;  ///< [shape] f32; the same storage as `value` when computing in f32 (unless `value` is rounded),
                  ///< undefined when not training
  Tensor
      gradient;  ///< [shape] f32, accumulated over the micro-batches of a step; undefined when frozen or not training
  bool trainable = false;
  /// Quantisation-aware training: the value is the master rounded to FP4 (kernels::RoundToFp4), which the master's
  /// gradient does not see. Set before allocating.
  bool rounds_to_fp4 = false;
};

/// value = master (or the value itself, where there is no master) rounded to FP4, for a parameter that does so: after
/// every change of the master.
void round_value(tensor::Stream& stream, const Parameter& parameter);

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
  /// Number of elements of all parameters; tables of indices are none.
  std::int64_t elements() const;

  /// Allocates values (undefined contents) in `compute`, and for training masters where `compute` is not f32 or the
  /// value is rounded, and gradients of the parameters whose `trainable` is set.
  void allocate(tensor::Stream& stream, DType compute, ParameterUse use);
  /// round_value for all.
  void round_values(tensor::Stream& stream) const;
  /// Sets all gradients to zero.
  void zero_gradients(tensor::Stream& stream);

 private:
  std::vector<Parameter> parameters_;
  std::unordered_set<std::string> names_;
};

}  // namespace flyover::autograd
