#include <algorithm>
#include <cmath>

#include "devices/support/kernel_cases.h"
#include "devices/support/shared_documents.h"

namespace flyover::tests {

using kernels::DType;
using kernels::View;

namespace {

struct Heads {
  std::int64_t heads;
  std::int64_t width;
};

/// Cases of the largest heads in use, with few tokens.
bool is_large(const OperandMaker& make) {
  return make.number() % 20 == 13;
}

Heads make_heads(OperandMaker& make) {
  if (is_large(make)) {
    return {64, 128};
  }
  const std::int64_t heads = make.number() == 1 ? 1 : make.one_of<std::int64_t>({1, 2, 3, 4, 8, 13});
  return {heads, make.one_of<std::int64_t>({8, 16, 32, 64, make.size(80)})};
}

SharedDocuments make_documents(OperandMaker& make, bool cached) {
  return make_shared_documents(make, {1, make.one_of<std::int64_t>({1, 2, 4, 4, 7}), 0}, cached,
                               is_large(make) ? 12 : 150);
}

std::int64_t make_limit(OperandMaker& make) {
  return make.one_of<std::int64_t>({0, 1, 3, 20, 64, 130});
}

/// The view's numbers become multiples of 1/4 up to 2: products and their sums are exact, and many of them equal.
void make_exact(const View& view) {
  for (std::int64_t i = 0; i < view.elements(); ++i) {
    const double value = element(view, i);
    if (!std::isnan(value)) {
      set_element(view, i, std::clamp(std::round(value * 4) / 4, -2.0, 2.0));
    }
  }
}

}  // namespace

std::vector<Magnitude> make_case(OperandMaker& make, DType dtype, kernels::IndexerSelect& kernel) {
  const Heads heads = make_heads(make);
  const SharedDocuments documents = make_documents(make, make.coin());
  const DType statistics = kernels::statistics_dtype(dtype);
  const View q = make_query_rows(make, dtype, documents, heads.heads, heads.width);
  const View k = make_entry_rows(make, dtype, documents, heads.width);
  const View weights = make.random(statistics, {documents.queries, heads.heads});
  for (const View& view : {q, k, weights}) {
    make_exact(view);
  }
  kernel.q = q;
  kernel.k = k;
  kernel.weights = weights;
  kernel.sequences = make_shared_sequences(make, documents);
  const std::int64_t limit = make_limit(make);
  kernel.selected = make.blank(DType::kI32, {documents.queries, limit});
  if (make.coin()) {
    kernel.scores = make.blank(statistics, {documents.queries, limit});
  }
  kernel.ratio = documents.visibility.ratio;
  kernel.visible_pairs = documents.visible_entry_pairs();
  return {};
}

std::vector<Magnitude> make_case(OperandMaker& make, DType dtype, kernels::IndexerTarget& kernel) {
  const Heads heads = make_heads(make);
  const SharedDocuments documents = make_documents(make, make.coin());
  const DType statistics = kernels::statistics_dtype(dtype);
  const std::int64_t limit = make_limit(make);
  kernel.q = make_query_rows(make, dtype, documents, heads.heads, heads.width);
  kernel.entries = make_entry_rows(make, dtype, documents, heads.width);
  kernel.log_sum_exp = make.uniform(statistics, {documents.queries, heads.heads}, 1.0, 6.0);
  kernel.selected = make_lists(make, documents, limit);
  kernel.sequences = make_shared_sequences(make, documents);
  kernel.target = make.blank(statistics, {documents.queries, limit});
  kernel.scale = static_cast<float>(make.one_of({1.0, 0.3, -1.0}) / std::sqrt(static_cast<double>(heads.width)));
  kernel.ratio = documents.visibility.ratio;
  return {};
}

std::vector<Magnitude> make_case(OperandMaker& make, DType dtype, kernels::IndexerLoss& kernel) {
  const Heads heads = make_heads(make);
  const SharedDocuments documents = make_documents(make, false);
  const DType statistics = kernels::statistics_dtype(dtype);
  const std::int64_t limit = make_limit(make);
  kernel.q = make_query_rows(make, dtype, documents, heads.heads, heads.width);
  kernel.k = make_entry_rows(make, dtype, documents, heads.width);
  kernel.weights = make.random(statistics, {documents.queries, heads.heads}, Layout::kDense, 0.5);
  const View selected = make_lists(make, documents, limit);
  kernel.selected = selected;
  kernel.scores = make.random(statistics, {documents.queries, limit}, Layout::kDense, 2.0);
  const View target = make.uniform(statistics, {documents.queries, limit}, 0.0, 1.0);
  for (std::int64_t row = 0; row < documents.queries; ++row) {
    const bool none = make.below(5) == 0;  // as in a row whose probabilities have all underflowed
    double sum = 0;
    for (std::int64_t i = row * limit; i < (row + 1) * limit; ++i) {
      const bool empty = none || element(selected, i) < 0 || make.below(7) == 0;
      set_element(target, i, empty ? 0.0 : element(target, i));
      sum += element(target, i);
    }
    for (std::int64_t i = row * limit; sum > 0 && i < (row + 1) * limit; ++i) {
      set_element(target, i, element(target, i) / sum);
    }
  }
  kernel.target = target;
  kernel.token_weights = make.uniform(statistics, {documents.queries}, 0.0, 1.0);
  kernel.sequences = make_shared_sequences(make, documents);
  kernel.loss = make.random(statistics, {1});
  kernel.dq = make.blank(dtype, {documents.queries, heads.heads, heads.width}, Layout::kGaps);
  kernel.dk = make.blank(dtype, {documents.entries, heads.width}, Layout::kGaps);
  kernel.dweights = make.blank(statistics, {documents.queries, heads.heads});
  kernel.coefficient = make.one_of({1.0f, 0.1f});
  kernel.ratio = documents.visibility.ratio;
  return {{"dq", 0.1}, {"dk", 1.0}, {"dweights", 1.0}, {"loss", 1.0}};
}

}  // namespace flyover::tests
