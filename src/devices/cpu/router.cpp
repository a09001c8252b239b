#include <cmath>

#include "devices/cpu/families.h"
#include "devices/cpu/router_balance.h"
#include "devices/cpu/row_access.h"
#include "devices/cpu/vector_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "devices/cpu/router.cpp"
#include <hwy/foreach_target.h>

#include "devices/cpu/router_choice.h"
#include "devices/cpu/vector_math.h"

HWY_BEFORE_NAMESPACE();
namespace flyover::devices::cpu::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3

using kernels::RouterScore;

/// Work for a row of the loops, in elements of an elementwise kernel.
constexpr std::int64_t kWorkPerLogit = 4;

/// ln(1 + t) / t for t in [0, 1]: 2 / (2 + t) * (1 + w q(w)), the series of 2 artanh(z) for z = t / (2 + t) and
/// w = z^2, with q exact at the four Chebyshev nodes of w <= 1/9 (relative error 2e-8).
HWY_INLINE Vector log1p_over(Vector t) {
  const Tag tag;
  const Vector reciprocal = hn::Div(hn::Set(tag, 1.0f), hn::Add(hn::Set(tag, 2.0f), t));
  const Vector z = hn::Mul(t, reciprocal);
  const Vector w = hn::Mul(z, z);
  Vector q = hn::MulAdd(hn::Set(tag, 0.13425749f), w, hn::Set(tag, 0.141183099f));
  q = hn::MulAdd(q, w, hn::Set(tag, 0.200037803f));
  q = hn::MulAdd(q, w, hn::Set(tag, 0.333333202f));
  return hn::Mul(hn::Add(reciprocal, reciprocal), hn::MulAdd(w, q, hn::Set(tag, 1.0f)));
}

// Each kind of score: of a logit, and its derivative where the score is s.

struct Sigmoid {
  static HWY_INLINE Vector score(Vector x) { return sigmoid(x); }
  static HWY_INLINE Vector slope(Vector, Vector s) { return hn::Mul(s, hn::Sub(hn::Set(Tag(), 1.0f), s)); }
};

struct SqrtSoftplus {
  static HWY_INLINE Vector score(Vector x) {
    const Tag tag;
    const Vector half = exponential(hn::Mul(hn::Set(tag, -0.5f), hn::Abs(x)));
    const Vector t = hn::Mul(half, half);
    // The order of the operands of Max matters: on x86 it returns the second one if either is NaN.
    const Vector softplus = hn::MulAdd(t, log1p_over(t), hn::Max(hn::Zero(tag), x));
    return hn::IfThenElse(hn::Lt(x, hn::Set(tag, -20.0f)), half, hn::Sqrt(softplus));
  }
  static HWY_INLINE Vector slope(Vector x, Vector s) {
    const Tag tag;
    const Vector half = hn::Set(tag, 0.5f);
    const Vector above = hn::Div(hn::Mul(half, sigmoid(x)), s);
    return hn::IfThenElse(hn::Lt(x, hn::Set(tag, -20.0f)), hn::Mul(half, s), above);
  }
};

/// Its score takes the whole row. The slope is that of gradients whose mean, weighted with the scores, is 0.
struct Softmax {
  static HWY_INLINE Vector slope(Vector, Vector s) { return s; }
};

template <typename Body>
void with_score(RouterScore score, const Body& body) {
  switch (score) {
    case RouterScore::kSoftmax:
      return body(Softmax{});
    case RouterScore::kSigmoid:
      return body(Sigmoid{});
    case RouterScore::kSqrtSoftplus:
      return body(SqrtSoftplus{});
  }
}

template <typename Score>
void score_row(Score, const float* logits, std::int64_t count, float* scores) {
  for_each_vector(count, [&](std::int64_t j, auto lanes)
                             FLYOVER_VECTOR_BODY { store(Score::score(load(logits + j, lanes)), scores + j, lanes); });
}

void score_row(Softmax, const float* logits, std::int64_t count, float* scores) {
  const Vector lowest = hn::Set(Tag(), -std::numeric_limits<float>::infinity());
  const Vector largest = hn::Set(
      Tag(), largest_of(fold_vectors(count, lowest, [&](Vector so_far, std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
        return hn::Max(so_far, keep_lanes(load(logits + j, lanes), lowest, lanes));
      })));
  const float sum =
      sum_of(fold_vectors(count, hn::Zero(Tag()), [&](Vector so_far, std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
        const Vector power = exponential(hn::Sub(load(logits + j, lanes), largest));
        store(power, scores + j, lanes);
        return hn::Add(so_far, keep_lanes(power, hn::Zero(Tag()), lanes));
      }));
  const Vector divisor = hn::Set(Tag(), sum);
  for_each_vector(count, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
    store(hn::Div(load(scores + j, lanes), divisor), scores + j, lanes);
  });
}

/// The scores of the chosen experts; of those alone where they do not depend on the others.
template <typename Score>
void score_chosen(Score score, const float* logits, std::int64_t, const std::int32_t* chosen, std::int64_t choices,
                  float* scores) {
  alignas(64) float gathered[kernels::kMaximumChoices];
  for (std::int64_t i = 0; i < choices; ++i) {
    gathered[i] = logits[chosen[i]];
  }
  score_row(score, gathered, choices, scores);
}
void score_chosen(Softmax score, const float* logits, std::int64_t experts, const std::int32_t* chosen,
                  std::int64_t choices, float* scores) {
  alignas(64) float all[kernels::kMaximumExperts];
  score_row(score, logits, experts, all);
  for (std::int64_t i = 0; i < choices; ++i) {
    scores[i] = all[chosen[i]];
  }
}

void write_weights(const kernels::RouterRule& rule, const float* scores, std::int64_t choices, float* weights) {
  float sum = 0;
  for (std::int64_t i = 0; i < choices; ++i) {
    sum += scores[i];
  }
  const float divisor = rule.normalise ? sum + kernels::kRouterEpsilon : 1.0f;
  for (std::int64_t i = 0; i < choices; ++i) {
    weights[i] = rule.scale * scores[i] / divisor;
  }
}

void router_forward(const kernels::RouterForward& kernel, const LaunchContext& context) {
  check_is_f32(kernel.kName, kernel.logits);
  const auto logits = rows_of<const float>(kernel.logits);
  const auto experts = rows_of<std::int32_t>(kernel.experts);
  const auto weights = rows_of<float>(kernel.weights);
  const auto* const bias = kernel.bias.has_value() ? static_cast<const float*>(kernel.bias->data) : nullptr;
  const std::int64_t count = logits.width, choices = experts.width;
  const std::int32_t* fixed = nullptr;
  if (kernel.fixed_experts.has_value()) {
    check_experts(kernel.kName, *kernel.fixed_experts, count);
    fixed = static_cast<const std::int32_t*>(kernel.fixed_experts->data);
  }
  with_score(kernel.rule.score, [&](auto score) HWY_ATTR {
    for_each_row(context.threads, logits.rows, count * kWorkPerLogit, [&](std::int64_t token) HWY_ATTR {
      std::int32_t* const chosen = experts[token];
      alignas(64) float scores[kernels::kMaximumExperts];
      alignas(64) float chosen_scores[kernels::kMaximumChoices];
      if (fixed != nullptr) {
        std::copy_n(fixed + token * choices, choices, chosen);
        score_chosen(score, logits[token], count, chosen, choices, chosen_scores);
      } else {
        score_row(score, logits[token], count, scores);
        choose_experts(kernel.rule, scores, bias, count, choices, chosen);
        for (std::int64_t i = 0; i < choices; ++i) {
          chosen_scores[i] = scores[chosen[i]];
        }
      }
      write_weights(kernel.rule, chosen_scores, choices, weights[token]);
    });
  });
}

/// The gradient of the chosen scores: what comes of the weights' through the normalisation.
void weights_backward(const kernels::RouterRule& rule, const float* scores, const float* dweights, std::int64_t choices,
                      float* dscores) {
  float sum = 0, product = 0;
  for (std::int64_t i = 0; i < choices; ++i) {
    sum += scores[i];
    product += dweights[i] * scores[i];
  }
  sum += kernels::kRouterEpsilon;
  for (std::int64_t i = 0; i < choices; ++i) {
    dscores[i] = rule.normalise ? rule.scale / sum * (dweights[i] - product / sum) : rule.scale * dweights[i];
  }
}

/// A row of dlogits, one kind of score.
template <typename Score>
void backward_row(Score score, const kernels::RouterRule& rule, const float* logits, std::int64_t experts,
                  const std::int32_t* chosen, const float* dweights, std::int64_t choices, float* dlogits) {
  alignas(64) float x[kernels::kMaximumChoices], scores[kernels::kMaximumChoices], dscores[kernels::kMaximumChoices];
  for (std::int64_t i = 0; i < choices; ++i) {
    x[i] = logits[chosen[i]];
  }
  score_row(score, x, choices, scores);
  weights_backward(rule, scores, dweights, choices, dscores);
  for_each_vector(choices, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
    const Vector slope = Score::slope(load(x + j, lanes), load(scores + j, lanes));
    store(hn::Mul(slope, load(dscores + j, lanes)), dscores + j, lanes);
  });
  std::fill_n(dlogits, experts, 0.0f);
  for (std::int64_t i = 0; i < choices; ++i) {
    dlogits[chosen[i]] += dscores[i];
  }
}

void backward_row(Softmax score, const kernels::RouterRule& rule, const float* logits, std::int64_t experts,
                  const std::int32_t* chosen, const float* dweights, std::int64_t choices, float* dlogits) {
  alignas(64) float all[kernels::kMaximumExperts];
  alignas(64) float scores[kernels::kMaximumChoices], dscores[kernels::kMaximumChoices];
  score_row(score, logits, experts, all);
  for (std::int64_t i = 0; i < choices; ++i) {
    scores[i] = all[chosen[i]];
  }
  weights_backward(rule, scores, dweights, choices, dscores);
  float mean = 0;
  for (std::int64_t i = 0; i < choices; ++i) {
    mean += dscores[i] * scores[i];
  }
  std::fill_n(dlogits, experts, 0.0f);
  for (std::int64_t i = 0; i < choices; ++i) {
    dlogits[chosen[i]] += dscores[i];
  }
  const Vector means = hn::Set(Tag(), mean);
  for_each_vector(experts, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
    store(hn::Mul(load(all + j, lanes), hn::Sub(load(dlogits + j, lanes), means)), dlogits + j, lanes);
  });
}

void router_backward(const kernels::RouterBackward& kernel, const LaunchContext& context) {
  check_is_f32(kernel.kName, kernel.logits);
  const auto logits = rows_of<const float>(kernel.logits);
  const auto experts = rows_of<const std::int32_t>(kernel.experts);
  const auto dweights = rows_of<const float>(kernel.dweights);
  const auto dlogits = rows_of<float>(kernel.dlogits);
  check_experts(kernel.kName, kernel.experts, logits.width);
  with_score(kernel.rule.score, [&](auto score) HWY_ATTR {
    for_each_row(context.threads, logits.rows, logits.width, [&](std::int64_t token) HWY_ATTR {
      backward_row(score, kernel.rule, logits[token], logits.width, experts[token], dweights[token], experts.width,
                   dlogits[token]);
    });
  });
}

void router_balance(const kernels::RouterBalance& kernel, const LaunchContext& context) {
  check_is_f32(kernel.kName, kernel.logits);
  const BalanceDocuments documents = count_choices(kernel, context);
  const auto logits = rows_of<const float>(kernel.logits);
  const auto dlogits = rows_of<float>(kernel.dlogits);
  const std::int64_t experts = logits.width;
  with_score(kernel.score, [&](auto score) HWY_ATTR {
    for_each_row(context.threads, logits.rows, experts * kWorkPerLogit, [&](std::int64_t token) HWY_ATTR {
      const std::int32_t document = documents.of_token[token];
      if (document < 0) {
        return;
      }
      alignas(64) float scores[kernels::kMaximumExperts];
      const float* const x = logits[token];
      const float* const f = documents.frequencies + document * experts;
      float* const dx = dlogits[token];
      score_row(score, x, experts, scores);
      const auto dot = [&](auto term) HWY_ATTR {
        return sum_of(
            fold_vectors(experts, hn::Zero(Tag()), [&](Vector sum, std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
              return term(sum, load(scores + j, lanes), load(f + j, lanes), lanes);
            }));
      };
      const float sum = kernels::kRouterEpsilon +
                        dot([](Vector so_far, Vector s, Vector, auto lanes)
                                FLYOVER_VECTOR_BODY { return hn::Add(so_far, keep_lanes(s, hn::Zero(Tag()), lanes)); });
      const float mean = dot([](Vector so_far, Vector s, Vector frequency, auto)
                                 FLYOVER_VECTOR_BODY { return hn::MulAdd(s, frequency, so_far); }) /
                         sum;
      documents.means[token] = mean;
      const Vector means = hn::Set(Tag(), mean), factor = hn::Set(Tag(), documents.factors[document] / sum);
      for_each_vector(experts, [&](std::int64_t j, auto lanes) FLYOVER_VECTOR_BODY {
        const Vector dscore = hn::Mul(factor, hn::Sub(load(f + j, lanes), means));
        const Vector slope = decltype(score)::slope(load(x + j, lanes), load(scores + j, lanes));
        store(hn::MulAdd(slope, dscore, load(dx + j, lanes)), dx + j, lanes);
      });
    });
  });
  add_balance_loss(kernel, documents);
}

void add_kernels(KernelTable& table) {
  table.set<kernels::RouterForward>(router_forward);
  table.set<kernels::RouterBackward>(router_backward);
  table.set<kernels::RouterBalance>(router_balance, balance_workspace);
}

#endif  // HWY_TARGET

}  // namespace
}  // namespace flyover::devices::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flyover::devices::cpu {

void add_router_kernels(KernelTable& table, InstructionSet set) {
  set == InstructionSet::kAvx2 ? N_AVX2::add_kernels(table) : N_AVX3::add_kernels(table);
  table.set<kernels::RouterBiasUpdate>(update_bias);
}

}  // namespace flyover::devices::cpu
#endif
