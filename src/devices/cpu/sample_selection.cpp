#include "devices/cpu/sample_selection.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace flyover::devices::cpu {
namespace {

/// The more likely token first, ties by lowest index. A total order, for no candidate is NaN.
bool is_before(const SampleCandidate& a, const SampleCandidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

struct IsBefore {
  bool operator()(const SampleCandidate& a, const SampleCandidate& b) const { return is_before(a, b); }
};

/// How many candidates, the likeliest first, it takes until their weight reaches `wanted`; at least one. Sorts only as
/// far as needed, in growing chunks.
std::size_t count_until(std::span<SampleCandidate> candidates, std::span<const float> weights, double wanted) {
  double reached = 0;
  std::size_t begin = 0;
  for (std::size_t chunk = 64; begin < candidates.size(); chunk *= 4) {
    const std::size_t end = std::min(candidates.size(), begin + chunk);
    const auto first = candidates.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto last = candidates.begin() + static_cast<std::ptrdiff_t>(end);
    if (end < candidates.size()) {
      std::nth_element(first, last, candidates.end(), IsBefore());
    }
    std::sort(first, last, IsBefore());
    for (std::size_t i = begin; i < end; ++i) {
      reached += static_cast<double>(weights[static_cast<std::size_t>(candidates[i].token)]);
      if (reached >= wanted) {
        return i + 1;
      }
    }
    begin = end;
  }
  return candidates.size();
}

/// The least likely token that the limits allow.
SampleCandidate last_allowed(std::span<const float> logits, std::span<const float> weights, SampleLimits limits,
                             std::span<SampleCandidate> candidates) {
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const float logit = std::isnan(logits[i]) ? -std::numeric_limits<float>::infinity() : logits[i];
    candidates[i] = {logit, static_cast<std::int32_t>(i)};
  }
  if (limits.top_k > 0 && static_cast<std::size_t>(limits.top_k) < candidates.size()) {
    std::nth_element(candidates.begin(), candidates.begin() + limits.top_k - 1, candidates.end(), IsBefore());
    candidates = candidates.first(static_cast<std::size_t>(limits.top_k));
  }
  if (limits.top_p < 1.0f) {
    double total = 0;
    for (const SampleCandidate& candidate : candidates) {
      total += static_cast<double>(weights[static_cast<std::size_t>(candidate.token)]);
    }
    candidates = candidates.first(count_until(candidates, weights, static_cast<double>(limits.top_p) * total));
  }
  return *std::max_element(candidates.begin(), candidates.end(), IsBefore());
}

}  // namespace

std::int32_t draw_token(std::span<const float> logits, std::span<const float> weights, SampleLimits limits,
                        float uniform, std::span<SampleCandidate> scratch) {
  const bool limited =
      (limits.top_k > 0 && static_cast<std::size_t>(limits.top_k) < logits.size()) || limits.top_p < 1.0f;
  SampleCandidate last{-std::numeric_limits<float>::infinity(), std::numeric_limits<std::int32_t>::max()};
  if (limited) {
    last = last_allowed(logits, weights, limits, scratch);
  }
  const auto weight_of = [&](std::size_t i) {
    const bool allowed = !is_before(last, {logits[i], static_cast<std::int32_t>(i)});
    return allowed ? static_cast<double>(weights[i]) : 0.0;
  };
  double total = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    total += weight_of(i);
  }
  if (!(total > 0) || std::isinf(total)) {
    return -1;
  }
  // The second sum runs like the first and so ends at the total, which uniform < 1 leaves below.
  const double wanted = static_cast<double>(uniform) * total;
  double cumulative = 0;
  std::int32_t drawn = -1;
  for (std::size_t i = 0; i < logits.size() && !(cumulative > wanted); ++i) {
    const double weight = weight_of(i);
    cumulative += weight;
    if (weight > 0) {
      drawn = static_cast<std::int32_t>(i);
    }
  }
  return drawn;
}

}  // namespace flyover::devices::cpu
