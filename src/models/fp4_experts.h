// Quantisation-aware training of models whose experts are published in FP4.
#pragma once

#include <string_view>

#include "base/json.h"
#include "models/language_model.h"

namespace flyover::models {

/// The configuration of a model trained for FP4: says so under "expert_dtype", which makes its indexers compute with
/// rounded queries and keys. `source` names the file. Throws Error for a family without FP4 experts.
base::Json trained_for_fp4(const base::Json& config, std::string_view source);

/// Makes the model's experts compute with weights rounded to FP4 (autograd::Parameter::rounds_to_fp4). Before its
/// parameters are allocated. Throws Error for matrices whose rows are not whole blocks of FP4.
void round_experts_to_fp4(LanguageModel& model);

}  // namespace flyover::models
