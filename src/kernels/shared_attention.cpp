#include "kernels/shared_attention.h"

#include "kernels/checks.h"

namespace flyover::kernels {
namespace {

void check_like(std::string_view kernel, std::string_view field, const ConstView& view, const ConstView& q) {
  check_shape(kernel, field, view, {q.size(0), q.size(1), q.size(2)});
  check_dtype(kernel, field, view, {q.dtype});
  check_last_axis_dense(kernel, field, view);
}

void check_keys(std::string_view kernel, std::string_view field, const ConstView& view, const ConstView& q) {
  check_shape(kernel, field, view, {-1, q.size(2)});
  check_dtype(kernel, field, view, {q.dtype});
  check_last_axis_dense(kernel, field, view);
}

template <typename Kernel>
void check_visibility(const Kernel& kernel) {
  constexpr std::string_view kName = Kernel::kName;
  const SharedVisibility& visibility = kernel.visibility;
  check_view(visibility.window > 0, kName, "the window must hold a token", kernel.keys);
  check_view(visibility.ratio >= 0 && (visibility.ratio > 0) == kernel.entries.has_value(), kName,
             "entries must be present where there are tokens to an entry", kernel.keys);
  check_view(visibility.ring >= 0 && visibility.ring % kSharedKeyTile == 0, kName,
             "a ring must be a whole number of key tiles", kernel.keys);
  if (kernel.entries.has_value()) {
    check_keys(kName, "entries", *kernel.entries, kernel.q);
  }
  if (kernel.selected.has_value()) {
    check_view(kernel.entries.has_value(), kName, "there are no entries to select from", *kernel.selected);
    check_shape(kName, "selected", *kernel.selected, {kernel.q.size(0), -1});
    check_dtype(kName, "selected", *kernel.selected, {DType::kI32});
    check_dense(kName, "selected", *kernel.selected);
  }
}

template <typename Kernel>
void check_inputs(const Kernel& kernel) {
  constexpr std::string_view kName = Kernel::kName;
  check_shape(kName, "q", kernel.q, {-1, -1, -1});
  check_floating(kName, "q", kernel.q);
  check_last_axis_dense(kName, "q", kernel.q);
  check_keys(kName, "keys", kernel.keys, kernel.q);
  check_visibility(kernel);
  const DType statistics = statistics_dtype(kernel.q.dtype);
  if (kernel.sink.has_value()) {
    check_shape(kName, "sink", *kernel.sink, {kernel.q.size(1)});
    check_dtype(kName, "sink", *kernel.sink, {statistics});
    check_dense(kName, "sink", *kernel.sink);
  }
  check_like(kName, "y", kernel.y, kernel.q);
  check_shape(kName, "log_sum_exp", kernel.log_sum_exp, {kernel.q.size(0), kernel.q.size(1)});
  check_dtype(kName, "log_sum_exp", kernel.log_sum_exp, {statistics});
  check_dense(kName, "log_sum_exp", kernel.log_sum_exp);
  check_shape(kName, "sequences", kernel.sequences, {-1, kSharedColumns});
  check_dtype(kName, "sequences", kernel.sequences, {DType::kI32});
  check_dense(kName, "sequences", kernel.sequences);
}

}  // namespace

void SharedAttentionForward::check() const {
  check_inputs(*this);
}

Cost SharedAttentionForward::cost() const {
  return {4 * visible_pairs * q.size(1) * q.size(2), operand_bytes(*this)};
}

void SharedAttentionBackward::check() const {
  check_inputs(*this);
  check_view(visibility.ring == 0, kName, "there is no ring in training", keys);
  check_shape(kName, "keys", keys, {q.size(0), -1});
  check_like(kName, "dy", dy, q);
  check_like(kName, "dq", dq, q);
  check_keys(kName, "dkeys", dkeys, q);
  check_shape(kName, "dkeys", dkeys, {keys.size(0), -1});
  check_view(dentries.has_value() == entries.has_value(), kName, "entries and their gradients come together", keys);
  if (dentries.has_value()) {
    check_keys(kName, "dentries", *dentries, q);
    check_shape(kName, "dentries", *dentries, {entries->size(0), -1});
  }
  check_view(dsink.has_value() == sink.has_value(), kName, "the sink and its gradient come together", keys);
  if (dsink.has_value()) {
    check_shape(kName, "dsink", *dsink, {q.size(1)});
    check_dtype(kName, "dsink", *dsink, {sink->dtype});
    check_dense(kName, "dsink", *dsink);
  }
}

// Five products of the same size: a key's gradient has two parts, as key and as value, and q . key is recomputed.
Cost SharedAttentionBackward::cost() const {
  return {10 * visible_pairs * q.size(1) * q.size(2), operand_bytes(*this)};
}

}  // namespace flyover::kernels
