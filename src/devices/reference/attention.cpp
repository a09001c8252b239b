#include <algorithm>

#include "devices/reference/element.h"
#include "devices/reference/families.h"

namespace flyover::devices::reference {
namespace {

struct Document {
  std::int64_t first_query;
  std::int64_t queries;
  std::int64_t first_key;
  std::int64_t keys;

  /// Query i of the document sees keys 0 .. visible_keys(i) - 1 of it.
  std::int64_t visible_keys(std::int64_t query) const { return keys - queries + query + 1; }
};

/// Row `index` of the `sequences` table. Throws InternalError if it does not lie within the tensors.
template <typename Kernel>
Document document_at(const Kernel& kernel, std::int64_t index) {
  const auto row = integers(kernel.sequences)
                       .subspan(static_cast<std::size_t>(index * kernels::kSequenceColumns), kernels::kSequenceColumns);
  const Document document{row[kernels::kFirstQuery], row[kernels::kQueries], row[kernels::kFirstKey],
                          row[kernels::kKeys]};
  base::check(document.first_query >= 0 && document.queries >= 0 && document.first_key >= 0 &&
                  document.queries <= document.keys && document.first_query + document.queries <= kernel.q.size(0) &&
                  document.first_key + document.keys <= kernel.k.size(0),
              "{}: document {} has queries {}+{} of {} and keys {}+{} of {}", Kernel::kName, index,
              document.first_query, document.queries, kernel.q.size(0), document.first_key, document.keys,
              kernel.k.size(0));
  return document;
}

/// scale * q[t, h] . k[j, g] for the visible keys j of the document's query.
template <typename Kernel>
std::vector<double> scores_of(const Kernel& kernel, const Document& document, std::int64_t query, std::int64_t head,
                              std::int64_t kv_head) {
  const Input q(kernel.q), k(kernel.k);
  std::vector<double> scores;
  for (std::int64_t key = 0; key < document.visible_keys(query); ++key) {
    double product = 0;
    for (std::int64_t d = 0; d < kernel.q.size(2); ++d) {
      product += q(document.first_query + query, head, d) * k(document.first_key + key, kv_head, d);
    }
    scores.push_back(static_cast<double>(kernel.scale) * product);
  }
  return scores;
}

double log_sum_exp_of(const std::vector<double>& scores) {
  double maximum = -std::numeric_limits<double>::infinity();
  for (const double score : scores) {
    maximum = std::max(maximum, score);
  }
  double sum = 0;
  for (const double score : scores) {
    sum += std::exp(score - maximum);
  }
  return maximum + std::log(sum);
}

void attention_forward(const kernels::AttentionForward& kernel, const LaunchContext&) {
  const Input v(kernel.v);
  const Output y(kernel.y), log_sum_exp(kernel.log_sum_exp);
  const std::int64_t heads = kernel.q.size(1), kv_heads = kernel.k.size(1), value_dim = kernel.v.size(2);
  for (std::int64_t index = 0; index < kernel.sequences.size(0); ++index) {
    const Document document = document_at(kernel, index);
    for (std::int64_t query = 0; query < document.queries; ++query) {
      for (std::int64_t head = 0; head < heads; ++head) {
        const std::int64_t kv_head = head / (heads / kv_heads);
        const std::vector<double> scores = scores_of(kernel, document, query, head, kv_head);
        const double normaliser = log_sum_exp_of(scores);
        std::vector<double> sum(static_cast<std::size_t>(value_dim));
        for (std::int64_t key = 0; key < document.visible_keys(query); ++key) {
          const double probability = std::exp(scores[static_cast<std::size_t>(key)] - normaliser);
          for (std::int64_t d = 0; d < value_dim; ++d) {
            sum[static_cast<std::size_t>(d)] += probability * v(document.first_key + key, kv_head, d);
          }
        }
        const std::int64_t row = document.first_query + query;
        for (std::int64_t d = 0; d < value_dim; ++d) {
          y(row, head, d) = sum[static_cast<std::size_t>(d)];
        }
        log_sum_exp(row, head) = normaliser;
      }
    }
  }
}

/// One document and one key-value head, with the query heads of its group in order.
void backward_of_document(const kernels::AttentionBackward& kernel, const Document& document, std::int64_t kv_head) {
  const Input q(kernel.q), k(kernel.k), v(kernel.v), y(kernel.y), log_sum_exp(kernel.log_sum_exp), dy(kernel.dy);
  const Output dq(kernel.dq), dk(kernel.dk), dv(kernel.dv);
  const std::int64_t group = kernel.q.size(1) / kernel.k.size(1), head_dim = kernel.q.size(2);
  const std::int64_t value_dim = kernel.v.size(2);
  const auto at = [&](std::int64_t key, std::int64_t d) { return static_cast<std::size_t>(key * head_dim + d); };
  const auto value_at = [&](std::int64_t key, std::int64_t d) { return static_cast<std::size_t>(key * value_dim + d); };
  std::vector<double> dk_sum(at(document.keys, 0)), dv_sum(value_at(document.keys, 0));
  for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (std::int64_t query = 0; query < document.queries; ++query) {
      const std::int64_t row = document.first_query + query;
      const std::vector<double> scores = scores_of(kernel, document, query, head, kv_head);
      double delta = 0;
      for (std::int64_t d = 0; d < value_dim; ++d) {
        delta += dy(row, head, d) * y(row, head, d);
      }
      std::vector<double> dq_sum(static_cast<std::size_t>(head_dim));
      for (std::int64_t key = 0; key < document.visible_keys(query); ++key) {
        const std::int64_t key_row = document.first_key + key;
        const double p = std::exp(scores[static_cast<std::size_t>(key)] - log_sum_exp(row, head));
        double dp = 0;
        for (std::int64_t d = 0; d < value_dim; ++d) {
          dp += dy(row, head, d) * v(key_row, kv_head, d);
        }
        const double ds = p * (dp - delta);
        for (std::int64_t d = 0; d < head_dim; ++d) {
          dq_sum[static_cast<std::size_t>(d)] += static_cast<double>(kernel.scale) * ds * k(key_row, kv_head, d);
          dk_sum[at(key, d)] += static_cast<double>(kernel.scale) * ds * q(row, head, d);
        }
        for (std::int64_t d = 0; d < value_dim; ++d) {
          dv_sum[value_at(key, d)] += p * dy(row, head, d);
        }
      }
      for (std::int64_t d = 0; d < head_dim; ++d) {
        dq(row, head, d) = dq_sum[static_cast<std::size_t>(d)];
      }
    }
  }
  for (std::int64_t key = 0; key < document.keys; ++key) {
    for (std::int64_t d = 0; d < head_dim; ++d) {
      dk(document.first_key + key, kv_head, d) = dk_sum[at(key, d)];
    }
    for (std::int64_t d = 0; d < value_dim; ++d) {
      dv(document.first_key + key, kv_head, d) = dv_sum[value_at(key, d)];
    }
  }
}

void attention_backward(const kernels::AttentionBackward& kernel, const LaunchContext&) {
  for (std::int64_t index = 0; index < kernel.sequences.size(0); ++index) {
    const Document document = document_at(kernel, index);
    base::check(document.first_query == document.first_key && document.queries == document.keys,
                "{}: queries and keys of document {} are not the same tokens", kernel.kName, index);
    for (std::int64_t kv_head = 0; kv_head < kernel.k.size(1); ++kv_head) {
      backward_of_document(kernel, document, kv_head);
    }
  }
}

}  // namespace

void add_attention_kernels(KernelTable& table) {
  table.set<kernels::AttentionForward>(attention_forward);
  table.set<kernels::AttentionBackward>(attention_backward);
}

}  // namespace flyover::devices::reference
