// Cases of the kernels of kernels/router.h. A choice is an integer: it must not hang on the rounding of a score. So
// logits lie on grids on which scores (and the sums of two scores) are equal or differ by far more than fp32 rounds,
// and biases are far apart.
#include <cmath>

#include "base/random.h"
#include "devices/support/kernel_cases.h"
#include "kernels/attention.h"

namespace flyover::tests {

using kernels::DType;
using kernels::RouterScore;
using kernels::View;
using Magnitudes = std::vector<Magnitude>;

namespace {

RouterScore any_score(OperandMaker& make) {
  return make.one_of({RouterScore::kSoftmax, RouterScore::kSigmoid, RouterScore::kSqrtSoftplus});
}

struct Sizes {
  std::int64_t tokens, experts, choices;
};

/// The logits of a router may be a part of a wider matrix.
Sizes make_sizes(OperandMaker& make) {
  const std::int64_t experts = make.size(make.below(8) == 0 ? 1024 : 90);
  return {make.count(40), experts, 1 + make.below(std::min<std::int64_t>(experts, make.coin() ? 6 : 32))};
}

/// Multiples of `step` from -6 to 6, plus a bit, so that no two sums of scores are equal by symmetry alone.
View make_grid(OperandMaker& make, DType dtype, const Sizes& sizes, double step) {
  const View logits = make.blank(dtype, {sizes.tokens, sizes.experts}, Layout::kGaps);
  const auto steps = static_cast<std::int64_t>(6.0 / step);
  for (std::int64_t i = 0; i < logits.elements(); ++i) {
    set_element(logits, i, 0.0703125 + step * static_cast<double>(make.below(2 * steps + 1) - steps));
  }
  return logits;
}

/// [tokens, choices], distinct in each row.
View make_experts(OperandMaker& make, const Sizes& sizes) {
  const View experts = make.blank(DType::kI32, {sizes.tokens, sizes.choices});
  for (std::int64_t token = 0; token < sizes.tokens; ++token) {
    const base::Permutation expert_of(base::Random(3, base::RandomPurpose::kTest, static_cast<std::uint64_t>(token),
                                                   static_cast<std::uint64_t>(make.number())),
                                      static_cast<std::uint64_t>(sizes.experts));
    for (std::int64_t i = 0; i < sizes.choices; ++i) {
      set_element(experts, token * sizes.choices + i, static_cast<double>(expert_of(static_cast<std::uint64_t>(i))));
    }
  }
  return experts;
}

kernels::RouterRule make_rule(OperandMaker& make) {
  kernels::RouterRule rule;
  rule.score = any_score(make);
  rule.normalise = make.coin();
  rule.scale = make.one_of({1.0f, 2.5f, 0.3f});
  return rule;
}

/// Groups of equal size, from some of which experts are chosen.
void make_groups(OperandMaker& make, Sizes& sizes, kernels::RouterRule& rule) {
  rule.groups = 2 + make.below(7);
  rule.chosen_groups = 1 + make.below(rule.groups);
  const std::int64_t group_size = make.size(16);
  sizes.experts = rule.groups * group_size;
  sizes.choices = 1 + make.below(std::min<std::int64_t>(rule.chosen_groups * group_size, 12));
}

}  // namespace

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::RouterForward& kernel) {
  const DType wide = kernels::statistics_dtype(dtype);
  Sizes sizes = make_sizes(make);
  kernel.rule = make_rule(make);
  const bool grouped = make.number() > 2 && make.below(3) == 0;
  if (grouped) {
    make_groups(make, sizes, kernel.rule);
  }
  kernel.logits = make_grid(make, wide, sizes, grouped ? 0.25 : 0x1p-6);
  if (kernel.rule.score != RouterScore::kSoftmax && make.coin()) {  // beside a bias small shares of a softmax vanish
    const View bias = make.blank(DType::kF32, {sizes.experts});
    for (std::int64_t i = 0; i < sizes.experts; ++i) {
      set_element(bias, i, make.one_of({0.0, 0.0, 16.0, -16.0}));
    }
    kernel.bias = bias;
  }
  if (make.number() % 4 == 3) {
    kernel.fixed_experts = make_experts(make, sizes);
    kernel.logits = make.random(wide, {sizes.tokens, sizes.experts}, Layout::kGaps, make.one_of({1.0, 30.0}));
  }
  kernel.experts = make.blank(DType::kI32, {sizes.tokens, sizes.choices});
  kernel.weights = make.blank(wide, {sizes.tokens, sizes.choices});
  return {{"weights", 1e-17}};  // a score near the end of fp32's range may be taken for 0
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::RouterBackward& kernel) {
  const DType wide = kernels::statistics_dtype(dtype);
  const Sizes sizes = make_sizes(make);
  kernel.rule = make_rule(make);
  kernel.logits = make.random(wide, {sizes.tokens, sizes.experts}, Layout::kGaps, make.one_of({1.0, 4.0, 20.0}));
  kernel.experts = make_experts(make, sizes);
  kernel.dweights = make.random(wide, {sizes.tokens, sizes.choices});
  kernel.dlogits = make.blank(wide, {sizes.tokens, sizes.experts}, Layout::kGaps);
  return {{"dlogits", 1.0}};
}

Magnitudes make_case(OperandMaker& make, DType dtype, kernels::RouterBalance& kernel) {
  const DType wide = kernels::statistics_dtype(dtype);
  const Sizes sizes = make_sizes(make);
  kernel.score = any_score(make);
  kernel.coefficient = make.one_of({0.001f, 0.5f});
  kernel.logits = make.random(wide, {sizes.tokens, sizes.experts}, Layout::kGaps, make.one_of({1.0, 4.0}));
  kernel.experts = make_experts(make, sizes);
  std::vector<std::pair<std::int64_t, std::int64_t>> documents;
  for (std::int64_t first = make.below(3); first < sizes.tokens;) {
    const std::int64_t count = make.below(std::min<std::int64_t>(sizes.tokens - first, 15) + 1);
    documents.emplace_back(first, count);
    first += count + make.one_of<std::int64_t>({0, 0, 1});
    if (documents.size() > 30) {
      break;
    }
  }
  const auto count = static_cast<std::int64_t>(documents.size());
  const View sequences = make.blank(DType::kI32, {count, kernels::kSequenceColumns});
  for (std::int64_t i = 0; i < count; ++i) {
    const auto [first, tokens] = documents[static_cast<std::size_t>(i)];
    set_element(sequences, i * kernels::kSequenceColumns + kernels::kFirstQuery, static_cast<double>(first));
    set_element(sequences, i * kernels::kSequenceColumns + kernels::kQueries, static_cast<double>(tokens));
  }
  kernel.sequences = sequences;
  kernel.document_weights = make.uniform(wide, {count}, 0.0, 1.0);
  kernel.loss = make.random(wide, {1});
  kernel.dlogits = make.random(wide, {sizes.tokens, sizes.experts}, Layout::kGaps, 0.01);
  return {{"loss", 4.0}, {"dlogits", 0.01}};
}

Magnitudes make_case(OperandMaker& make, DType, kernels::RouterBiasUpdate& kernel) {
  const std::int64_t experts = make.count(300);
  kernel.load = make.blank(DType::kF32, {experts});
  kernel.bias = make.random(DType::kF32, {experts});
  const std::int64_t bound = make.one_of<std::int64_t>({1, 3, 20000});
  for (std::int64_t i = 0; i < experts; ++i) {
    set_element(kernel.load, i, static_cast<double>(make.below(bound)));
  }
  kernel.speed = make.one_of({0.001f, 0.0f});
  return {{"bias", 1.0}};
}

}  // namespace flyover::tests
