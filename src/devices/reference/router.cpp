#include <algorithm>
#include <numeric>

#include "devices/reference/element.h"
#include "devices/reference/families.h"
#include "kernels/attention.h"

namespace flyover::devices::reference {
namespace {

using kernels::RouterScore;

constexpr double kEpsilon = static_cast<double>(kernels::kRouterEpsilon);
constexpr double kInfinity = std::numeric_limits<double>::infinity();

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

/// The scores of a token's experts.
std::vector<double> scores_of(RouterScore score, const kernels::ConstView& logits, std::int64_t token) {
  const Input logit(logits);
  std::vector<double> scores;
  for (std::int64_t i = 0; i < logits.size(1); ++i) {
    scores.push_back(logit(token, i));
  }
  if (score == RouterScore::kSoftmax) {
    const double maximum = scores.empty() ? 0.0 : *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double& s : scores) {
      s = std::exp(s - maximum);
      sum += s;
    }
    for (double& s : scores) {
      s /= sum;
    }
    return scores;
  }
  for (double& s : scores) {
    if (score == RouterScore::kSigmoid) {
      s = sigmoid(s);
    } else {
      s = s < -20.0 ? std::exp(s / 2.0) : std::sqrt(std::max(s, 0.0) + std::log1p(std::exp(-std::fabs(s))));
    }
  }
  return scores;
}

/// dlogits from the gradients of all scores of a token.
std::vector<double> through_score(RouterScore score, const kernels::ConstView& logits, std::int64_t token,
                                  const std::vector<double>& scores, const std::vector<double>& dscores) {
  const Input logit(logits);
  const double mean = std::inner_product(scores.begin(), scores.end(), dscores.begin(), 0.0);
  std::vector<double> dlogits;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const double x = logit(token, static_cast<std::int64_t>(i)), s = scores[i];
    switch (score) {
      case RouterScore::kSoftmax:
        dlogits.push_back(s * (dscores[i] - mean));
        break;
      case RouterScore::kSigmoid:
        dlogits.push_back(s * (1.0 - s) * dscores[i]);
        break;
      case RouterScore::kSqrtSoftplus:
        dlogits.push_back((x < -20.0 ? s / 2.0 : sigmoid(x) / (2.0 * s)) * dscores[i]);
        break;
    }
  }
  return dlogits;
}

/// Indices of the `count` largest of the values among `candidates`, best first, of equal ones the lower index first.
std::vector<std::int64_t> largest(const std::vector<double>& values, std::vector<std::int64_t> candidates,
                                  std::int64_t count) {
  const auto value = [&](std::int64_t i) { return values[static_cast<std::size_t>(i)]; };
  std::stable_sort(candidates.begin(), candidates.end(),
                   [&](std::int64_t i, std::int64_t j) { return value(i) > value(j); });
  candidates.resize(static_cast<std::size_t>(count));
  return candidates;
}

std::vector<std::int64_t> range(std::int64_t begin, std::int64_t count) {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(count));
  std::iota(indices.begin(), indices.end(), begin);
  return indices;
}

/// The experts that may be chosen, in rising order: those of the groups with the largest sum of their two best.
std::vector<std::int64_t> candidates_of(const kernels::RouterRule& rule, const std::vector<double>& values) {
  const auto group_size = static_cast<std::int64_t>(values.size()) / rule.groups;
  std::vector<double> sums;
  for (std::int64_t group = 0; group < rule.groups; ++group) {
    double sum = 0;
    for (const std::int64_t i :
         largest(values, range(group * group_size, group_size), std::min<std::int64_t>(group_size, 2))) {
      sum += values[static_cast<std::size_t>(i)];
    }
    sums.push_back(std::isnan(sum) ? kInfinity : sum);  // of infinities of both signs
  }
  std::vector<std::int64_t> groups = largest(sums, range(0, rule.groups), rule.chosen_groups);
  std::sort(groups.begin(), groups.end());
  std::vector<std::int64_t> candidates;
  for (const std::int64_t group : groups) {
    const auto members = range(group * group_size, group_size);
    candidates.insert(candidates.end(), members.begin(), members.end());
  }
  return candidates;
}

/// Expert `choice` of a token. Throws InternalError if there is no such expert.
std::int64_t expert_at(std::string_view kernel, const kernels::ConstView& experts, std::int64_t token,
                       std::int64_t choice, std::int64_t count) {
  const std::int64_t expert = integers(experts)[static_cast<std::size_t>(token * experts.size(1) + choice)];
  base::check(expert >= 0 && expert < count, "{}: expert {} of token {}, of {} experts", kernel, expert, token, count);
  return expert;
}

std::vector<std::int64_t> choose(const kernels::RouterForward& kernel, std::int64_t token,
                                 const std::vector<double>& scores) {
  const std::int64_t choices = kernel.experts.size(1);
  if (kernel.fixed_experts.has_value()) {
    std::vector<std::int64_t> chosen;
    for (std::int64_t i = 0; i < choices; ++i) {
      chosen.push_back(expert_at(kernel.kName, *kernel.fixed_experts, token, i, kernel.logits.size(1)));
    }
    return chosen;
  }
  std::vector<double> values = scores;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (kernel.bias.has_value()) {
      values[i] += Input(*kernel.bias)(static_cast<std::int64_t>(i));
    }
    if (std::isnan(values[i])) {
      values[i] = kInfinity;
    }
  }
  return largest(values, candidates_of(kernel.rule, values), choices);
}

void router_forward(const kernels::RouterForward& kernel, const LaunchContext&) {
  const Output weights(kernel.weights);
  const std::int64_t choices = kernel.experts.size(1);
  for (std::int64_t token = 0; token < kernel.logits.size(0); ++token) {
    const std::vector<double> scores = scores_of(kernel.rule.score, kernel.logits, token);
    const std::vector<std::int64_t> chosen = choose(kernel, token, scores);
    double sum = 0;
    for (const std::int64_t expert : chosen) {
      sum += scores[static_cast<std::size_t>(expert)];
    }
    const double divisor = kernel.rule.normalise ? sum + kEpsilon : 1.0;
    for (std::int64_t i = 0; i < choices; ++i) {
      const std::int64_t expert = chosen[static_cast<std::size_t>(i)];
      store(address_of(kernel.experts, token, i), static_cast<std::int32_t>(expert));
      weights(token, i) = static_cast<double>(kernel.rule.scale) * scores[static_cast<std::size_t>(expert)] / divisor;
    }
  }
}

void router_backward(const kernels::RouterBackward& kernel, const LaunchContext&) {
  const Input dweights(kernel.dweights);
  const Output dlogits(kernel.dlogits);
  const std::int64_t experts = kernel.logits.size(1), choices = kernel.experts.size(1);
  const auto scale = static_cast<double>(kernel.rule.scale);
  for (std::int64_t token = 0; token < kernel.logits.size(0); ++token) {
    const std::vector<double> scores = scores_of(kernel.rule.score, kernel.logits, token);
    double sum = kEpsilon, product = 0;
    for (std::int64_t i = 0; i < choices; ++i) {
      const double s = scores[static_cast<std::size_t>(expert_at(kernel.kName, kernel.experts, token, i, experts))];
      sum += s;
      product += dweights(token, i) * s;
    }
    std::vector<double> dscores(scores.size());
    for (std::int64_t i = 0; i < choices; ++i) {
      const std::int64_t expert = expert_at(kernel.kName, kernel.experts, token, i, experts);
      const double dweight = dweights(token, i);
      dscores[static_cast<std::size_t>(expert)] +=
          kernel.rule.normalise ? scale / sum * (dweight - product / sum) : scale * dweight;
    }
    const std::vector<double> gradient = through_score(kernel.rule.score, kernel.logits, token, scores, dscores);
    for (std::int64_t i = 0; i < experts; ++i) {
      dlogits(token, i) = gradient[static_cast<std::size_t>(i)];
    }
  }
}

/// One document of RouterBalance: tokens [first, first + count). Returns sum_i f_i P_i.
double balance_document(const kernels::RouterBalance& kernel, std::int64_t first, std::int64_t count, double weight) {
  const Output dlogits(kernel.dlogits);
  const std::int64_t experts = kernel.logits.size(1), choices = kernel.experts.size(1);
  const auto tokens = static_cast<double>(count);
  std::vector<double> f(static_cast<std::size_t>(experts));
  for (std::int64_t token = first; token < first + count; ++token) {
    for (std::int64_t i = 0; i < choices; ++i) {
      f[static_cast<std::size_t>(expert_at(kernel.kName, kernel.experts, token, i, experts))] +=
          static_cast<double>(experts) / (static_cast<double>(choices) * tokens);
    }
  }
  double total = 0;
  for (std::int64_t token = first; token < first + count; ++token) {
    const std::vector<double> scores = scores_of(kernel.score, kernel.logits, token);
    const double sum = std::accumulate(scores.begin(), scores.end(), kEpsilon);
    const double mean = std::inner_product(scores.begin(), scores.end(), f.begin(), 0.0) / sum;
    total += mean / tokens;
    std::vector<double> dscores;
    for (const double f_i : f) {
      dscores.push_back(weight / tokens * (f_i - mean) / sum);
    }
    const std::vector<double> gradient = through_score(kernel.score, kernel.logits, token, scores, dscores);
    for (std::int64_t i = 0; i < experts; ++i) {
      dlogits(token, i) += gradient[static_cast<std::size_t>(i)];
    }
  }
  return total;
}

void router_balance(const kernels::RouterBalance& kernel, const LaunchContext&) {
  const Input document_weights(kernel.document_weights);
  const std::span sequences = integers(kernel.sequences);
  double loss = 0;
  for (std::int64_t document = 0; document < kernel.sequences.size(0); ++document) {
    const std::int32_t* row = sequences.data() + document * kernels::kSequenceColumns;
    const std::int64_t first = row[kernels::kFirstQuery], count = row[kernels::kQueries];
    base::check(first >= 0 && count >= 0 && first + count <= kernel.logits.size(0),
                "{}: document {} has tokens {} to {} of {}", kernel.kName, document, first, first + count,
                kernel.logits.size(0));
    const double weight = static_cast<double>(kernel.coefficient) * document_weights(document);
    loss += weight * balance_document(kernel, first, count, weight);
  }
  const Output total(kernel.loss);
  total(0) += loss;
}

void router_bias_update(const kernels::RouterBiasUpdate& kernel, const LaunchContext&) {
  const Output load(kernel.load), bias(kernel.bias);
  const std::int64_t experts = kernel.load.size(0);
  double mean = 0;
  for (std::int64_t i = 0; i < experts; ++i) {
    mean += load(i);
  }
  mean /= static_cast<double>(experts);
  for (std::int64_t i = 0; i < experts; ++i) {
    const double excess = mean - load(i);
    const double sign = excess > 0 ? 1.0 : excess < 0 ? -1.0 : 0.0;
    bias(i) += static_cast<double>(kernel.speed) * sign;
    load(i) = 0.0;
  }
}

}  // namespace

void add_router_kernels(KernelTable& table) {
  table.set<kernels::RouterForward>(router_forward);
  table.set<kernels::RouterBackward>(router_backward);
  table.set<kernels::RouterBalance>(router_balance);
  table.set<kernels::RouterBiasUpdate>(router_bias_update);
}

}  // namespace flyover::devices::reference
