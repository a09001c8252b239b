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
  check_shape(kName, "v", kernel.v, {kernel.k.size(0), kernel.k.size(1), -1});
  check_dtype(kName, "v", kernel.v, {kernel.q.dtype});
  check_last_axis_dense(kName, "v", kernel.v);
  check_shape(kName, "y", kernel.y, {kernel.q.size(0), kernel.q.size(1), kernel.v.size(2)});
  check_dtype(kName, "y", kernel.y, {kernel.q.dtype});
  check_last_axis_dense(kName, "y", kernel.y);
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
  return {2 * visible_pairs * q.size(1) * (q.size(2) + v.size(2)), operand_bytes(*this)};
}

void AttentionBackward::check() const {
  check_inputs(*this);
  check_shape(kName, "k", k, {q.size(0), -1, -1});
  check_heads(kName, "dy", dy, y);
  check_heads(kName, "dq", dq, q);
  check_heads(kName, "dk", dk, k);
  check_heads(kName, "dv", dv, v);
}

// Three products of the width of the keys and two of that of the values; the recomputed q k' is work of this algorithm,
// not of the mathematics.
Cost AttentionBackward::cost() const {
  return {2 * visible_pairs * q.size(1) * (3 * q.size(2) + 2 * v.size(2)), operand_bytes(*this)};
}

}  // namespace flyover::kernels
