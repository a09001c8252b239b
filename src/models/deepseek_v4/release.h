// The weights of the published DeepSeek-V4 checkpoints, and how they are stored (model cards and file headers of
// DeepSeek-V4-Flash and DeepSeek-V4-Pro).
#pragma once

#include <vector>

#include "models/deepseek_v4/config.h"
#include "models/deepseek_v4/names.h"
#include "models/released_weights.h"

namespace flyover::models::deepseek_v4 {

/// FP4 experts, FP8 projections, and the rest in bf16 and f32; with the prediction block where the configuration has
/// one.
std::vector<ReleasedWeight> released_weights(const Config& config, const Names& names = Names(NameStyle::kPublished));

}  // namespace flyover::models::deepseek_v4
