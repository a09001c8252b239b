// The weights of the published DeepSeek-V3 checkpoint, and how they are stored (file headers of DeepSeek-V3).
#pragma once

#include <vector>

#include "models/deepseek_v3/config.h"
#include "models/released_weights.h"

namespace flyover::models::deepseek_v3 {

/// FP8 projections with f32 scales, and the rest in bf16 and f32; where the configuration has a prediction block, with
/// that and its copies of embedding and output layer.
std::vector<ReleasedWeight> released_weights(const Config& config);

}  // namespace flyover::models::deepseek_v3
