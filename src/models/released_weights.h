// How a family's weights are published: for planning and converting checkpoints without building a model.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "models/language_model.h"

namespace flyover::models {

/// How a published weight is stored. FP8: e4m3 with ue8m0, f32 or bf16 scales of 128 x 128 blocks; FP4: e2m1, two in a
/// byte, with ue8m0 scales of 32 elements of a row.
enum class ReleasedAs : std::uint8_t { kBf16, kF32, kI64, kFp8, kFp8WithF32Scales, kFp8WithBf16Scales, kFp4 };

/// A weight as the model computes with it, and how the published files store it.
struct ReleasedWeight {
  std::string name;
  tensor::Dims shape;
  ReleasedAs stored = ReleasedAs::kBf16;
};

/// Every weight of the published checkpoint of a model with this configuration, with the names that `stored` knows
/// (none: the published ones). Empty for families other than DeepSeek-V3, DeepSeek-V4 and Qwen3-MoE. `source` names
/// the file in messages. Throws Error as make_model does.
std::vector<ReleasedWeight> released_weights(const base::Json& config, std::string_view source,
                                             const StoredNames& stored = {});

/// What the published configuration lists as "modules_to_not_convert": linear layers that other programs would take for
/// quantised ones otherwise. Empty for families without such a list.
std::vector<std::string> plain_modules(const base::Json& config, std::string_view source);

}  // namespace flyover::models
