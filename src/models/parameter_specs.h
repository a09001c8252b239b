// How the tensors of a checkpoint form a parameter: what the families' lists of weights are written in.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "autograd/parameter.h"
#include "models/language_model.h"

namespace flyover::models {

/// A parameter that is one tensor of the checkpoint.
autograd::ParameterSpec single(const std::string& name, const tensor::Dims& shape, autograd::ParameterRole role,
                               autograd::ParameterStorage storage = autograd::ParameterStorage::kCompute);

/// A tensor of the checkpoint that gives some rows of a parameter.
struct RowsPart {
  std::string name;
  std::int64_t rows;
};

/// Tensors of the checkpoint stacked on their first axis; `columns` = 0 for vectors.
autograd::ParameterSpec stacked(const std::string& name, const std::vector<RowsPart>& parts, std::int64_t columns,
                                autograd::ParameterRole role);

/// A parameter [experts, rows, columns] of which the checkpoint has, for each expert in turn, the given parts (`parts`
/// gives their names).
autograd::ParameterSpec stacked_experts(const std::string& name, std::int64_t experts, std::int64_t columns,
                                        const std::function<std::vector<RowsPart>(std::int64_t expert)>& parts);

/// The same as one tensor of the checkpoint; `matrix_rows` as in ParameterSpec.
autograd::ParameterSpec merged_experts(const std::string& name, const tensor::Dims& shape,
                                       const std::vector<std::int64_t>& matrix_rows);

/// How a checkpoint calls the matrices of a layer's experts: "<prefix>.<expert>.<gate>.weight", and so on; or, merged,
/// "<prefix>.gate_up_proj" [experts, 2 * width, hidden] and "<prefix>.down_proj" [experts, hidden, width].
struct ExpertNames {
  std::string prefix;
  std::string gate;
  std::string up;
  std::string down;
};
struct ExpertSpecs {
  autograd::ParameterSpec gate_up;
  autograd::ParameterSpec down;
};
/// Merged where `stored` knows the merged names, else one tensor per expert and matrix.
ExpertSpecs expert_specs(const ExpertNames& names, std::int64_t experts, std::int64_t hidden, std::int64_t width,
                         const StoredNames& stored);

/// Fills the counts of parameters in a summary whose `experts` and `choices` are known. Parameters with three axes are
/// experts: a token meets those of its `choices` only. Tables of indices are no parameters. `output`: the output layer;
/// where it is the embedding as well, it counts as the output layer.
void count_parameters(const autograd::ParameterSet& parameters, autograd::ParameterId output, ModelSummary& summary);

}  // namespace flyover::models
