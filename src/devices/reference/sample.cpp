#include <numeric>

#include "devices/reference/families.h"
#include "devices/reference/softmax.h"

namespace flyover::devices::reference {
namespace {

/// All tokens, the most likely first, ties by lowest index. A NaN is the least likely of all.
std::vector<std::int32_t> by_falling_logit(const kernels::ConstView& logits, std::int64_t row) {
  const auto logit = [&](std::int32_t token) {
    const double value = Input(logits)(row, token);
    return std::isnan(value) ? -std::numeric_limits<double>::infinity() : value;
  };
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(logits.size(1)));
  std::iota(tokens.begin(), tokens.end(), 0);
  std::stable_sort(tokens.begin(), tokens.end(), [&](std::int32_t a, std::int32_t b) { return logit(a) > logit(b); });
  return tokens;
}

/// The token at which the cumulative sum of the kept tokens' probabilities, by index, exceeds `uniform` of their total.
/// `kept` holds all tokens, the most likely first.
std::int32_t draw(std::vector<std::int32_t> kept, const std::vector<double>& log_p, std::int32_t top_k, double top_p,
                  double uniform) {
  const auto probability = [&](std::int32_t token) { return std::exp(log_p[static_cast<std::size_t>(token)]); };
  const auto total = [&] {
    double sum = 0;
    for (const std::int32_t token : kept) {
      sum += probability(token);
    }
    return sum;
  };
  if (top_k > 0 && static_cast<std::size_t>(top_k) < kept.size()) {
    kept.resize(static_cast<std::size_t>(top_k));
  }
  if (top_p < 1.0) {
    const double wanted = top_p * total();
    double reached = probability(kept.front());
    std::size_t count = 1;
    while (count < kept.size() && reached < wanted) {
      reached += probability(kept[count]);
      ++count;
    }
    kept.resize(count);
  }
  std::sort(kept.begin(), kept.end());
  const double wanted = uniform * total();
  double cumulative = 0;
  for (const std::int32_t token : kept) {
    cumulative += probability(token);
    if (cumulative > wanted) {
      return token;
    }
  }
  return kept.back();
}

void sample(const kernels::Sample& kernel, const LaunchContext&) {
  const Input temperature(kernel.temperature), top_p(kernel.top_p), uniform(kernel.uniform);
  const auto top_k = integers(kernel.top_k);
  const Output log_probability(kernel.log_probability);
  for (std::int64_t i = 0; i < kernel.logits.size(0); ++i) {
    base::check(kernel.logits.size(1) > 0, "{}: an empty vocabulary", kernel.kName);
    const bool greedy = temperature(i) == 0.0;
    const std::vector<double> log_p = log_softmax(kernel.logits, i, greedy ? 1.0 : temperature(i));
    const std::vector<std::int32_t> tokens = by_falling_logit(kernel.logits, i);
    const std::int32_t token =
        greedy ? tokens.front() : draw(tokens, log_p, top_k[static_cast<std::size_t>(i)], top_p(i), uniform(i));
    store(address_of(kernel.token, i), token);
    log_probability(i) = log_p[static_cast<std::size_t>(token)];
  }
}

}  // namespace

void add_sample_kernels(KernelTable& table) {
  table.set<kernels::Sample>(sample);
}

}  // namespace flyover::devices::reference
