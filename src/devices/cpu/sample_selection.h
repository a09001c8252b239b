// Which token a row of probabilities yields: top-k, top-p and the draw. No vector code.
#pragma once

#include <cstdint>
#include <span>

namespace flyover::devices::cpu {

/// A token and its logit, for ordering tokens by likelihood.
struct SampleCandidate {
  float logit;
  std::int32_t token;
};

/// What the draw is restricted to.
struct SampleLimits {
  std::int32_t top_k = 0;  ///< 0 = all
  float top_p = 1.0f;      ///< 1 = all
};

/// The token drawn from `weights` (proportional to the probabilities, with a positive finite sum; [vocabulary]) under
/// the limits by inverting the cumulative sum, by token, at `uniform`. Likelier is what has the larger of `logits`
/// (which hold no NaN), then the lower index. `scratch` holds [vocabulary] candidates.
std::int32_t draw_token(std::span<const float> logits, std::span<const float> weights, SampleLimits limits,
                        float uniform, std::span<SampleCandidate> scratch);

}  // namespace flyover::devices::cpu
