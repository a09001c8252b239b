#include <algorithm>
#include <cmath>
#include <limits>

#include "devices/reference/families.h"
#include "devices/support/kernel_cases.h"

namespace flyover::tests {

using kernels::DType;
using kernels::View;

namespace {

struct Heads {
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t head_dim;
  std::int64_t value_dim;
};

Heads make_heads(OperandMaker& make) {
  const std::int64_t kv_heads = make.number() == 1 ? 1 : 1 + make.below(3);
  const std::int64_t group = make.number() == 1 ? 1 : 1 + make.below(4);
  const std::int64_t head_dim = make.one_of<std::int64_t>({8, 16, 64, 64, make.size(80), 128});
  const std::int64_t value_dim = make.one_of<std::int64_t>({head_dim, head_dim, make.size(80), 128});
  return {kv_heads * group, kv_heads, head_dim, value_dim};
}

/// Rows of the `sequences` table, with the sizes of the tensors that they cut up.
struct Documents {
  std::vector<std::array<std::int64_t, kernels::kSequenceColumns>> rows;
  std::int64_t queries = 0;  ///< rows of q, those in no document included
  std::int64_t keys = 0;

  std::int64_t visible_pairs() const {
    std::int64_t pairs = 0;
    for (const auto& row : rows) {
      for (std::int64_t i = 0; i < row[kernels::kQueries]; ++i) {
        pairs += row[kernels::kKeys] - row[kernels::kQueries] + i + 1;
      }
    }
    return pairs;
  }
};

/// Documents one behind the other with rows in no document between some. `cached`: the keys lie elsewhere than the
/// queries, and there may be more of them, as in generation.
Documents make_documents(OperandMaker& make, bool cached) {
  Documents documents;
  const auto skip = [&] { return make.number() < 2 ? 0 : make.one_of<std::int64_t>({0, 0, 1, 3}); };
  documents.queries = skip();
  documents.keys = cached ? skip() : documents.queries;
  for (std::int64_t count = make.count(4); count > 0; --count) {
    const std::int64_t queries = make.size(make.coin() ? 5 : 150);
    const std::int64_t keys = queries + (cached ? make.one_of<std::int64_t>({0, 1, make.below(150)}) : 0);
    documents.rows.push_back({documents.queries, queries, documents.keys, keys});
    documents.queries += queries + skip();
    documents.keys = cached ? documents.keys + keys + skip() : documents.queries;
  }
  return documents;
}

View make_sequences(OperandMaker& make, const Documents& documents) {
  const View sequences =
      make.blank(DType::kI32, {static_cast<std::int64_t>(documents.rows.size()), kernels::kSequenceColumns});
  std::int64_t index = 0;
  for (const auto& row : documents.rows) {
    for (const std::int64_t value : row) {
      set_element(sequences, index++, static_cast<double>(value));
    }
  }
  return sequences;
}

/// [tokens, heads, head_dim], NaN in the rows of no document: those must never be used.
View make_tokens(OperandMaker& make, DType dtype, std::int64_t tokens, std::int64_t heads, std::int64_t head_dim,
                 const Documents& documents, kernels::SequenceColumn first, kernels::SequenceColumn count) {
  const View view = make.blank(dtype, {tokens, heads, head_dim}, Layout::kGaps);
  for (const auto& row : documents.rows) {
    const View rows = kernels::slice_rows(view, row[first], row[count]);
    for (std::int64_t i = 0; i < rows.elements(); ++i) {
      set_element(rows, i, make.normal());
    }
  }
  return view;
}

}  // namespace

std::vector<Magnitude> make_case(OperandMaker& make, DType dtype, kernels::AttentionForward& kernel) {
  const Heads heads = make_heads(make);
  const Documents documents = make_documents(make, make.coin());
  const DType statistics = kernels::statistics_dtype(dtype);
  const auto keys = [&](std::int64_t head_dim) {
    return make_tokens(make, dtype, documents.keys, heads.kv_heads, head_dim, documents, kernels::kFirstKey,
                       kernels::kKeys);
  };
  kernel.q = make_tokens(make, dtype, documents.queries, heads.heads, heads.head_dim, documents, kernels::kFirstQuery,
                         kernels::kQueries);
  kernel.k = keys(heads.head_dim);
  kernel.v = keys(heads.value_dim);
  kernel.sequences = make_sequences(make, documents);
  kernel.y = make.blank(dtype, {documents.queries, heads.heads, heads.value_dim}, Layout::kGaps);
  kernel.log_sum_exp = make.blank(statistics, {documents.queries, heads.heads});
  kernel.scale = static_cast<float>(make.one_of({1.0, 0.3, 3.0}) / std::sqrt(static_cast<double>(heads.head_dim)));
  kernel.visible_pairs = documents.visible_pairs();
  return {{"y", 0.5}, {"log_sum_exp", 2.0}};
}

std::vector<Magnitude> make_case(OperandMaker& make, DType dtype, kernels::AttentionBackward& kernel) {
  const Heads heads = make_heads(make);
  const Documents documents = make_documents(make, false);
  const std::int64_t tokens = documents.queries;
  const auto tensor = [&](std::int64_t count, std::int64_t head_dim) {
    return make_tokens(make, dtype, tokens, count, head_dim, documents, kernels::kFirstQuery, kernels::kQueries);
  };
  const View y = make.blank(dtype, {tokens, heads.heads, heads.value_dim}, Layout::kGaps);
  const View log_sum_exp = make.blank(kernels::statistics_dtype(dtype), {tokens, heads.heads});
  kernel.q = tensor(heads.heads, heads.head_dim);
  kernel.k = tensor(heads.kv_heads, heads.head_dim);
  kernel.v = tensor(heads.kv_heads, heads.value_dim);
  kernel.y = y;
  kernel.log_sum_exp = log_sum_exp;
  kernel.dy = tensor(heads.heads, heads.value_dim);
  kernel.sequences = make_sequences(make, documents);
  kernel.dq = make.blank(dtype, {tokens, heads.heads, heads.head_dim}, Layout::kGaps);
  kernel.dk = make.blank(dtype, {tokens, heads.kv_heads, heads.head_dim}, Layout::kGaps);
  kernel.dv = make.blank(dtype, {tokens, heads.kv_heads, heads.value_dim}, Layout::kGaps);
  kernel.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(heads.head_dim)));
  kernel.visible_pairs = documents.visible_pairs();
  // y and log_sum_exp are those of the forward pass: with others the gradients mean nothing.
  const kernels::AttentionForward forward{kernel.q, kernel.k,    kernel.v,     kernel.sequences,
                                          y,        log_sum_exp, kernel.scale, kernel.visible_pairs};
  static const devices::KernelTable reference = devices::reference::kernel_table();
  reference[kernels::kernel_id<kernels::AttentionForward>](&forward, {});
  // In bf16 a device may round p and ds, many of which add up in an element.
  const double magnitude = dtype == DType::kBf16 ? 2.0 : 1.0;
  // The terms of dq and dk are scale * dy . v.
  const double ratio = static_cast<double>(heads.value_dim) / static_cast<double>(heads.head_dim);
  const double of_scores = magnitude * std::max(1.0, std::sqrt(ratio));
  return {{"dq", of_scores}, {"dk", of_scores}, {"dv", magnitude}};
}

}  // namespace flyover::tests
