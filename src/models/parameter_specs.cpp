#include "models/parameter_specs.h"

#include <fmt/core.h>

namespace flyover::models {

using autograd::ParameterRole;
using autograd::ParameterSpec;
using tensor::Dims;

ParameterSpec single(const std::string& name, const Dims& shape, ParameterRole role,
                     autograd::ParameterStorage storage) {
  return {name, shape, role, {{name, shape, 0}}, storage};
}

ParameterSpec stacked(const std::string& name, const std::vector<RowsPart>& parts, std::int64_t columns,
                      ParameterRole role) {
  ParameterSpec spec{name, {}, role, {}};
  std::int64_t rows = 0;
  for (const RowsPart& part : parts) {
    const Dims shape = columns == 0 ? Dims{part.rows} : Dims{part.rows, columns};
    spec.slices.push_back({part.name, shape, columns == 0 ? rows : rows * columns});
    spec.matrix_rows.push_back(part.rows);
    rows += part.rows;
  }
  spec.shape = columns == 0 ? Dims{rows} : Dims{rows, columns};
  return spec;
}

ParameterSpec stacked_experts(const std::string& name, std::int64_t experts, std::int64_t columns,
                              const std::function<std::vector<RowsPart>(std::int64_t expert)>& parts) {
  ParameterSpec spec{name, {}, ParameterRole::kMatrix, {}};
  std::int64_t element = 0;
  for (std::int64_t expert = 0; expert < experts; ++expert) {
    for (const RowsPart& part : parts(expert)) {
      spec.slices.push_back({part.name, {part.rows, columns}, element});
      element += part.rows * columns;
      if (expert == 0) {
        spec.matrix_rows.push_back(part.rows);
      }
    }
  }
  spec.shape = {experts, element / (experts * columns), columns};
  return spec;
}

ParameterSpec merged_experts(const std::string& name, const Dims& shape, const std::vector<std::int64_t>& matrix_rows) {
  ParameterSpec spec = single(name, shape, ParameterRole::kMatrix);
  spec.matrix_rows = matrix_rows;
  return spec;
}

ExpertSpecs expert_specs(const ExpertNames& names, std::int64_t experts, std::int64_t hidden, std::int64_t width,
                         const StoredNames& stored) {
  const std::string gate_up = names.prefix + ".gate_up_proj", down = names.prefix + ".down_proj";
  if (stored && stored(gate_up)) {
    return {merged_experts(gate_up, {experts, 2 * width, hidden}, {width, width}),
            merged_experts(down, {experts, hidden, width}, {hidden})};
  }
  const auto name = [&](std::int64_t expert, const std::string& matrix) {
    return fmt::format("{}.{}.{}.weight", names.prefix, expert, matrix);
  };
  return {stacked_experts(
              gate_up, experts, hidden,
              [&](std::int64_t expert) {
                return std::vector<RowsPart>{{name(expert, names.gate), width}, {name(expert, names.up), width}};
              }),
          stacked_experts(down, experts, width, [&](std::int64_t expert) {
            return std::vector<RowsPart>{{name(expert, names.down), hidden}};
          })};
}

void count_parameters(const autograd::ParameterSet& parameters, autograd::ParameterId output, ModelSummary& summary) {
  for (const autograd::Parameter& parameter : parameters.all()) {
    const ParameterSpec& spec = parameter.spec;
    const bool indices = spec.storage == autograd::ParameterStorage::kIndices;
    const std::int64_t elements = indices ? 0 : spec.shape.elements();
    if (spec.trained_by == autograd::TrainedBy::kFurtherPrediction) {
      summary.prediction_parameters += elements;
      continue;
    }
    const std::int64_t active = spec.shape.rank() == 3 ? elements / summary.experts * summary.choices : elements;
    const bool is_output = &parameter == &parameters[output];
    if (is_output || spec.role != ParameterRole::kEmbedding) {
      summary.active_parameters += active;
    }
    if (is_output || (spec.role == ParameterRole::kMatrix && spec.trained_by != autograd::TrainedBy::kIndexer)) {
      summary.matrix_parameters += active;
    }
  }
}

}  // namespace flyover::models
