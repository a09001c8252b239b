#include "models/parameter_specs.h"

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

}  // namespace flyover::models
