// The weights of the published Qwen3-MoE checkpoints in FP8 ("Qwen3-30B-A3B-FP8" and larger), and how they are stored.
#pragma once

#include <string>
#include <vector>

#include "models/qwen3_moe/config.h"
#include "models/released_weights.h"

namespace flyover::models::qwen3_moe {

/// The projections of attention, MLPs and experts in FP8 with bf16 scales; routers, norms, biases, embedding and output
/// layer in bf16.
std::vector<ReleasedWeight> released_weights(const Config& config);

/// The output layer and the routers.
std::vector<std::string> plain_modules(const Config& config);

}  // namespace flyover::models::qwen3_moe
