#include "models/fp4_experts.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace flyover::models {

base::Json trained_for_fp4(const base::Json& config, std::string_view source) {
  const std::string family = base::get_string(config, "model_type", source);
  base::require(
      family == "deepseek_v4",
      "quantisation_aware: fp4 is for models whose experts are published in FP4 (deepseek_v4), not for {} ({})", family,
      source);
  base::Json result = config;
  result["expert_dtype"] = "fp4";
  return result;
}

void round_experts_to_fp4(LanguageModel& model) {
  for (autograd::Parameter& parameter : model.parameters().all()) {
    const tensor::Dims& shape = parameter.spec.shape;
    if (shape.rank() != 3 || parameter.spec.role != autograd::ParameterRole::kMatrix) {
      continue;
    }
    base::require(shape[2] % kernels::kFp4BlockWidth == 0,
                  "quantisation_aware: the rows of {} are {} wide; FP4 needs multiples of {} (hidden_size and "
                  "moe_intermediate_size)",
                  parameter.spec.name, shape[2], kernels::kFp4BlockWidth);
    parameter.rounds_to_fp4 = true;
  }
}

}  // namespace flyover::models
