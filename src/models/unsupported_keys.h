// Keys of config.json with which models that resemble a family compute something else than it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace flyover::models {

/// What a family computes.
struct ForwardPass {
  std::string_view model_type;
  std::int64_t attention_width = 0;          ///< the softmax's arguments are divided by its root
  std::vector<std::string_view> known = {};  ///< keys which mean something in the family itself
};

/// Throws Error naming file and key where a key that the family does not know would change the forward pass: a window,
/// a factor, a bias, another class or activation, ... Values that change nothing are accepted.
void refuse_unsupported_keys(const base::Json& config, std::string_view source, const ForwardPass& forward);

}  // namespace flyover::models
