#include "kernels/router.h"

#include "kernels/attention.h"
#include "kernels/checks.h"

namespace flyover::kernels {
namespace {

void check_logits(std::string_view kernel, const ConstView& logits) {
  check_shape(kernel, "logits", logits, {-1, -1});
  check_dtype(kernel, "logits", logits, {DType::kF32, DType::kF64});
  check_last_axis_dense(kernel, "logits", logits);
  check_view(logits.size(1) <= kMaximumExperts, kernel, "a router has at most 1024 experts", logits);
}

void check_choices(std::string_view kernel, const ConstView& logits, std::string_view field, const ConstView& view) {
  check_shape(kernel, field, view, {logits.size(0), -1});
  check_dense(kernel, field, view);
  check_view(view.size(1) >= 1 && view.size(1) <= kMaximumChoices, kernel, "a router makes 1 to 32 choices", view);
  check_view(view.size(1) <= logits.size(1), kernel, "there are fewer experts than choices", view);
}

void check_experts(std::string_view kernel, const ConstView& logits, std::string_view field, const ConstView& experts) {
  check_choices(kernel, logits, field, experts);
  check_dtype(kernel, field, experts, {DType::kI32});
}

void check_dlogits(std::string_view kernel, const ConstView& logits, const ConstView& dlogits) {
  check_shape(kernel, "dlogits", dlogits, {logits.size(0), logits.size(1)});
  check_dtype(kernel, "dlogits", dlogits, {logits.dtype});
  check_last_axis_dense(kernel, "dlogits", dlogits);
}

void check_vector(std::string_view kernel, std::string_view field, const ConstView& view, std::int64_t size,
                  DType dtype) {
  check_shape(kernel, field, view, {size});
  check_dtype(kernel, field, view, {dtype});
  check_dense(kernel, field, view);
}

// A score is about as much work as this many operations: an exponential, perhaps a logarithm, a division or a root.
constexpr std::int64_t kScoreFlops = 20;

}  // namespace

void RouterForward::check() const {
  check_logits(kName, logits);
  check_experts(kName, logits, "experts", experts);
  check_choices(kName, logits, "weights", weights);
  check_shape(kName, "weights", weights, {-1, experts.size(1)});
  check_dtype(kName, "weights", weights, {logits.dtype});
  if (bias.has_value()) {
    check_vector(kName, "bias", *bias, logits.size(1), DType::kF32);
  }
  if (fixed_experts.has_value()) {
    check_experts(kName, logits, "fixed_experts", *fixed_experts);
    check_shape(kName, "fixed_experts", *fixed_experts, {-1, experts.size(1)});
  }
  check_view(rule.groups >= 1 && logits.size(1) % rule.groups == 0, kName, "the groups do not divide the experts",
             logits);
  check_view(rule.chosen_groups >= 1 && rule.chosen_groups <= rule.groups, kName,
             "more groups are chosen than there are", logits);
  check_view(fixed_experts.has_value() || rule.chosen_groups * (logits.size(1) / rule.groups) >= experts.size(1), kName,
             "the chosen groups have fewer experts than choices", experts);
}
Cost RouterForward::cost() const {
  return {kScoreFlops * logits.elements() + 3 * weights.elements(), operand_bytes(*this)};
}

void RouterBackward::check() const {
  check_logits(kName, logits);
  check_experts(kName, logits, "experts", experts);
  check_choices(kName, logits, "dweights", dweights);
  check_shape(kName, "dweights", dweights, {-1, experts.size(1)});
  check_dtype(kName, "dweights", dweights, {logits.dtype});
  check_dlogits(kName, logits, dlogits);
}
Cost RouterBackward::cost() const {
  // Without a softmax the scores of the chosen experts are enough.
  const std::int64_t scores = rule.score == RouterScore::kSoftmax ? logits.elements() : experts.elements();
  return {(kScoreFlops + 4) * scores + 8 * experts.elements(), operand_bytes(*this)};
}

void RouterBalance::check() const {
  check_logits(kName, logits);
  check_experts(kName, logits, "experts", experts);
  check_shape(kName, "sequences", sequences, {-1, kSequenceColumns});
  check_dtype(kName, "sequences", sequences, {DType::kI32});
  check_dense(kName, "sequences", sequences);
  check_vector(kName, "document_weights", document_weights, sequences.size(0), logits.dtype);
  check_vector(kName, "loss", loss, 1, logits.dtype);
  check_dlogits(kName, logits, dlogits);
}
Cost RouterBalance::cost() const {
  return {(kScoreFlops + 10) * logits.elements(), operand_bytes(*this)};
}

void RouterBiasUpdate::check() const {
  check_shape(kName, "load", load, {-1});
  check_vector(kName, "load", load, load.size(0), DType::kF32);
  check_vector(kName, "bias", bias, load.size(0), DType::kF32);
}
Cost RouterBiasUpdate::cost() const {
  return {4 * load.elements(), operand_bytes(*this)};
}

}  // namespace flyover::kernels
