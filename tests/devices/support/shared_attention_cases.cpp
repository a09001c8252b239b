#include <algorithm>
#include <cmath>

#include "devices/reference/families.h"
#include "devices/support/kernel_cases.h"
#include "devices/support/shared_documents.h"

namespace flyover::tests {

using kernels::DType;
using kernels::SharedVisibility;
using kernels::View;

namespace {

struct Heads {
  std::int64_t heads;
  std::int64_t head_dim;
};

/// Cases of the largest heads in use, with few tokens.
bool is_large(const OperandMaker& make) {
  return make.number() % 20 == 13;
}

Heads make_heads(OperandMaker& make) {
  if (is_large(make)) {
    return {make.one_of<std::int64_t>({64, 127, 128}), 512};
  }
  const std::int64_t heads = make.number() == 1 ? 1 : make.one_of<std::int64_t>({1, 2, 3, 5, 8, 8, 13});
  return {heads, make.one_of<std::int64_t>({8, 16, 32, 64, make.size(80), 128})};
}

SharedVisibility make_visibility(OperandMaker& make, bool ring) {
  SharedVisibility visibility{make.one_of<std::int64_t>({1, 5, 16, 37, 64, 128, 200}),
                              make.one_of<std::int64_t>({0, 1, 4, 4, 7, 128}), 0};
  if (ring) {
    visibility.ring = (visibility.window + make.below(130)) / 64 * 64 + 64;
  }
  return visibility;
}

/// [key rows, head_dim]: numbers in the rows that queries see, NaN elsewhere.
View make_key_rows(OperandMaker& make, DType dtype, const SharedDocuments& documents, std::int64_t head_dim) {
  const View view = make.blank(dtype, {documents.keys, head_dim}, Layout::kGaps);
  const auto& [window, ratio, ring] = documents.visibility;
  for (const auto& document : documents.rows) {
    const std::int64_t keys = document[kernels::kSharedKeys], first = keys - document[kernels::kSharedQueries];
    for (std::int64_t key = std::max<std::int64_t>(0, first - window + 1); key < keys; ++key) {
      const std::int64_t row = document[kernels::kSharedFirstKey] + (ring > 0 ? key % ring : key);
      for (std::int64_t i = 0; i < head_dim; ++i) {
        set_element(view, row * head_dim + i, make.normal());
      }
    }
  }
  return view;
}

std::int64_t visible_tokens(const SharedDocuments& documents) {
  std::int64_t pairs = 0;
  for (const auto& document : documents.rows) {
    const std::int64_t first = document[kernels::kSharedKeys] - document[kernels::kSharedQueries];
    for (std::int64_t query = 0; query < document[kernels::kSharedQueries]; ++query) {
      pairs += std::min(first + query + 1, documents.visibility.window);
    }
  }
  return pairs;
}

std::int64_t chosen_entries(const View& selected) {
  std::int64_t pairs = 0;
  for (std::int64_t i = 0; i < selected.elements(); ++i) {
    pairs += element(selected, i) >= 0 ? 1 : 0;
  }
  return pairs;
}

/// What forward and backward have in common.
template <typename Kernel>
void fill_inputs(OperandMaker& make, DType dtype, const SharedDocuments& documents, const Heads& heads, double scale,
                 Kernel& kernel) {
  kernel.q = make_query_rows(make, dtype, documents, heads.heads, heads.head_dim);
  kernel.keys = make_key_rows(make, dtype, documents, heads.head_dim);
  kernel.visible_pairs = visible_tokens(documents);
  if (documents.visibility.ratio > 0) {
    kernel.entries = make_entry_rows(make, dtype, documents, heads.head_dim);
    if (make.coin()) {
      const View selected = make_lists(make, documents, make.one_of<std::int64_t>({0, 1, 3, 20, 64, 130}));
      kernel.selected = selected;
      kernel.visible_pairs += chosen_entries(selected);
    } else {
      kernel.visible_pairs += documents.visible_entry_pairs();
    }
  }
  if (make.coin()) {
    kernel.sink = make.random(kernels::statistics_dtype(dtype), {heads.heads}, Layout::kDense, 2.0);
  }
  kernel.sequences = make_shared_sequences(make, documents);
  kernel.scale = static_cast<float>(scale / std::sqrt(static_cast<double>(heads.head_dim)));
  kernel.visibility = documents.visibility;
}

}  // namespace

std::vector<Magnitude> make_case(OperandMaker& make, DType dtype, kernels::SharedAttentionForward& kernel) {
  const Heads heads = make_heads(make);
  const bool cached = make.coin();
  const SharedDocuments documents =
      make_shared_documents(make, make_visibility(make, cached && make.coin()), cached, is_large(make) ? 12 : 150);
  const double scale = make.one_of({1.0, 0.3, 3.0, -1.0});
  fill_inputs(make, dtype, documents, heads, scale, kernel);
  kernel.y = make.blank(dtype, {documents.queries, heads.heads, heads.head_dim}, Layout::kGaps);
  kernel.log_sum_exp = make.blank(kernels::statistics_dtype(dtype), {documents.queries, heads.heads});
  // The rounding of a score, a sum of head_dim products in one fp32 accumulator, is a relative error of its
  // probability; it grows with the score and with the root of head_dim. (Scale 3, heads of 512: among a million outputs
  // the worst is off by 1.6e-5 for this reason alone.)
  const double length = std::sqrt(std::max(1.0, static_cast<double>(heads.head_dim) / 128));
  return {{"y", 0.5 * length * std::max(1.0, scale)}, {"log_sum_exp", 2.0}};
}

std::vector<Magnitude> make_case(OperandMaker& make, DType dtype, kernels::SharedAttentionBackward& kernel) {
  const Heads heads = make_heads(make);
  const SharedDocuments documents =
      make_shared_documents(make, make_visibility(make, false), false, is_large(make) ? 12 : 150);
  const std::int64_t tokens = documents.queries;
  const DType statistics = kernels::statistics_dtype(dtype);
  fill_inputs(make, dtype, documents, heads, make.one_of({1.0, 0.3, -1.0}), kernel);
  const View y = make.blank(dtype, {tokens, heads.heads, heads.head_dim}, Layout::kGaps);
  const View log_sum_exp = make.blank(statistics, {tokens, heads.heads});
  kernel.y = y;
  kernel.log_sum_exp = log_sum_exp;
  kernel.dy = make_query_rows(make, dtype, documents, heads.heads, heads.head_dim);
  kernel.dq = make.blank(dtype, {tokens, heads.heads, heads.head_dim}, Layout::kGaps);
  kernel.dkeys = make.blank(dtype, {tokens, heads.head_dim}, Layout::kGaps);
  if (kernel.entries.has_value()) {
    kernel.dentries = make.blank(dtype, {documents.entries, heads.head_dim}, Layout::kGaps);
  }
  if (kernel.sink.has_value()) {
    kernel.dsink = make.random(statistics, {heads.heads});
  }
  // y and log_sum_exp are those of the forward pass: with others the gradients mean nothing.
  const kernels::SharedAttentionForward forward{
      kernel.q, kernel.keys, kernel.entries,    kernel.selected, kernel.sink,         kernel.sequences,
      y,        log_sum_exp, kernel.visibility, kernel.scale,    kernel.visible_pairs};
  static const devices::KernelTable reference = devices::reference::kernel_table();
  reference[kernels::kernel_id<kernels::SharedAttentionForward>](&forward, {});
  // In bf16 a device may round p and ds, many of which add up in an element: over all heads in that of a key.
  const double magnitude = dtype == DType::kBf16 ? 2.0 : 1.0;
  const double of_keys = magnitude * std::sqrt(static_cast<double>(heads.heads));
  return {{"dq", magnitude}, {"dkeys", of_keys}, {"dentries", of_keys}, {"dsink", 1.0}};
}

}  // namespace flyover::tests
