#include "devices/cpu/sample_selection.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <numeric>

namespace flyover::devices::cpu {
namespace {

/// The likelier token first, ties by lowest index: a total order.
struct IsLikelier {
  bool operator()(const SampleCandidate& a, const SampleCandidate& b) const {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
  }
};

/// The tokens whose logit is at least `bound`.
std::span<SampleCandidate> candidates_from(std::span<const float> logits, float bound,
                                           std::span<SampleCandidate> scratch) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    scratch[count] = {logits[i], static_cast<std::int32_t>(i)};
    count += logits[i] >= bound ? 1 : 0;
  }
  return scratch.first(count);
}

/// A logit that at least `count` tokens reach, but not many more: the vocabulary is dealt to as many hands as there are
/// maxima, and the largest `count` of these are different tokens.
float bound_of_likeliest(std::span<const float> logits, std::size_t count) {
  std::array<float, 1024> maxima;
  maxima.fill(-std::numeric_limits<float>::infinity());
  if (4 * count > maxima.size()) {
    return maxima[0];
  }
  for (std::size_t begin = 0; begin < logits.size(); begin += maxima.size()) {
    const std::size_t end = std::min(maxima.size(), logits.size() - begin);
    for (std::size_t i = 0; i < end; ++i) {
      maxima[i] = std::max(maxima[i], logits[begin + i]);
    }
  }
  const auto last = maxima.begin() + static_cast<std::ptrdiff_t>(count) - 1;
  std::nth_element(maxima.begin(), last, maxima.end(), std::greater<>());
  return *last;
}

std::span<SampleCandidate> likeliest(std::span<const float> logits, std::size_t count,
                                     std::span<SampleCandidate> scratch) {
  const std::span<SampleCandidate> candidates = candidates_from(logits, bound_of_likeliest(logits, count), scratch);
  std::nth_element(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(count) - 1, candidates.end(),
                   IsLikelier());
  return candidates.first(count);
}

/// The smallest number of likeliest candidates whose weights sum to top_p of the total; at least one. By bisection of
/// the order rather than by sorting: linear time.
std::span<SampleCandidate> likeliest_share(std::span<SampleCandidate> candidates, std::span<const float> weights,
                                           float top_p) {
  const auto weight_of = [&](const SampleCandidate& candidate) {
    return static_cast<double>(weights[static_cast<std::size_t>(candidate.token)]);
  };
  const auto sum_with = [&](double sum, const SampleCandidate& candidate) { return sum + weight_of(candidate); };
  const double total = std::accumulate(candidates.begin(), candidates.end(), 0.0, sum_with);
  const double wanted = static_cast<double>(top_p) * total;
  // All the candidates below this weight together have less than half of what the share leaves out.
  const double cutoff = 0.5 * (total - wanted) / static_cast<double>(candidates.size());
  auto end = std::partition(candidates.begin(), candidates.end(),
                            [&](const SampleCandidate& candidate) { return weight_of(candidate) >= cutoff; });
  // The last of the share lies in [begin, end); the candidates before begin are likelier and sum to `reached`.
  auto begin = candidates.begin();
  double reached = 0;
  while (end - begin > 32) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, IsLikelier());
    const double sum = std::accumulate(begin, middle, reached, sum_with);
    if (sum >= wanted) {
      end = middle;
    } else {
      reached = sum;
      begin = middle;
    }
  }
  std::sort(begin, end, IsLikelier());
  while (begin < end) {
    reached = sum_with(reached, *begin++);
    if (reached >= wanted) {
      break;
    }
  }
  return {candidates.begin(), begin};
}

/// Inverts the cumulative sum of the weights of the tokens token_at(0), token_at(1), ... at `uniform`.
template <typename TokenAt>
std::int32_t invert(std::size_t count, std::span<const float> weights, float uniform, const TokenAt& token_at) {
  const auto weight_at = [&](std::size_t i) {
    return static_cast<double>(weights[static_cast<std::size_t>(token_at(i))]);
  };
  double total = 0;
  for (std::size_t i = 0; i < count; ++i) {
    total += weight_at(i);
  }
  // The second sum runs like the first and so ends at the total, below which uniform < 1 leaves what is wanted.
  const double wanted = static_cast<double>(uniform) * total;
  double cumulative = 0;
  std::size_t drawn = 0;
  for (std::size_t i = 0; i < count && cumulative <= wanted; ++i) {
    cumulative += weight_at(i);
    drawn = weight_at(i) > 0 ? i : drawn;
  }
  return token_at(drawn);
}

}  // namespace

std::int32_t draw_token(std::span<const float> logits, std::span<const float> weights, SampleLimits limits,
                        float uniform, std::span<SampleCandidate> scratch) {
  const bool limits_count = limits.top_k > 0 && static_cast<std::size_t>(limits.top_k) < logits.size();
  if (!limits_count && limits.top_p >= 1.0f) {
    return invert(logits.size(), weights, uniform, [](std::size_t i) { return static_cast<std::int32_t>(i); });
  }
  std::span<SampleCandidate> candidates =
      limits_count ? likeliest(logits, static_cast<std::size_t>(limits.top_k), scratch)
                   : candidates_from(logits, -std::numeric_limits<float>::infinity(), scratch);
  if (limits.top_p < 1.0f) {
    candidates = likeliest_share(candidates, weights, limits.top_p);
  }
  std::sort(candidates.begin(), candidates.end(),
            [](const SampleCandidate& a, const SampleCandidate& b) { return a.token < b.token; });
  return invert(candidates.size(), weights, uniform, [&](std::size_t i) { return candidates[i].token; });
}

}  // namespace flyover::devices::cpu
