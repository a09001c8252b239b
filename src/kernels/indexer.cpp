#include "kernels/indexer.h"

#include "kernels/checks.h"

namespace flyover::kernels {
namespace {

/// q [queries, heads, width], rows [entry rows, width] of the same type, sequences.
template <typename Kernel>
void check_products(const Kernel& kernel, std::string_view field, const ConstView& rows) {
  constexpr std::string_view kName = Kernel::kName;
  check_shape(kName, "q", kernel.q, {-1, -1, -1});
  check_floating(kName, "q", kernel.q);
  check_last_axis_dense(kName, "q", kernel.q);
  check_shape(kName, field, rows, {-1, kernel.q.size(2)});
  check_dtype(kName, field, rows, {kernel.q.dtype});
  check_last_axis_dense(kName, field, rows);
  check_shape(kName, "sequences", kernel.sequences, {-1, kSharedColumns});
  check_dtype(kName, "sequences", kernel.sequences, {DType::kI32});
  check_dense(kName, "sequences", kernel.sequences);
  check_shape(kName, "selected", kernel.selected, {kernel.q.size(0), -1});
  check_dtype(kName, "selected", kernel.selected, {DType::kI32});
  check_dense(kName, "selected", kernel.selected);
}

/// A dense tensor of the type of statistics: [queries] or [queries, columns].
template <typename Kernel>
void check_statistics(const Kernel& kernel, std::string_view field, const ConstView& view,
                      std::initializer_list<std::int64_t> shape) {
  check_shape(Kernel::kName, field, view, shape);
  check_dtype(Kernel::kName, field, view, {statistics_dtype(kernel.q.dtype)});
  check_dense(Kernel::kName, field, view);
}

}  // namespace

void IndexerSelect::check() const {
  check_products(*this, "k", k);
  check_statistics(*this, "weights", weights, {q.size(0), q.size(1)});
  check_view(ratio > 0, kName, "an entry stands for at least one token", k);
  if (scores.has_value()) {
    check_statistics(*this, "scores", *scores, {q.size(0), selected.size(1)});
  }
}

Cost IndexerSelect::cost() const {
  return {2 * visible_pairs * q.size(1) * (q.size(2) + 1), operand_bytes(*this)};
}

void IndexerTarget::check() const {
  check_products(*this, "entries", entries);
  check_statistics(*this, "log_sum_exp", log_sum_exp, {q.size(0), q.size(1)});
  check_statistics(*this, "target", target, {q.size(0), selected.size(1)});
  check_view(ratio > 0, kName, "an entry stands for at least one token", entries);
}

// How many of the places in the lists are taken is known to the device alone: all of them count.
Cost IndexerTarget::cost() const {
  return {2 * selected.elements() * q.size(1) * q.size(2), operand_bytes(*this)};
}

void IndexerLoss::check() const {
  check_products(*this, "k", k);
  check_statistics(*this, "weights", weights, {q.size(0), q.size(1)});
  check_statistics(*this, "scores", scores, {q.size(0), selected.size(1)});
  check_statistics(*this, "target", target, {q.size(0), selected.size(1)});
  check_statistics(*this, "token_weights", token_weights, {q.size(0)});
  check_statistics(*this, "loss", loss, {1});
  check_shape(kName, "dq", dq, {q.size(0), q.size(1), q.size(2)});
  check_dtype(kName, "dq", dq, {q.dtype});
  check_last_axis_dense(kName, "dq", dq);
  check_shape(kName, "dk", dk, {k.size(0), k.size(1)});
  check_dtype(kName, "dk", dk, {k.dtype});
  check_last_axis_dense(kName, "dk", dk);
  check_statistics(*this, "dweights", dweights, {q.size(0), q.size(1)});
  check_view(ratio > 0, kName, "an entry stands for at least one token", k);
}

// Three products: the score of each head again, dq and dk.
Cost IndexerLoss::cost() const {
  return {6 * selected.elements() * q.size(1) * q.size(2), operand_bytes(*this)};
}

}  // namespace flyover::kernels
