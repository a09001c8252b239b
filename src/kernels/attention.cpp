#include "kernels/attention.h"

#include "kernels/checks.h"

namespace flyover::kernels {
namespace {

void check_heads(std::string_view kernel, std::string_view field, const ConstView& view, const ConstView& like) {
  check_shape(kernel, field, view, {like.size(0), like.size(1), like.size(2)});
  check_dtype(kernel, field, view, {like.dtype});
  check_last_axis_dense(kernel, field, view);
}

template <typename Kernel>
void check_inputs(const Kernel& kernel) {
  constexpr std::string_view kName = Kernel::kName;
  check_shape(kName, "q", kernel.q, {-1, -1, -1});
  check_floating(kName, "q", kernel.q);
  check_last_axis_dense(kName, "q", kernel.q);
  check_shape(kName, "k", kernel.k, {-1, -1, kernel.q.size(2)});
  check_dtype(kName, "k", kernel.k, {kernel.q.dtype});
  check_last_axis_dense(kName, "k", kernel.k);
  check_heads(kName, "v", kernel.v, kernel.k);
  check_heads(kName, "y", kernel.y, kernel.q);
  check_view(kernel.k.size(1) > 0 && kernel.q.size(1) % kernel.k.size(1) == 0, kName,
             "heads must be a multiple of the key-value heads", kernel.q);
  check_shape(kName, "log_sum_exp", kernel.log_sum_exp, {kernel.q.size(0), kernel.q.size(1)});
  check_dtype(kName, "log_sum_exp", kernel.log_sum_exp, {statistics_dtype(kernel.q.dtype)});
  check_dense(kName, "log_sum_exp", kernel.log_sum_exp);
  check_shape(kName, "sequences", kernel.sequences, {-1, kSequenceColumns});
  check_dtype(kName, "sequences", kernel.sequences, {DType::kI32});
  check_dense(kName, "sequences", kernel.sequences);
}

}  // namespace

void AttentionForward::check() const {
  check_inputs(*this);
}

Cost AttentionForward::cost() const {
  return {4 * visible_pairs * q.size(1) * q.size(2), operand_bytes(*this)};
}

void AttentionBackward::check() const {
  check_inputs(*this);
  check_shape(kName, "k", k, {q.size(0), -1, -1});
  check_heads(kName, "dy", dy, q);
  check_heads(kName, "dq", dq, q);
  check_heads(kName, "dk", dk, k);
  check_heads(kName, "dv", dv, k);
}

// Five products of the same size; the recomputed q k' is work of this algorithm, not of the mathematics.
Cost AttentionBackward::cost() const {
  return {10 * visible_pairs * q.size(1) * q.size(2), operand_bytes(*this)};
}

}  // namespace flyover::kernels
